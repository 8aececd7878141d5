"""A TCP proxy on loopback that behaves like a bad network, or like a server that is away, for as long as a test wants.

    with TcpProxy(server_port) as proxy:
        client.connect("127.0.0.1", proxy.port)
        proxy.slow(30)
        proxy.forward()

What is here: what happens to bytes and connections. What is not: any protocol.
"""

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CHUNK = 65536
_RESETS = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends a reset"""


@dataclass(eq=False)
class _Link:
    """One connection through the proxy. `left`: bytes in both directions until it is cut; None: it is not."""

    client: socket.socket
    server: socket.socket
    left: int | None = None
    ended: int = 0
    """directions in which nothing will come any more"""
    counting: threading.Lock = field(default_factory=threading.Lock)

    def allowed(self, chunk: bytes) -> tuple[bytes, bool]:
        """What of a chunk still passes, and whether the link ends with it."""
        with self.counting:
            if self.left is None:
                return chunk, False
            passes = chunk[: self.left]
            self.left -= len(passes)
            return passes, self.left == 0

    def reset(self) -> None:
        """End both connections, as a crash does."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
            end.close()


class TcpProxy:
    """Forwards to a port of this machine. Each mode holds, for old and new connections, until the next is set."""

    def __init__(self, target: int, seed: int = 0) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._changed = threading.Condition()
        self._delay = 0.0
        self._cut_within: int | None = None
        self._links: set[_Link] = set()
        self._listener = _bound(0)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        """how many were accepted so far"""

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.refuse()
        self._listener.close()

    # Modes

    def forward(self) -> None:
        """Everything passes; what was held back passes now."""
        self._set(delay=0.0, cut_within=None)
        self._listen()

    def slow(self, seconds: float) -> None:
        """Every chunk, in both directions, waits so long."""
        self._set(delay=seconds, cut_within=None)
        self._listen()

    def cut(self, within: int = 4096) -> None:
        """Every connection is reset after a number of bytes, in both directions together, drawn from 1 to `within`."""
        self._set(delay=0.0, cut_within=within)
        self._listen()

    def refuse(self) -> None:
        """Connections are reset, new ones refused; the port stays ours."""
        self._set(delay=0.0, cut_within=None)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        self._listener = _bound(self.port)
        with self._changed:
            links = list(self._links)
        for link in links:
            link.reset()

    def _set(self, delay: float, cut_within: int | None) -> None:
        with self._changed:
            self._delay, self._cut_within = delay, cut_within
            for link in self._links:
                link.left = self._drawn()
            self._changed.notify_all()

    def _drawn(self) -> int | None:
        return self._random.randint(1, self._cut_within) if self._cut_within else None

    # Threads

    def _listen(self) -> None:
        """Accept on the bound socket; nothing changes if it is done already."""
        if not self._listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._listener.listen(128)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # until it is closed
            while True:
                client, _ = listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection((HOST, self._target), timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            link = _Link(client, server, self._drawn())
            self._links.add(link)
            self.connections += 1
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(link, source, sink), daemon=True).start()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        """Carry bytes one way until either end closes or the link is cut."""
        try:
            while chunk := source.recv(CHUNK):
                self._hold()
                passes, ends = link.allowed(chunk)
                sink.sendall(passes)
                if ends:
                    break
            else:
                self._hold()
                sink.shutdown(socket.SHUT_WR)
                if not self._is_last(link):
                    return
        except OSError:
            pass
        with self._changed:
            self._links.discard(link)
        link.reset()

    def _is_last(self, link: _Link) -> bool:
        with link.counting:
            link.ended += 1
            return link.ended == 2

    def _hold(self) -> None:
        """Wait as long as a chunk must, or until another mode is set."""
        with self._changed:
            delay, since = self._delay, time.monotonic()
            while delay and self._delay == delay and (left := since + delay - time.monotonic()) > 0:
                self._changed.wait(left)


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound
