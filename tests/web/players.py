"""Players that ask for range after range on one connection, and what they are given."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socket import SO_RCVBUF, SOL_SOCKET, socket
from urllib.parse import urlsplit
from uuid import uuid4

from tests.web import doors
from tests.web.doors import Archive


@dataclass
class Answer:
    """What came, and whether the server knew the request again."""

    status: int
    headers: dict[str, str]
    body: bytes
    known: bool = False


def playable(archive: Archive, data: bytes) -> str:
    url = doors.stored(archive.root, data)[0] + "/rendered"
    ends = time.monotonic() + 60
    while doors.head(url, headers={"Accept": "video/mp4"}).status_code != 200 and time.monotonic() < ends:
        time.sleep(0.1)
    settled(archive)
    return url


def settled(archive: Archive) -> None:
    """Wait until all that was stored is made ready, and the server has heard of it."""
    ends = time.monotonic() + 60
    while archive.column("select count(*) from rendition where state in ('queued', 'running')") != [0]:
        assert time.monotonic() < ends, "a rendition is never made"
        time.sleep(0.1)
    archive.hears()


class Player:
    """One connection that asks for one range after the other; its name is a part of all that it asks."""

    def __init__(self, url: str, client: socket, name: str = "") -> None:
        self._url, self._client = urlsplit(url), client
        self._name, self._left = name or uuid4().hex, b""

    def asks(self, url: str, start: int, stop: int, **fields: str) -> bytes:
        """A request, as it is sent."""
        named = {
            "User-Agent": self._name,
            "Host": self._url.netloc,
            "Accept": "video/mp4",
            "Range": f"bytes={start}-{stop - 1}",
        }
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in (named | fields).items()]
        return "\r\n".join([f"GET {urlsplit(url).path} HTTP/1.1", *lines, "", ""]).encode()

    def get(self, url: str, start: int, stop: int, **fields: str) -> Answer:
        """Ask, and take the answer."""
        self._client.sendall(self.asks(url, start, stop, **fields))
        return self.take()

    def take(self, pause_s: float = 0.0) -> Answer:
        """The next answer; between its pieces a viewer may rest."""
        held, self._left = self._left, b""
        while b"\r\n\r\n" not in held:
            held += self._some(65536)
        head, _, body = held.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers["content-length"])
        body, self._left = body[:length], body[length:]  # what was asked for in the same breath
        pieces = [body]
        while (left := length - sum(map(len, pieces))) > 0:
            time.sleep(pause_s)
            pieces.append(self._some(min(left, 256 << 10)))
        return Answer(int(status.split()[1]), headers, b"".join(pieces))

    def _some(self, most: int) -> bytes:
        piece = self._client.recv(most)
        assert piece, "the connection was closed"
        return piece


@contextmanager
def player(url: str, name: str = "", *, slow: bool = False) -> Iterator[Player]:
    with socket() as client:
        if slow:
            client.setsockopt(SOL_SOCKET, SO_RCVBUF, 64 << 10)
        client.settimeout(30)
        address = urlsplit(url)
        client.connect((address.hostname, address.port))
        yield Player(url, client, name)


def whole(url: str, accept: str = "video/mp4") -> bytes:
    answer = doors.get(url, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    return answer.content
