"""A service that is away is waited for, a mistake is not; what it did before it went away is found, not done again."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from openmlops.errors import DataError, ServiceRefused, ServiceUnavailable
from openmlops.operations import retries
from openmlops.operations.retries import require_services, retry
from openmlops.operations.workspace import Workspace
from small_loop import workspace as small_workspace

AWAY = ServiceUnavailable("The store on [host] did not answer", "Start it")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.01)
    return small_workspace(tmp_path)


class Service:
    """Fails `times` times with an error, then answers."""

    def __init__(self, times: int, error: Exception = AWAY) -> None:
        self.left, self.error, self.asked = times, error, 0

    def ask(self, workspace: Workspace, question: str) -> str:
        self.asked += 1
        if self.left:
            self.left -= 1
            raise self.error
        return f"{question}!"


def test_what_failed_for_want_of_a_service_is_done_when_it_is_back(workspace: Workspace, capsys: pytest.CaptureFixture) -> None:
    service = Service(3)
    assert retry(service.ask, workspace, "there") == "there!"
    assert service.asked == 4
    assert capsys.readouterr().err.splitlines() == [
        "The store on [host] did not answer. Waiting up to 600 s for it.",
        "The service is available again; resuming.",
    ]


def test_patience_ends_with_the_error_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept, service = [0.0], [], Service(1000)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(retries, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    with pytest.raises(ServiceUnavailable, match="did not answer"):
        retry(service.ask, small_workspace(tmp_path, service_patience_seconds="100"), "there")
    assert slept == [1, 2, 4, 8, 16, 30, 30, 9]
    assert service.asked == 1 + len(slept)


def test_a_patience_of_zero_is_none(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    service = Service(1)
    with pytest.raises(ServiceUnavailable):
        retry(service.ask, small_workspace(tmp_path, service_patience_seconds="0"), "there")
    assert (service.asked, capsys.readouterr().err) == (1, "")


@pytest.mark.parametrize("error", [DataError("bad data"), ServiceRefused("The store refused the access")])
def test_what_no_waiting_changes_is_told_at_once(workspace: Workspace, error: Exception) -> None:
    service = Service(1, error)
    with pytest.raises(type(error)):
        retry(service.ask, workspace, "there")
    assert service.asked == 1


def test_a_pipeline_does_not_wait_for_a_mistyped_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(retries, "time", None)
    require_services(small_workspace(tmp_path / "embedded"))
    for mistyped in (
        {"database_url": "postgresql://nobody:secret@127.0.0.1:9/nothing"},
        {"mlflow_tracking_uri": "http://127.0.0.1:9"},
        {"minio_endpoint_url": "http://127.0.0.1:9", "minio_access_key": "a", "minio_secret_key": "b"},
    ):
        with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9"):
            require_services(small_workspace(tmp_path, **mistyped))
