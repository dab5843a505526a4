"""What is refused of an upload before its first byte, and what ends one on its way."""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import store
from app.dicom.scanner import Scan, Scanner
from tests import make
from tests.web import doors
from tests.web.doors import STORED, URL, Archive, reasons

MULTIPART = "multipart/related; boundary=b"
DICOM = "application/dicom"


def body(*instances: bytes) -> bytes:
    return make.multipart(instances, "b")


def post(archive: Archive, content: Any, content_type: str = MULTIPART, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return doors.post(
        f"{archive.root}/studies", content=content, headers={"Content-Type": content_type} | named
    )


def head_of(length: int, content_type: str = MULTIPART, more: str = "Expect: 100-continue\r\n") -> bytes:
    return (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


def chunked(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), 1000):
        yield content[at : at + 1000]


# --- Content-Encoding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "gzip, identity"])
@pytest.mark.parametrize("is_chunked", [True, False], ids=["chunked", "Content-Length"])
def test_a_compressed_body_is_taken(archive: Archive, encoding: str, *, is_chunked: bool) -> None:
    """Larger than its Content-Length says, and stored as it was before it was compressed."""
    data = make.instance(PixelData=bytes(2 << 20), Rows=1024, Columns=1024)
    packed = gzip.compress(body(data))
    answer = post(archive, chunked(packed) if is_chunked else packed, Content_Encoding=encoding)
    assert answer.status_code == 200, answer.text
    url = answer.json()[STORED]["Value"][0][URL]["Value"][0]
    assert doors.get(url, headers={"Accept": DICOM}).content == data


@pytest.mark.parametrize("encoding", ["identity", "", "identity, identity"])
def test_a_body_may_say_that_it_is_not_compressed(archive: Archive, encoding: str) -> None:
    assert post(archive, body(make.instance()), Content_Encoding=encoding).status_code == 200


def test_several_members_are_one_stream(archive: Archive) -> None:
    """RFC 1952 2.2, cut anywhere."""
    content = body(make.instance())
    packed = gzip.compress(content[:500]) + gzip.compress(b"") + gzip.compress(content[500:])
    pieces = (packed[at : at + 1] for at in range(len(packed)))
    assert post(archive, pieces, Content_Encoding="gzip").status_code == 200


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "gzip, br", "nonsense"])
def test_another_coding_is_refused_unread(archive: Archive, encoding: str) -> None:
    """415, and what could be sent instead (RFC 9110 15.5.16)."""
    with doors.connected(archive.url) as connection:
        head = head_of(1 << 30, more=f"Content-Encoding: {encoding}\r\nExpect: 100-continue\r\n")
        answer = doors.spoken(connection, head)
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"accept-encoding: gzip" in answer.lower()


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(gzip.compress(body(make.instance()))[:-200], id="cut"),
        pytest.param(gzip.compress(body(make.instance())[:-40]) + b"more", id="more"),
        pytest.param(b"not gzip", id="not gzip"),
        pytest.param(zlib.compress(body(make.instance())), id="zlib"),
        pytest.param(b"", id="nothing"),
        pytest.param(gzip.compress(b"--b\r\n\r\n" + bytes(64 << 20), 9), id="a bomb"),
    ],
)
def test_a_compressed_body_that_is_none_leaves_nothing(archive: Archive, packed: bytes) -> None:
    """Within bounds that a real data set does not reach."""
    before = archive.objects()
    answer = post(archive, packed, Content_Encoding="gzip")
    doors.is_problem(answer, 400)
    assert archive.objects() == before


# --- decided before the first byte ---------------------------------------------------------------------------


def test_an_instance_alone_that_is_too_large_is_refused_unread(empty: str, tmp_path: Path) -> None:
    """413; as one of several it is A700, and neither Content-Length nor chunks let it in."""
    large = make.instance(PixelData=bytes(1 << 20), Rows=512, Columns=1024)
    with doors.serving(empty, tmp_path, max_instance_bytes=100_000) as archive:
        with doors.connected(archive.url) as connection:
            assert doors.spoken(connection, head_of(len(large), DICOM)).startswith(b"HTTP/1.1 413 ")
        doors.is_problem(post(archive, large, DICOM), 413)
        for content in (chunked(large), gzip.compress(large)):
            coding = {"Content_Encoding": "gzip"} if isinstance(content, bytes) else {}
            answer = post(archive, content, DICOM, **coding)
            assert (answer.status_code, reasons(answer)) == (409, [0xA700])
        assert not archive.objects()


def test_more_uploads_at_once_than_a_setting_allows_are_told_to_come_back(empty: str, tmp_path: Path) -> None:
    """503 with Retry-After before the first byte; an upload that is over, or lost, makes room."""
    content = body(make.instance())
    with doors.serving(empty, tmp_path, max_uploads=2) as archive:
        with ExitStack() as stack:
            busy = [stack.enter_context(doors.connected(archive.url)) for _ in range(2)]
            for connection in busy:
                connection.sendall(head_of(len(content)))
                assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
            with doors.connected(archive.url) as third:
                answer = doors.spoken(third, head_of(len(content)))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 5\r\n" in answer.lower()
            assert doors.spoken(busy[0], content).startswith(b"HTTP/1.1 200 ")
            assert post(archive, content).status_code == 200
        deadline = time.monotonic() + 20
        while (answer_of := post(archive, content)).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer_of.status_code == 200


def test_a_body_that_would_fill_the_disk_is_refused_by_its_length(empty: str, tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    with doors.serving(empty, tmp_path) as archive, doors.connected(archive.url) as connection:
        answer = doors.spoken(connection, head_of(found.f_blocks * found.f_frsize))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 60\r\n" in answer.lower()


def test_without_a_token_nothing_is_read(empty: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a read,write " + "0" * 64)
    with (
        doors.serving(empty, tmp_path, tokens_file=tokens) as archive,
        doors.connected(archive.url) as connection,
    ):
        assert doors.spoken(connection, head_of(1 << 30)).startswith(b"HTTP/1.1 401 ")


# --- on the way ----------------------------------------------------------------------------------------------


def test_a_sender_that_trickles_is_given_up(empty: str, tmp_path: Path) -> None:
    """408: it never falls silent, and never reaches the rate."""
    with (
        doors.serving(empty, tmp_path, upload_idle_timeout_s=0.5, upload_min_rate=100_000) as archive,
        doors.connected(archive.url) as connection,
    ):
        connection.sendall(head_of(1 << 20, more="") + b"--b\r\n\r\n")
        connection.settimeout(0.05)
        answer = b""
        for _ in range(400):
            try:
                connection.sendall(b"x")
                answer += connection.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                break
            if answer.endswith(b"}"):
                break
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"bytes a second" in answer
        assert not archive.objects()


def test_a_fault_of_ours_costs_one_instance(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """0110, with the instance's name; its neighbours are stored, and nothing of the patient is logged."""

    class Faulty(Scanner):
        def close(self) -> Scan:
            if self.head and self.head.series_instance_uid == "1.2.9":
                raise ZeroDivisionError
            return super().close()

    monkeypatch.setattr(store, "Scanner", Faulty)
    bad = make.instance(SeriesInstanceUID="1.2.9")
    answer = post(archive, body(make.instance(), bad, make.instance()))
    assert (answer.status_code, reasons(answer)) == (202, [0x0110])
    assert len(answer.json()[STORED]["Value"]) == 2


@pytest.mark.parametrize(
    "boundary",
    ["a b", "=_?:/'()+,-.", 'q"\\u', "x" * 70, "-"],
    ids=["blank", "odd", "quoted", "long", "dash"],
)
def test_a_boundary_may_be_any_that_can_be_quoted(archive: Archive, boundary: str) -> None:
    """With preamble, epilogue and blanks behind its delimiters."""
    quoted = boundary.replace("\\", "\\\\").replace('"', '\\"')
    delimiter = f"\r\n--{boundary}".encode()
    content = b"preamble" + delimiter + b"\t \r\n\r\n" + make.instance() + delimiter + b"--  \r\nepilogue"
    answer = post(archive, content, f'multipart/related; boundary="{quoted}"; type="application/dicom"')
    assert answer.status_code == 200, answer.text


# --- addresses in the answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "headers", "root"),
    [
        pytest.param({"public_url": "https://pacs.example.org/x"}, {}, "https://pacs.example.org/x", id="PUBLIC_URL"),
        pytest.param(
            {"trusted_proxies": ("127.0.0.1",), "allowed_hosts": ("*",)},
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example"}, "https://a.example", id="trusted",
        ),
        pytest.param(
            {"trusted_proxies": ("127.0.0.1",), "allowed_hosts": ("*",)},
            {"Forwarded": "for=1.2.3.4;proto=https;host=b.example:8443"}, "https://b.example:8443", id="Forwarded",
        ),
        pytest.param({}, {"X-Forwarded-Host": "evil.example"}, "", id="not trusted"),
        pytest.param({}, {"Host": "localhost"}, "localhost", id="no port"),
    ],
)  # fmt: skip
def test_addresses_are_those_that_the_client_sees(
    empty: str, tmp_path: Path, settings: dict[str, Any], headers: dict[str, str], root: str
) -> None:
    with doors.serving(empty, tmp_path, **settings) as archive:
        told = doors.store(archive.root, make.instance(), **headers).json()
        expected = root if root.startswith("https") else archive.url.replace("127.0.0.1", root or "127.0.0.1")
        assert told[URL]["Value"][0].startswith(f"{expected}/dicom-web/studies/")
        assert told[STORED]["Value"][0][URL]["Value"][0].startswith(told[URL]["Value"][0] + "/series/")
