"""A request's header has a length and a time; who keeps neither is cut off and harms nobody."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import urlsplit

import httpx
import pytest

from app.web import connection
from tests import make
from tests.web import doors
from tests.web.doors import Archive


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


UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
}
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def whole_length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def in_chunks(body: bytes) -> bytes:
    first, rest = body[:9], body[9:]
    return b"Transfer-Encoding: chunked\r\n\r\n9\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (first, len(rest), rest)


def statuses(server: str, *pieces: bytes) -> list[bytes]:
    with opened(server) as client:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.01)
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    return re.findall(rb"HTTP/1\.1 (\d+)", answers)


@pytest.mark.parametrize("framed", [whole_length, in_chunks])
@pytest.mark.parametrize("name", UPGRADES)
@pytest.mark.parametrize("step", [1 << 20, 700, 1])
def test_a_request_that_would_change_the_protocol_keeps_its_body(
    server: str, name: str, framed: Callable[[bytes], bytes], step: int
) -> None:
    """As Java's client asks: the body is the body, whatever it looks like, and the next request the next one."""
    head = b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
    instance = framed(make.instance(Rows=2, Columns=2, PixelData=bytes(8)))
    stored = head + UPGRADES[name] + instance
    refused = b"PUT /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\n" + UPGRADES[name] + framed(HIDDEN)
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + UPGRADES[name] + b"\r\n"
    everything = stored + refused + asked + asked + NEXT
    pieces = [everything[at : at + step] for at in range(0, len(everything), step)] if step > 1 else None
    told = statuses(
        server, *(pieces or [stored[:-9], stored[-9:] + refused[:-3], refused[-3:] + asked, asked + NEXT])
    )
    assert told == [b"200", b"405", b"200", b"200", b"200"]


NO_HTTP = {
    "words": b"\0\1\2 no request\r\n\r\n",
    "two lengths": b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "two framings": b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "a coding before the chunks": b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/dicom\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding apart": b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n"
    b"Content-Type: application/dicom\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "broken chunks": b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_is_told_so_and_nothing_behind_it_is_obeyed(server: str, name: str) -> None:
    """Also where much more was sent with it: the answer is not lost."""
    with opened(server) as client:
        client.sendall(NO_HTTP[name] + NEXT + bytes(200_000))
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nconnection: close" in head
    problem = json.loads(body)
    assert problem["status"] == 400
    assert problem["request_id"].encode() in head


def test_an_answer_under_way_ends_before_what_is_no_http(archive: Archive) -> None:
    """Nothing is written into it, and nothing comes after it."""
    pixels = bytes(range(256)) * 16_384
    (url,) = doors.stored(archive.root, make.instance(Rows=2048, Columns=1024, PixelData=pixels))
    path = urlsplit(url).path
    request = f"GET {path}/bulkdata/7FE00010 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with opened(archive.url) as client:
        client.sendall(request)
        begun = client.recv(1000)
        client.sendall(b"\0\1\2\r\n\r\n" + NEXT)
        answer = begun + b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert answer.partition(b"\r\n\r\n")[2] == pixels


def test_an_answer_under_way_outlives_the_time_of_a_header(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no HTTP began like one; nobody waits for the rest of it, be it late or long."""
    pixels = bytes(range(256)) * 65_536
    (url,) = doors.stored(archive.root, make.instance(Rows=4096, Columns=2048, PixelData=pixels))
    monkeypatch.setattr(connection, "HEADER_S", 0.3)
    request = f"GET {urlsplit(url).path}/bulkdata/7FE00010 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with opened(archive.url) as client:
        client.sendall(request)
        begun = client.recv(1000)
        client.sendall(b"\0\1\2\r\n\r\n")
        time.sleep(0.6)
        answer = begun + b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert answer.partition(b"\r\n\r\n")[2] == pixels


def test_who_asks_far_ahead_is_not_late(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first answer is sent nobody reads the rest of the third request."""
    pixels = bytes(range(256)) * 65_536
    (url,) = doors.stored(archive.root, make.instance(Rows=4096, Columns=2048, PixelData=pixels))
    monkeypatch.setattr(connection, "HEADER_S", 0.3)
    request = f"GET {urlsplit(url).path}/bulkdata/7FE00010 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with opened(archive.url) as client:
        client.sendall(request + asked + NEXT[:20])
        time.sleep(1)
        client.sendall(NEXT[20:])
        answer = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200"] * 3


def test_a_header_behind_a_long_body_is_not_long(server: str) -> None:
    """Both in one piece, and the header's end later."""
    head = b"PUT /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with opened(server) as client:
        client.sendall(head + bytes(200_000) + asked[:-2])
        time.sleep(0.2)
        client.sendall(asked[-2:])
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"405", b"200"]


@pytest.mark.parametrize("cut", [-1, 0, 1, 30])
@pytest.mark.parametrize("step", [1 << 20, 100_003, 3001])
def test_a_long_body_is_whole_and_the_request_behind_it_the_next_one(
    archive: Archive, step: int, cut: int
) -> None:
    """Wherever it is cut: also just before or behind its end, and with two of them in one piece."""
    data = make.instance(Rows=400, Columns=400, PixelData=os.urandom(320_000))
    head = b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
    stored = head + whole_length(data)
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    everything = stored + stored + asked + stored + NEXT
    cuts = sorted(
        {*range(0, len(everything), step), len(stored) + cut, 2 * len(stored) + cut, len(everything)}
    )
    pieces = [everything[begin:end] for begin, end in pairwise(cuts)]
    assert statuses(archive.url, *pieces) == [b"200"] * 5
    told = doors.read(data)
    series = f"{archive.root}/studies/{told.StudyInstanceUID}/series/{told.SeriesInstanceUID}"
    url = f"{series}/instances/{told.SOPInstanceUID}"
    assert doors.get(url, headers={"Accept": "application/dicom"}).content == data
