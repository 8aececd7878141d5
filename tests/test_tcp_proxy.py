"""The proxy that tests put before servers does what its modes say."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tcp_proxy import TcpProxy


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    """Before a server that sends everything back."""
    with closing(socket.create_server(("127.0.0.1", 0))) as echo:
        threading.Thread(target=_serve, args=(echo,), daemon=True).start()
        with TcpProxy(echo.getsockname()[1]) as proxy:
            yield proxy


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    try:
        while received := connection.recv(4096):
            connection.sendall(received)
    except ConnectionError:
        pass
    connection.close()


def connected(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=60)


def asked(client: socket.socket, sent: bytes = b"hello") -> bytes:
    client.sendall(sent)
    return client.recv(4096)


def test_it_forwards_in_both_directions_and_hands_an_end_on(proxy):
    with connected(proxy) as client:
        assert asked(client) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_it_refuses_resets_and_forwards_again_on_the_same_port(proxy):
    with connected(proxy) as client:
        asked(client)
        proxy.refuse()
        with pytest.raises(ConnectionError):
            asked(client)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.forward()
    with connected(proxy) as client:
        assert asked(client) == b"hello"


def test_slow_holds_each_chunk_back_and_lets_it_go_when_the_mode_ends(proxy):
    with connected(proxy) as client:
        proxy.slow(0.01)
        assert asked(client) == b"hello"
        proxy.slow(600)
        client.sendall(b"later")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(4096)
        client.settimeout(None)
        proxy.forward()
        assert client.recv(4096) == b"later"


def test_cut_resets_old_and_new_connections_in_the_middle_of_what_they_send(proxy):
    with connected(proxy) as old:
        asked(old)
        proxy.cut(within=1000)
        for client in (old, connected(proxy)):
            with pytest.raises(ConnectionError), client:
                while True:
                    assert asked(client, b"x" * 100) != b"", "it was closed, not reset"
    assert proxy.connections == 2
