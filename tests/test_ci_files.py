"""Both CI files, read offline: valid, the same jobs with the same commands, all pinned, secrets for one job alone."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import make_targets, unknown

ROOT = Path(__file__).parent.parent
CI = ROOT / ".ci"
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
GITLAB = ROOT / ".gitlab-ci.yml"
BIN = Path(sys.executable).parent
SECRETS = ("ZENML_STORE_URL", "ZENML_STORE_API_KEY")

ON_GITHUB: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
TRIGGERS = ON_GITHUB[True]
"""`on`, which YAML 1.1 reads as true"""


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {name: _merged(below.get(name), value) for name, value in above.items()}
    return above


def _gitlab() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The whole file, and its jobs with what they extend and the defaults put in."""
    file = yaml.safe_load(GITLAB.read_text())
    jobs = {}
    for name, job in file.items():
        if isinstance(job, dict) and "script" in job:
            extended = job.get("extends", [])
            whole: dict[str, Any] = file["default"]
            for template in [extended] if isinstance(extended, str) else extended:
                whole = _merged(whole, file[template])
            jobs[name] = _merged(whole, job)
    return file, jobs


ON_GITLAB, GITLAB_JOBS = _gitlab()
GITHUB_JOBS: dict[str, dict[str, Any]] = ON_GITHUB["jobs"]


def _lines(name: str) -> tuple[list[str], list[str]]:
    """What the job `name` runs, on GitHub and on GitLab."""
    github = [line for step in GITHUB_JOBS[name]["steps"] for line in step.get("run", "").splitlines()]
    return github, [*GITLAB_JOBS[name]["before_script"], *GITLAB_JOBS[name]["script"]]


def _work(lines: list[str]) -> list[str]:
    return [line.strip() for line in lines if re.match(r"(make|\.ci/) ?", line.strip()) and ".ci/logs" not in line]


def _packages(lines: list[str]) -> set[str]:
    found = re.search(r"(?:--no-install-recommends|\$APT) (.+)", "\n".join(lines))
    return set(found[1].split()) if found else set()


def _openmlops_commands() -> list[list[str]]:
    """Each `openmlops ...` in the scripts and in both files, as words."""
    text = "\n".join(path.read_text() for path in (*sorted(CI.iterdir()), WORKFLOW, GITLAB))
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [shlex.split(found) for found in re.findall(r"(?:^|&&|\")\s*openmlops ([a-z][^&>;\n\"]*)", code, re.MULTILINE)]


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        (WORKFLOW, ["vendor.github-workflows"]),
        (WORKFLOW, ["custom.github-workflows-require-timeout"]),
        (GITLAB, ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
    ],
    ids=["workflow", "timeouts", "gitlab"],
)
def test_the_file_is_valid_by_a_schema_that_is_part_of_the_package(file: Path, schema: list[str]) -> None:
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    command = [BIN / "check-jsonschema", "--builtin-schema", *schema, file]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | nowhere)
    assert done.returncode == 0, done.stdout


def test_both_files_have_the_same_jobs() -> None:
    assert list(GITHUB_JOBS) == list(GITLAB_JOBS) == ["lint", "test", "test-servers", "images", "smoke", "smoke-zenml"]


@pytest.mark.parametrize("name", GITHUB_JOBS)
def test_a_job_does_the_same_in_the_same_image_with_the_same_patience_in_both(name: str) -> None:
    github, gitlab = _lines(name)
    assert _work(github) == _work(gitlab) != []
    assert _packages(github) == _packages(gitlab)
    assert f"{GITHUB_JOBS[name]['timeout-minutes']} minutes" == GITLAB_JOBS[name]["timeout"]
    needs = GITHUB_JOBS[name].get("needs")
    assert GITLAB_JOBS[name].get("needs") == ([needs] if needs else None)
    if name != "images":
        image = GITLAB_JOBS[name]["image"].replace("${PYTHON_VERSION}", "${{ matrix.python }}")
        assert GITHUB_JOBS[name]["container"] == image


def test_the_images_have_the_python_of_our_images_and_tests_run_on_every_python_that_we_allow() -> None:
    bases = set(re.findall(r"^FROM (python:\S+)", (ROOT / "deploy/docker/Dockerfile").read_text(), re.MULTILINE))
    fixed = {job["container"] for name, job in GITHUB_JOBS.items() if name not in ("test", "images")}
    assert fixed == bases
    versions = GITHUB_JOBS["test"]["strategy"]["matrix"]["python"]
    assert GITLAB_JOBS["test"]["parallel"]["matrix"] == [{"PYTHON_VERSION": versions}]
    assert GITHUB_JOBS["test"]["container"] == "python:${{ matrix.python }}-slim"
    assert 'requires-python = ">=3.11,<3.13"' in (ROOT / "pyproject.toml").read_text()
    assert versions == ["3.11", "3.12"]


def test_every_action_and_image_is_pinned() -> None:
    actions = re.findall(r"uses: (.+)", WORKFLOW.read_text())
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)] == []
    engine = GITLAB_JOBS["images"]
    assert re.fullmatch(r"docker:\d+\.\d+\.\d+", engine["image"])
    assert engine["services"] == [{"name": f"{engine['image']}-dind", "alias": "docker"}]


def test_the_engine_is_spoken_to_through_tls() -> None:
    variables = GITLAB_JOBS["images"]["variables"]
    assert (variables["DOCKER_HOST"], variables["DOCKER_TLS_VERIFY"]) == ("tcp://docker:2376", "1")
    assert variables["DOCKER_CERT_PATH"] == f"{variables['DOCKER_TLS_CERTDIR']}/client"


def test_permissions_are_to_read_and_a_newer_run_ends_the_older_one() -> None:
    assert ON_GITHUB["permissions"] == {"contents": "read"}
    assert [name for name, job in GITHUB_JOBS.items() if "permissions" in job] == []
    assert ON_GITHUB["concurrency"]["cancel-in-progress"] is True
    assert all(job["interruptible"] for job in GITLAB_JOBS.values())
    checkouts = [step for job in GITHUB_JOBS.values() for step in job["steps"] if "checkout" in step.get("uses", "")]
    assert [step["with"] for step in checkouts] == [{"persist-credentials": False}] * len(GITHUB_JOBS)


def test_only_the_smoke_on_a_zenml_server_sees_secrets_and_never_of_a_pull_request() -> None:
    assert set(TRIGGERS) == {"push", "pull_request", "workflow_dispatch"}
    told = {name for name, job in GITHUB_JOBS.items() if "secrets." in str(job)}
    assert told == {"smoke-zenml"}
    assert GITHUB_JOBS["smoke-zenml"]["if"] == "github.event_name != 'pull_request'"
    assert "env" not in GITHUB_JOBS["smoke-zenml"], "actions of others would see it"
    assert {name for step in GITHUB_JOBS["smoke-zenml"]["steps"] for name in step.get("env", {})} == set(SECRETS)
    (rule,) = GITLAB_JOBS["smoke-zenml"]["rules"]
    assert rule == {"if": " && ".join(["$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH", *(f"${name}" for name in SECRETS)])}
    forgotten = {name for name, job in GITLAB_JOBS.items() if job["before_script"] == [f"unset {' '.join(SECRETS)}"]}
    assert forgotten == set(GITLAB_JOBS) - {"smoke-zenml"}


def test_nothing_prints_a_secret_or_runs_with_a_trace() -> None:
    text = "\n".join(path.read_text() for path in (*CI.iterdir(), WORKFLOW, GITLAB))
    printing = re.findall(rf"^.*\b(?:echo|printf|cat)\b.*\$\{{?(?:{'|'.join(SECRETS)}).*$", text, re.MULTILINE)
    assert printing == []
    assert re.findall(r"set -\w*x|\bprintenv\b|xtrace", text) == []


def test_what_explains_a_failure_is_kept_where_programs_of_ours_run() -> None:
    for name in ("test", "test-servers", "smoke", "smoke-zenml"):
        *_, gather, upload = GITHUB_JOBS[name]["steps"]
        assert (gather["if"], gather["run"]) == ("failure()", ".ci/logs")
        assert (upload["if"], upload["with"]["path"]) == ("failure()", "logs")
        job = GITLAB_JOBS[name]
        assert (job["after_script"], job["artifacts"]["when"], job["artifacts"]["paths"]) == (
            [".ci/logs"],
            "on_failure",
            ["logs"],
        )


def test_every_make_target_exists() -> None:
    named = {line.split()[1] for name in GITHUB_JOBS for line in _work(_lines(name)[0]) if line.startswith("make ")}
    assert {"check", "test", "test-servers", "smoke"} <= named
    assert named - make_targets() == set()


@pytest.mark.parametrize("words", _openmlops_commands(), ids=" ".join)
def test_every_command_exists_with_its_options(words: list[str]) -> None:
    assert unknown(words) == []


def test_the_commands_are_found_and_one_that_does_not_exist_is_told() -> None:
    assert len(_openmlops_commands()) == 6
    assert unknown(["stack", "forget"]) == ["forget"]
    assert unknown(["train", "--epoch", "1"]) == ["--epoch"]


def test_every_script_that_ci_calls_can_be_run() -> None:
    called = {line.split()[0] for name in GITHUB_JOBS for line in _work(_lines(name)[0]) if line.startswith(".ci/")}
    assert {CI.name + "/" + path.name for path in CI.iterdir() if os.access(path, os.X_OK)} >= called | {
        ".ci/logs",
        ".ci/smoke",
    }


@pytest.mark.slow  # the everyday tests run the same commands in the tutorial, those on servers the smoke on a ZenML server
def test_the_smoke_runs_from_nothing_whatever_server_the_environment_names(tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "ZENML_STORE_URL": "http://127.0.0.1:1",
    }
    environment.pop("ZENML_CONFIG_PATH", None)
    done = subprocess.run([CI / "smoke", tmp_path / "smoke"], env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for said in ("4200", "There is no champion yet", "promote", "no drift"):
        assert said in done.stdout
    assert (tmp_path / "smoke" / "monitoring" / "monitoring.json").is_file()


def test_the_smoke_on_a_server_is_refused_without_a_key(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "ZENML_STORE_URL": "http://127.0.0.1:1"}
    done = subprocess.run([CI / "smoke", tmp_path / "smoke", "zenml"], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "ZENML_STORE_API_KEY" in done.stderr


def test_logs_and_crash_files_are_gathered_and_nothing_of_a_home(tmp_path: Path) -> None:
    clone, temporary = tmp_path / "clone", tmp_path / "tmp"
    (clone / ".ci").mkdir(parents=True)
    (clone / ".ci" / "logs").symlink_to(CI / "logs")
    for name in (
        "openmlops-crash-1.txt",
        "pytest-of-root/pytest-0/servers/log",
        "pytest-of-root/pytest-0/.openmlops/config.yaml",
    ):
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).write_text(name)
    subprocess.run([clone / ".ci" / "logs"], env=os.environ | {"TMPDIR": str(temporary)}, check=True)
    assert {path.name for path in (clone / "logs").rglob("*") if path.is_file()} == {"openmlops-crash-1.txt", "log"}
