"""The ZenML stack: registered without a question, as often as one likes, and told when it is not as the settings say."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stacks import Servers, folder_with

from user_folder import Folder


@pytest.fixture
def folder(servers: Servers, tmp_path: Path) -> Folder:
    return folder_with(
        tmp_path / "user", servers.environment(servers.postgresql, servers.mlflow, f"s{abs(hash(tmp_path)) % 10**8}")
    )


def _failed(folder: Folder) -> list[dict[str, str]]:
    done = folder.run("stack", "check", "--json")
    import json

    return [finding for finding in json.loads(done.stdout)["findings"] if finding["status"] == "failed"]


def test_registered_twice_it_is_unchanged(folder: Folder) -> None:
    first, again = folder.json("stack", "register"), folder.json("stack", "register")
    assert {part["did"] for part in first["parts"]} == {"made"}
    assert {part["did"] for part in again["parts"]} == {"unchanged"}
    assert first["id"] == again["id"]
    assert folder.json("stack", "show") == again


def test_before_it_is_registered_the_check_says_what_to_do(folder: Folder) -> None:
    (finding,) = _failed(folder)
    assert finding["remedy"] == "Run: openmlops stack register"


def test_a_changed_setting_is_found_and_registering_again_mends_it(folder: Folder) -> None:
    folder.json("stack", "register")
    folder.environment["MINIO_BUCKET"] = f"{folder.path.parent.name.replace('_', '-')[:50]}-new"
    found = _failed(folder)
    assert [finding["service"] for finding in found] == ["artifact store"]
    did = {part["kind"]: part["did"] for part in folder.json("stack", "register")["parts"]}
    assert did == {"orchestrator": "unchanged", "artifact_store": "changed", "experiment_tracker": "unchanged"}
    assert _failed(folder) == []


def test_a_wrong_key_is_found_by_trying_it_and_a_rotated_one_is_taken_over(folder: Folder) -> None:
    folder.json("stack", "register")
    right = (folder.path / ".env").read_text()
    folder.environment["MINIO_SECRET_KEY"] = "wrong"
    refused = folder.run("stack", "register")
    assert refused.returncode == 1
    assert "Correct MINIO_ACCESS_KEY and MINIO_SECRET_KEY" in refused.stderr
    assert [finding["service"] for finding in _failed(folder)] == ["artifacts"]
    del folder.environment["MINIO_SECRET_KEY"]
    assert right == (folder.path / ".env").read_text()
    folder.json("stack", "register")
    assert _failed(folder) == []


def test_four_at_once_make_one_stack(folder: Folder) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = {found["id"] for found in pool.map(lambda _: folder.json("stack", "register"), range(4))}
    assert len(ids) == 1


def test_no_secret_stands_in_what_is_shown(servers: Servers, folder: Folder) -> None:
    shown = (
        folder.run("stack", "register").stdout
        + folder.run("stack", "show", "--json").stdout
        + folder.run("stack", "check").stdout
    )
    for secret in (servers.objects.secret, servers.objects.key, servers.mlflow.password, servers.zenml.password):
        assert secret not in shown


def test_without_servers_it_is_files(tmp_path: Path) -> None:
    found = folder_with(tmp_path / "alone", {})
    kinds = {part["kind"]: part["flavor"] for part in found.json("stack", "register")["parts"]}
    assert kinds == {"orchestrator": "local", "artifact_store": "local", "experiment_tracker": "mlflow"}
    assert _failed(found) == []
