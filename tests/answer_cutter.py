"""A TCP proxy that cuts off the answer to some requests: the server has done what it was asked, its client does not know."""

import socket
import socketserver
import struct
import threading
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_RESETS = struct.pack("ii", 1, 0)


class AnswerCutter:
    """Forwards to a port; a connection on which a request holding `marked` was sent is reset when its answer comes.

    The next `left` such answers are cut, the others pass; `cut` counts them.
    """

    def __init__(self, target: int, marked: bytes, left: int = 0) -> None:
        self._target, self._marked = target, marked
        self._server = socketserver.ThreadingTCPServer((HOST, 0), self._carry)  # type: ignore[arg-type]
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.left, self.cut = left, 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _carry(self, client: socket.socket, address: object, server: object) -> None:
        target = socket.create_connection((HOST, self._target))
        due = threading.Event()
        back = threading.Thread(target=self._back, args=(target, client, due), daemon=True)
        back.start()
        try:
            while chunk := client.recv(65536):
                if self.left and self._marked in chunk:
                    due.set()
                target.sendall(chunk)
        except OSError:
            pass
        back.join(1)
        target.close()

    def _back(self, target: socket.socket, client: socket.socket, due: threading.Event) -> None:
        try:
            while chunk := target.recv(65536):
                if due.is_set():
                    self.left, self.cut = self.left - 1, self.cut + 1
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
                    client.shutdown(socket.SHUT_RD)
                    client.close()
                    return
                client.sendall(chunk)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
