"""A request's header has a length and a time; who keeps neither is cut off and harms nobody."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from app.web import connection


def opened(server: str) -> socket.socket:
    address = urlsplit(server)
    assert address.hostname
    assert address.port
    return socket.create_connection((address.hostname, address.port), timeout=20)


def is_cut(client: socket.socket) -> bool:
    try:
        return client.recv(1024) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "line",
    [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"GET /" + b"a" * 1000],
    ids=["field", "line"],
)
def test_a_header_without_end_is_cut_off(server: str, line: bytes) -> None:
    """Before anybody is asked for a token, and without being held."""
    with opened(server) as client:
        sent = 0
        try:
            client.sendall(line)
            while sent < 64 * connection.HEADER_BYTES:
                sent += client.send(b"a" * 8192)
        except ConnectionError:
            pass
        assert sent < 64 * connection.HEADER_BYTES
        assert is_cut(client)
    assert httpx.get(f"{server}/healthz").status_code == 200


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHo"], ids=["nothing", "half a header"])
def test_a_header_that_does_not_come_is_cut_off(
    server: str, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection is not held by silence."""
    monkeypatch.setattr(connection, "HEADER_S", 0.3)
    with opened(server) as client:
        client.sendall(begun)
        assert is_cut(client)


def test_requests_on_one_connection_have_their_time_each(server: str) -> None:
    """A long life of many short requests is no slow header."""
    with httpx.Client(base_url=server) as client:
        for _ in range(30):
            assert client.get("/healthz", headers={"X-Long": "a" * 4000}).status_code == 200
