"""A notification goes to an allowed host and nowhere else, signed, and whatever the host does, it holds nobody."""

import base64
import json
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tenacity import wait_none

from openmlops.adapters import webhook
from openmlops.errors import NotificationError

IDENTITY = "decision-1.retrain"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Handler(BaseHTTPRequestHandler):
    """Keeps what it is sent; /moved redirects to /ok, /broken fails, /soon succeeds the second time, /drips never ends its
    headers, /large its body."""

    received: list
    headers_received: list[Message]
    ended: threading.Event

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        self.received.append((self.path, json.loads(body)))
        self.headers_received.append(self.headers)
        status = {"/moved": 302, "/broken": 500, "/gone": 410, "/soon": 204 if len(self.received) > 1 else 503}.get(path, 204)
        self.send_response(status if path != "/large" else 200)
        if path == "/moved":
            self.send_header("Location", "/ok")
        try:
            if path == "/drips":
                while not self.ended.wait(0.05):
                    self.wfile.write(b"X-More: 1\r\n")
            self.end_headers()
            while path == "/large" and not self.ended.is_set():
                self.wfile.write(bytes(1_000_000))
        except OSError:
            self.close_connection = True

    do_GET = do_POST

    def log_message(self, *arguments):
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    Handler.received, Handler.headers_received, Handler.ended = [], [], threading.Event()
    monkeypatch.setattr(webhook, "PAUSES", wait_none())
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        Handler.ended.set()
        found.shutdown()
        thread.join()


def post(address: str, content: dict, hosts: list[str], secret: str = "") -> None:
    webhook.post(address, content, hosts, IDENTITY, secret)


def url(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_an_allowed_host_gets_the_content_as_json(server: ThreadingHTTPServer):
    post(url(server, "/ok?key=s3cret"), {"action": "retrain"}, ["127.0.0.1"])
    assert Handler.received == [("/ok?key=s3cret", {"action": "retrain"})]


def test_a_redirect_is_not_followed(server: ThreadingHTTPServer):
    with pytest.raises(NotificationError, match="responded to the notification with 302"):
        post(url(server, "/moved"), {}, ["127.0.0.1"])
    assert [path for path, _ in Handler.received] == ["/moved"]


def test_a_failure_of_the_other_side_is_told_without_the_url(server: ThreadingHTTPServer):
    with pytest.raises(NotificationError, match="500") as raised:
        post(url(server, "/broken?key=s3cret"), {}, ["127.0.0.1"])
    assert "s3cret" not in str(raised.value)


def test_what_may_pass_is_tried_again_as_the_same_message(server: ThreadingHTTPServer):
    post(url(server, "/soon"), {"action": "retrain"}, ["127.0.0.1"], SECRET)
    assert len(Handler.received) == 2
    assert {headers["webhook-id"] for headers in Handler.headers_received} == {IDENTITY}


@pytest.mark.parametrize(("path", "attempts"), [("/broken", 3), ("/gone", 1), ("/moved", 1)])
def test_an_answer_that_will_not_change_is_not_asked_for_again(server: ThreadingHTTPServer, path: str, attempts: int):
    with pytest.raises(NotificationError):
        post(url(server, path), {}, ["127.0.0.1"])
    assert len(Handler.received) == attempts


def test_a_receiver_that_drips_its_headers_is_left_at_the_deadline(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhook, "SECONDS", 0.3)
    with pytest.raises(NotificationError, match=r"did not accept the notification \(TimeoutError\)"):
        post(url(server, "/drips"), {}, ["127.0.0.1"])
    assert {path for path, _ in Handler.received} <= {"/drips"}  # on a busy machine an attempt may end before it is received


def test_a_body_without_end_is_not_read(server: ThreadingHTTPServer):
    tracemalloc.start()
    try:
        post(url(server, "/large"), {}, ["127.0.0.1"])
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_the_signature_is_that_of_standard_webhooks():
    """The example of the specification's own libraries."""
    key = webhook.signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    found = webhook.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, key)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_is_signed_if_there_is_a_secret(server: ThreadingHTTPServer):
    post(url(server, "/ok"), {"action": "retrain"}, ["127.0.0.1"], SECRET)
    post(url(server, "/ok"), {"action": "retrain"}, ["127.0.0.1"])
    signed, plain = Handler.headers_received
    expected = webhook.signature(
        IDENTITY, int(signed["webhook-timestamp"]), b'{"action": "retrain"}', webhook.signing_key(SECRET)
    )
    assert signed["webhook-signature"] == expected
    assert plain["webhook-signature"] is None


@pytest.mark.parametrize("secret", ["hunter2", "whsec_", "whsec_!!!", "whsec_" + "A" * 20, "whsec_" + "A" * 200])
def test_a_secret_of_another_form_is_refused_unseen(server: ThreadingHTTPServer, secret: str):
    with pytest.raises(NotificationError, match="NOTIFY_WEBHOOK_SECRET is not whsec_ and 24 to 64 bytes") as raised:
        post(url(server, "/ok"), {}, ["127.0.0.1"], secret)
    assert "hunter2" not in str(raised.value)
    assert Handler.received == []


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data", "http://localhost/x", "http://127.0.0.1.evil.example/x",
        "http://127.0.0.1@evil.example/x", "http://evil.example#127.0.0.1", "http://[::1]/x", "http://2130706433/x",
    ],
)  # fmt: skip
def test_a_host_that_is_not_allowed_is_never_asked(address: str):
    with pytest.raises(NotificationError, match="which is not in NOTIFY_ALLOWED_HOSTS"):
        post(address, {}, ["127.0.0.1"])


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "127.0.0.1/x", "http://", "http://[bad"])
def test_what_is_no_http_url_is_refused(address: str):
    with pytest.raises(NotificationError, match="is not an http or https URL"):
        post(address, {}, ["127.0.0.1"])


def test_a_proxy_that_needs_a_package_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(NotificationError, match=r"SOCKS proxy.*pip install 'httpx\[socks\]', or add 192\.0\.2\.1 to NO_PROXY"):
        post("http://192.0.2.1:9/x", {}, ["192.0.2.1"])


def test_nobody_at_home_is_told_in_one_line(server: ThreadingHTTPServer):
    with pytest.raises(NotificationError, match=r"did not accept the notification \(ConnectError\)"):
        post("http://127.0.0.1:9/x", {}, ["127.0.0.1"])
