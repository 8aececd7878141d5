"""A notification goes to an allowed host, once, and nowhere else."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from openmlops.adapters.webhook import post
from openmlops.errors import NotificationError


class Handler(BaseHTTPRequestHandler):
    """Keeps what it is sent; /moved redirects to /ok, /broken fails."""

    received: list

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, json.loads(body)))
        self.send_response({"/moved": 302, "/broken": 500}.get(self.path.partition("?")[0], 204))
        if self.path == "/moved":
            self.send_header("Location", "/ok")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *arguments):
        """Quiet."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Handler.received = []
    with HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def url(server: HTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_an_allowed_host_gets_the_content_as_json(server: HTTPServer):
    post(url(server, "/ok?key=s3cret"), {"action": "retrain"}, ["127.0.0.1"])
    assert Handler.received == [("/ok?key=s3cret", {"action": "retrain"})]


def test_a_redirect_is_not_followed(server: HTTPServer):
    with pytest.raises(NotificationError, match="responded to the notification with 302"):
        post(url(server, "/moved"), {}, ["127.0.0.1"])
    assert [path for path, _ in Handler.received] == ["/moved"]


def test_a_failure_of_the_other_side_is_told_without_the_url(server: HTTPServer):
    with pytest.raises(NotificationError, match="500") as raised:
        post(url(server, "/broken?key=s3cret"), {}, ["127.0.0.1"])
    assert "s3cret" not in str(raised.value)


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


def test_nobody_at_home_is_told_in_one_line(server: HTTPServer):
    with pytest.raises(NotificationError, match=r"did not accept the notification \(ConnectionError\)"):
        post("http://127.0.0.1:9/x", {}, ["127.0.0.1"])
