"""A machine's user: the key of a ZenML service account is enough, without name and password. This is what CI runs with."""

import os
import subprocess
from pathlib import Path

import pytest
import requests
from stacks import Servers, folder_with

from user_folder import PROGRAM, Folder

SMOKE = Path(__file__).parents[2] / ".ci" / "smoke"


@pytest.fixture(scope="module")
def key(servers: Servers) -> str:
    """The key of a new service account, made as the administrator."""
    api = f"{servers.zenml.url}/api/v1"
    who = {"username": servers.zenml.user, "password": servers.zenml.password}
    token = requests.post(f"{api}/login", data=who, timeout=30).json()["access_token"]
    administrator = {"Authorization": f"Bearer {token}"}
    machine = {"name": "ci", "active": True}
    account = requests.post(f"{api}/service_accounts", json=machine, headers=administrator, timeout=30).json()["id"]
    keys = f"{api}/service_accounts/{account}/api_keys"
    return requests.post(keys, json={"name": "ci"}, headers=administrator, timeout=30).json()["body"]["key"]


@pytest.fixture
def folder(servers: Servers, key: str, tmp_path: Path) -> Folder:
    """A user of all servers, whose `.env` has the key and no name or password for ZenML."""
    environment = servers.environment(servers.postgresql, servers.mlflow, f"k{abs(hash(tmp_path)) % 10**8}")
    of_a_person = {"ZENML_STORE_USERNAME", "ZENML_STORE_PASSWORD"}
    kept = {name: value for name, value in environment.items() if name not in of_a_person}
    return folder_with(tmp_path / "user", kept | {"ZENML_STORE_API_KEY": key})


def test_with_the_key_alone_the_doctor_is_content_and_the_stack_is_registered_and_works(folder: Folder, key: str) -> None:
    zenml = {finding["service"]: finding for finding in folder.json("doctor")["findings"]}["zenml"]
    assert (zenml["status"], "credentials accepted" in zenml["says"]) == ("ok", True)
    assert {part["did"] for part in folder.json("stack", "register")["parts"]} == {"made"}
    assert {finding["status"] for finding in folder.json("stack", "check")["findings"]} == {"ok"}
    assert key not in folder.run("settings").stdout


def test_the_smoke_of_ci_trains_and_monitors_on_the_server_with_the_key_alone(
    servers: Servers, key: str, tmp_path: Path
) -> None:
    environment = {
        **Folder(tmp_path / "user").environment,
        "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
        "ZENML_STORE_URL": servers.zenml.url,
        "ZENML_STORE_API_KEY": key,
    }
    done = subprocess.run([SMOKE, tmp_path / "smoke", "zenml"], env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    assert f"{servers.zenml.url}, version" in done.stdout
    assert key not in done.stdout + done.stderr
    assert _pipelines(servers.zenml.url, key) >= {"training_pipeline", "monitoring_pipeline"}


def _pipelines(url: str, key: str) -> set[str]:
    """Names of the pipelines that the service account's runs are of."""
    token = requests.post(f"{url}/api/v1/login", data={"password": key}, timeout=30).json()["access_token"]
    authorized = {"Authorization": f"Bearer {token}"}
    mine = requests.get(f"{url}/api/v1/current-user", headers=authorized, timeout=30).json()["id"]
    runs = requests.get(f"{url}/api/v1/runs", params={"user": mine, "hydrate": True}, headers=authorized, timeout=30).json()
    return {run["resources"]["pipeline"]["name"] for run in runs["items"] if run["body"]["status"] == "completed"}
