"""What deploy/ promises, read from its files: no engine is needed, so this runs with every other test."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from openmlops.operations.projects.env_file import COMPOSE
from openmlops.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
FILE = yaml.safe_load((ROOT / "deploy" / "compose.yml").read_text())
SERVICES: dict[str, dict] = FILE["services"]
JOBS = {name for name, service in SERVICES.items() if service["restart"] == "no"}
"""services that end; others wait for them"""
OURS = {name for name, service in SERVICES.items() if "build" in service}

each_service = pytest.mark.parametrize("name", SERVICES)


def made_secrets() -> set[str]:
    return {v.name for section in COMPOSE for v in section.variables if not v.value}


def pins(lock: Path) -> dict[str, str]:
    return dict(line.split("==") for line in lock.read_text().split())


@each_service
def test_a_service_is_published_on_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))
    assert "network_mode" not in SERVICES[name]


def test_the_ports_are_those_that_the_documents_name() -> None:
    defaults = {
        int(re.sub(r".*:-(\d+)\}.*", r"\1", port)) for service in SERVICES.values() for port in service.get("ports", ())
    }
    assert defaults == {5000, 8237, 5432, 3306, 9000, 9001, 8000, 5001, 8238, 8001}


@each_service
def test_a_service_has_limits_bounded_logs_and_no_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert limits["memory"]
    assert limits["pids"]
    assert service["logging"]["options"]["max-size"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(set(SERVICES) - JOBS))
def test_a_service_says_whether_it_is_well_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_every_start_waits_for_health_and_somebody_waits_for_every_job() -> None:
    waits = [
        (name, needed["condition"]) for service in SERVICES.values() for name, needed in service.get("depends_on", {}).items()
    ]
    assert {condition for _, condition in waits} == {"service_healthy", "service_completed_successfully"}
    assert {name for name, condition in waits if condition == "service_completed_successfully"} == JOBS


@each_service
def test_an_image_is_named_by_its_version(name: str) -> None:
    image = re.sub(r"\$\{\w+:-(.+?)\}", r"\1", SERVICES[name]["image"])
    assert re.search(r":\d[\w.]*$", image), image


def test_the_images_have_the_version_of_the_package() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert all(f":${{OPENMLOPS_VERSION:-{version[1]}}}" in SERVICES[name]["image"] for name in OURS)


def test_state_is_in_named_volumes_and_only_read_only_files_come_from_here() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", ())]
    assert {source for source, *_ in mounts if not source.startswith(".")} == set(FILE["volumes"])
    assert all(rest[-1] == "ro" for source, *rest in mounts if source.startswith("."))


def test_every_secret_comes_from_env_and_none_has_a_default() -> None:
    text = (ROOT / "deploy" / "compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+):\?run openmlops init --stack compose\}", text))
    assert used >= made_secrets()
    for name in made_secrets():
        assert set(re.findall(rf"\$\{{{name}([^}}]*)\}}", text)) == {":?run openmlops init --stack compose"}
    literals = [
        line for line in text.splitlines() if re.search(r"^\s*\w*(PASSWORD|SECRET|SECRET_KEY|TOKEN|ACCESS_KEY): *[^$\s]", line)
    ]
    assert literals == []


def test_a_user_can_set_everything_in_env_that_is_not_a_place_of_the_stack_itself() -> None:
    of_one_command = {"SIMULATE_DRIFT"}
    of_the_image = {"DATA_RAW_DIR", "ARTIFACTS_DIR", "MONITORING_DIR"}
    of_the_outside = {"ZENML_STACK_NAME", "ZENML_STORE_API_KEY"}
    of_servers_elsewhere = {"INPUTS_STORE"}  # the image of the stack's server has neither the client nor the keys of the store
    settings = {name.upper() for name in Settings.model_fields}
    assert (
        settings - set(SERVICES["app"]["environment"]) <= of_one_command | of_the_image | of_the_outside | of_servers_elsewhere
    )


def test_both_stacks_are_told_the_same() -> None:
    assert SERVICES["person"]["environment"].keys() == SERVICES["app"]["environment"].keys()
    assert SERVICES["serve-person"]["environment"].keys() == SERVICES["serve"]["environment"].keys()
    assert "mysql" in SERVICES["person"]["environment"]["DATABASE_URL"]


@pytest.mark.parametrize("image", ["serve", "train", "mlflow"])
def test_an_image_has_the_versions_that_the_tests_ran_with(image: str) -> None:
    ours, tested = pins(DOCKER / f"{image}.lock"), pins(ROOT / "requirements.lock") | pins(ROOT / "requirements-dev.lock")
    tested["opencv-python-headless"] = tested["opencv-python"]
    assert {name: version for name, version in ours.items() if tested.get(name) != version} == {}


def test_the_client_and_the_server_of_zenml_and_mlflow_have_one_version() -> None:
    assert pins(DOCKER / "zenml-server.lock")["zenml"] == pins(DOCKER / "train.lock")["zenml"]
    assert pins(DOCKER / "mlflow.lock")["mlflow"] == pins(DOCKER / "serve.lock")["mlflow-skinny"]


def test_the_image_that_serves_carries_nothing_of_training() -> None:
    assert {"torch", "zenml", "dvc", "pandas", "scipy", "mlflow", "ultralytics"} & pins(DOCKER / "serve.lock").keys() == set()


def test_no_lock_names_a_place_to_install_from() -> None:
    assert [lock.name for lock in DOCKER.glob("*.lock") if re.search(r"://|^-", lock.read_text(), re.MULTILINE)] == []


def test_hadolint_finds_nothing_in_the_dockerfiles() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}") or shutil.which("hadolint")
    if not hadolint:
        pytest.skip("hadolint is not installed: make setup")
    files = [DOCKER / "Dockerfile", ROOT / "tests" / "compose" / "object-store" / "Dockerfile"]
    done = subprocess.run([hadolint, "--no-color", *files], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0
