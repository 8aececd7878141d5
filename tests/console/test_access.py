"""Who may look and who may act on the console, by itself and at / of the prediction server alike."""

import asyncio
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from console_world import NAME, fresh, workspace
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from openmlops.console import cycles
from openmlops.console.app import create_app
from openmlops.console.cycles import CycleRun, CycleRuns
from openmlops.errors import LeaseTaken, SettingsError
from openmlops.web.access import AccessPolicy, Tokens
from openmlops.web.logins import FREE_TRIES, LoginThrottle
from openmlops.web.sessions import COOKIE, SECONDS, Sessions, session_key

PAGE = f"/console/models/{NAME}"
ACTS = ("promote", "rollback", "cycle")
TOKEN, READ_TOKEN = "the-token", "the-read-token"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh(tmp_path_factory.mktemp("guarded")).home


@pytest.fixture(scope="module")
def guarded(home: Path):
    """The application for others than this machine."""
    return create_app(workspace(home, api_token=TOKEN, api_read_token=READ_TOKEN), "0.0.0.0")


@pytest.fixture
def client(home: Path) -> TestClient:
    """Somebody on this machine, where there is no token."""
    return TestClient(create_app(workspace(home)), base_url="http://127.0.0.1:8080")


def visitor(app, token: str = "") -> TestClient:
    """Somebody who has logged in with a token, or has not."""
    found = TestClient(app, base_url="https://console.example", follow_redirects=False)
    if token:
        assert found.post("/console/login", data={"token": token, "next": PAGE}).headers["location"] == PAGE
    return found


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(("token", "status"), [("", 401), ("wrong", 401), (READ_TOKEN, 403)])
def test_nobody_acts_without_the_token(guarded, act: str, token: str, status: int) -> None:
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    assert visitor(guarded).post(f"{PAGE}/{act}", headers=bearer).status_code == status


def test_a_session_of_the_reading_token_looks_and_does_not_act(guarded) -> None:
    reader = visitor(guarded, READ_TOKEN)
    page = reader.get(PAGE)
    assert page.status_code == 200
    assert "data-opens" not in page.text
    assert [reader.post(f"{PAGE}/{act}").status_code for act in ACTS] == [403] * len(ACTS)


def test_a_session_of_the_token_acts_and_only_on_the_console(guarded) -> None:
    actor = visitor(guarded, TOKEN)
    assert "data-opens" in actor.get(PAGE).text
    predicted = actor.post(f"{PAGE}/rollback", data={"reason": "a try"})
    assert predicted.status_code == 200
    assert "has nothing to roll back to" in predicted.text
    access, cookie = guarded.state.console.access, {"cookie": f"{COOKIE}={actor.cookies[COOKIE]}"}
    assert access.write_refusal("/predict", Headers(cookie))[0] == 401


def test_a_wrong_token_is_no_login_and_a_stranger_is_led_to_the_login(guarded) -> None:
    stranger = visitor(guarded)
    refused = stranger.post("/console/login", data={"token": "wrong"})
    assert (refused.status_code, COOKIE in refused.cookies) == (401, False)
    led = stranger.get(PAGE, headers={"Accept": "text/html"})
    assert (led.status_code, led.headers["location"]) == (303, f"/console/login?next={PAGE}")
    assert stranger.get(PAGE).status_code == 401
    away = stranger.post("/console/login", data={"token": TOKEN, "next": "//evil.example"})
    assert away.headers["location"] == "/"


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites_and_holds_no_token(guarded) -> None:
    cookie = visitor(guarded).post("/console/login", data={"token": TOKEN}).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Secure", f"Max-Age={SECONDS}"} <= {each.strip() for each in cookie.split(";")}
    assert TOKEN not in cookie


def test_logging_out_ends_the_session_for_every_copy_of_its_cookie_in_every_process(guarded, tmp_path: Path) -> None:
    actor, thief = visitor(guarded, TOKEN), visitor(guarded)
    thief.cookies.set(COOKIE, actor.cookies[COOKIE])
    assert thief.get(PAGE).status_code == 200
    actor.post("/console/logout")
    assert thief.get(PAGE).status_code == 401
    assert visitor(guarded, TOKEN).get(PAGE).status_code == 200
    key = session_key(tmp_path, TOKEN)
    one, other = (Sessions(key, time.time, tmp_path / "ended") for _ in range(2))
    ended, kept = one.begin("act"), one.begin("act")
    one.end(ended)
    one.end("no.session.at.all")
    assert (other.role_of(ended), other.role_of(kept)) == (None, "act")
    later = Sessions(key, lambda: time.time() + SECONDS + 1, tmp_path / "ended")
    later.end(later.begin("act"))
    assert len(list((tmp_path / "ended").iterdir())) == 1


def test_wrong_tokens_are_slowed_down_and_those_of_another_address_are_not(guarded) -> None:
    stranger = visitor(guarded)
    tried = [stranger.post("/console/login", data={"token": f"wrong {number}"}).status_code for number in range(FREE_TRIES)]
    assert tried == [401] * FREE_TRIES
    refused = stranger.post("/console/login", data={"token": TOKEN})
    assert (refused.status_code, COOKIE in refused.cookies) == (429, False)
    assert int(refused.headers["retry-after"]) >= 1
    now = [0.0]
    logins = LoginThrottle(lambda: now[0])
    waits = []
    for _ in range(FREE_TRIES + 8):
        waits.append(logins.seconds_to_wait("a"))
        now[0] += waits[-1]
        logins.was_wrong("a")
    assert waits == [0.0] * FREE_TRIES + [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert logins.seconds_to_wait("b") == 0
    logins.was_right("a")
    assert logins.seconds_to_wait("a") == 0
    guarded.state.console.logins.was_right("testclient")


def test_a_session_ends_is_not_forged_and_dies_with_the_token(tmp_path: Path) -> None:
    now = [1000.0]
    sessions = Sessions(session_key(tmp_path, TOKEN), lambda: now[0], tmp_path / "ended")
    cookie = sessions.begin("read")
    assert sessions.role_of(cookie) == "read"
    assert sessions.role_of(cookie.replace("read", "act")) is None
    assert sessions.role_of("act.9999999999.") is None
    assert Sessions(session_key(tmp_path, TOKEN), lambda: now[0], tmp_path / "ended").role_of(cookie) == "read"
    assert Sessions(session_key(tmp_path, "another"), lambda: now[0], tmp_path / "ended").role_of(cookie) is None
    assert (tmp_path / "console.key").stat().st_mode & 0o077 == 0
    now[0] += SECONDS
    assert sessions.role_of(cookie) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "evil.example:8080"},
        {"host": "evil.example:8080", "origin": "http://evil.example:8080"},
    ],
)
def test_without_a_token_no_other_site_acts_on_this_machine_s_console(client: TestClient, headers: dict[str, str]) -> None:
    """A page that a browser has open (CSRF), or a name that was pointed at 127.0.0.1 (DNS rebinding)."""
    for act in ACTS:
        assert client.post(f"{PAGE}/{act}", headers=headers).status_code == 403


def test_without_a_token_the_console_is_not_read_under_a_foreign_name(client: TestClient) -> None:
    assert client.get(PAGE, headers={"host": "evil.example"}).status_code == 403
    assert client.get(PAGE, headers={"host": "localhost:8080"}).status_code == 200


def test_a_session_does_not_let_another_site_act(guarded) -> None:
    actor = visitor(guarded, TOKEN)
    assert actor.post(f"{PAGE}/rollback", headers={"origin": "https://evil.example"}).status_code == 403


def test_beyond_this_machine_a_token_is_demanded(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"listen on 0\.0\.0\.0.*Set API_TOKEN"):
        create_app(workspace(tmp_path), "0.0.0.0")


@pytest.mark.parametrize("data", [{"version": "1; drop"}, {"version": "1", "reason": "x" * 501}, {}])
def test_what_no_form_sends_is_refused(client: TestClient, data: dict[str, str]) -> None:
    assert client.post(f"{PAGE}/promote", data=data).status_code == 422
    assert client.post(f"{PAGE}/cycle", data={"mode": "manual"}).status_code == 422
    assert client.post(f"{PAGE}/promote", content=b"x" * 300_000).status_code == 413


def test_a_model_that_this_console_does_not_act_for_is_named_with_the_remedy(client: TestClient) -> None:
    preconditions = client.app.state.console.preconditions  # type: ignore[attr-defined]
    assert "MODEL_NAME=other" in preconditions.to_promote("other")
    assert "MODEL_NAME=other" in preconditions.to_run_cycle("other")


def test_one_cycle_at_a_time_and_its_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real child of the real script, which ends at once for a setting that is not allowed, once it is let go on."""
    monkeypatch.setenv("POLICY_BREAKER", "0")
    children = []

    def stopped(log: Path, mode: cycles.Mode) -> subprocess.Popen:
        children.append(start_process(log, mode))
        children[-1].send_signal(signal.SIGSTOP)
        return children[-1]

    start_process = cycles._start_process
    monkeypatch.setattr(cycles, "_start_process", stopped)
    cycle_runs = CycleRuns(tmp_path)
    assert cycle_runs.last(NAME) is None
    assert cycle_runs.start(NAME, "suggest").is_running
    with pytest.raises(LeaseTaken, match="A cycle of toy is already running"):
        CycleRuns(tmp_path).start(NAME, "auto")
    assert CycleRuns(tmp_path).last(NAME).is_running
    children[0].send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 240
    while (found := CycleRuns(tmp_path).last(NAME)).is_running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (found.code, found.mode) == (1, "suggest")
    assert "POLICY_BREAKER has the value '0'" in found.lines[-1]


def test_an_end_between_two_looks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever read the file before the code was in it, and found the lock free after, said that nobody had seen the end."""
    cycle_runs, turn = (
        CycleRuns(tmp_path),
        CycleRun(model=NAME, mode="auto", started=datetime.now(UTC), log=str(tmp_path / "log")),
    )
    cycle_runs._save(turn)

    def let_go(self: CycleRuns, model: str) -> bool:
        cycle_runs._save(turn.model_copy(update={"code": 0}))
        return False

    monkeypatch.setattr(CycleRuns, "_is_held", let_go)
    found = cycle_runs.last(NAME)
    assert (found.code, found.is_running) == (0, False)


def test_a_door_without_tokens_and_one_with_agree_on_what_is_open(tmp_path: Path) -> None:
    for tokens in (Tokens(), Tokens(acting=TOKEN)):
        access = AccessPolicy(tokens, Sessions(b"k", time.time, tmp_path))
        local = Headers({"host": "localhost"})
        assert access.read_refusal("/console/static/console.css", local) is None
        assert access.read_refusal("/console/login", local) is None
        assert access.read_refusal("/health/live", local) is None


def test_a_client_that_hangs_up_while_it_sends_is_no_error_of_the_console(home: Path) -> None:
    sent = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [
        (b"host", b"127.0.0.1:8080"),
        (b"content-length", b"100"),
        (b"content-type", b"application/x-www-form-urlencoded"),
    ]
    scope = {"type": "http", "method": "POST", "path": "/console/login", "raw_path": b"/console/login", "query_string": b""}
    address = {"scheme": "http", "server": ("127.0.0.1", 8080), "client": ("127.0.0.1", 1), "http_version": "1.1"}
    asyncio.run(create_app(workspace(home))({**scope, **address, "headers": headers, "root_path": ""}, receive, send))
    assert sent == []
