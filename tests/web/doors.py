"""A server of the test's own with what lies behind its doors, and the few requests that every test makes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pydicom
from pydicom.dataset import Dataset

from app.index.changes import Changes
from app.settings import Settings
from tests import make
from tests.running import running
from tests.storages import half

MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=reelweb-test'}
STORED, FAILED, OTHER, REASON, WARNING, URL = (
    "00081199",
    "00081198",
    "0008119A",
    "00081197",
    "00081196",
    "00081190",
)

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would read all certificates anew for each request
get = partial(httpx.get, verify=TLS, timeout=30)
head = partial(httpx.head, verify=TLS, timeout=30)
post = partial(httpx.post, verify=TLS, timeout=30)
options = partial(httpx.options, verify=TLS, timeout=30)
request = partial(httpx.request, verify=TLS, timeout=30)


@dataclass(frozen=True, slots=True)
class Archive:
    """A server, its folder and its database."""

    url: str
    folder: Path
    dsn: str
    heard: list[object]
    """What came with the changes that the server heard of."""

    @property
    def root(self) -> str:
        return f"{self.url}/dicom-web"

    def objects(self) -> set[str]:
        """Every file in the storage, also those that have no name yet, but the journal's records."""
        storage = self.folder / "storage"
        files = [str(path.relative_to(storage)) for path in storage.rglob("*") if path.is_file()]
        return {file for file in [*files, *half(storage, os.getpid())] if not file.startswith("journal/")}

    def column(self, statement: str) -> list[Any]:
        """The first column of a statement's rows."""
        return asyncio.run(_column(self.dsn, statement))

    def hears(self) -> None:
        """Wait until the server has heard of every change that was committed before: NOTIFY keeps their order."""
        token, ends = uuid4().hex, time.monotonic() + 30
        self.column(f"select pg_notify('archive_changed', '{token}')")
        while token not in self.heard:
            assert time.monotonic() < ends, "the server hears of nothing"
            time.sleep(0.01)


async def _column(dsn: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(statement)]
    finally:
        await connection.close()


@contextmanager
def serving(dsn: str, folder: Path, **settings: Any) -> Iterator[Archive]:
    """A server with these settings while the block lasts."""
    heard, happened = list[object](), Changes.happened

    def hear(self: Changes, *told: object) -> None:
        happened(self, *told)
        heard.extend(told[3:])

    with (
        patch.object(Changes, "happened", hear),
        running(Settings(database_url=dsn, data_dir=folder, **settings)) as url,
    ):
        yield Archive(url, folder, dsn, heard)


def store(root: str, *instances: bytes, study: str = "", **headers: str) -> httpx.Response:
    """One STOW request of several parts."""
    address = f"{root}/studies/{study}".rstrip("/")
    return post(address, content=make.multipart(instances), headers=MULTIPART | headers)


def stored(root: str, *instances: bytes) -> list[str]:
    """The addresses of instances that must all be stored."""
    answer = store(root, *instances)
    assert answer.status_code == 200, answer.text
    return [item[URL]["Value"][0] for item in answer.json()[STORED]["Value"]]


def reasons(answer: httpx.Response, tag: str = FAILED) -> list[int]:
    """The failure reasons of an answer to STOW."""
    return [item[REASON]["Value"][0] for item in answer.json().get(tag, {}).get("Value", ())]


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(data))


def parts(answer: httpx.Response) -> list[tuple[dict[str, str], bytes]]:
    """Header fields, by lower-case name, and body of each part of an answer."""
    kind, _, rest = answer.headers["content-type"].partition(";")
    assert kind == "multipart/related", answer.headers["content-type"]
    boundary = rest.partition("boundary=")[2].strip('"').encode()
    first, *middle, last = (b"\r\n" + answer.content).split(b"\r\n--" + boundary)
    assert (first, last.strip()) == (b"", b"--")
    return [_part(piece) for piece in middle]


def _part(piece: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = piece.partition(b"\r\n\r\n")
    lines = [line.partition(":") for line in head.decode().split("\r\n") if line]
    return {name.lower(): value.strip() for name, _, value in lines}, body


def is_problem(answer: httpx.Response, status: int) -> str:
    """The one sentence of a problem document, which must have everything that belongs to it."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "request_id"}
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    detail: str = document["detail"]
    assert detail.endswith(".")
    return detail


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A bare connection to the server."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    with socket.create_connection((host, port), timeout=15) as connection:
        yield connection


def spoken(connection: socket.socket, *pieces: bytes) -> bytes:
    """Send pieces, and read until the server closes or an answer with a Content-Length is whole."""
    for piece in pieces:
        connection.sendall(piece)
    return whole_answer(connection)


def whole_answer(connection: socket.socket) -> bytes:
    answer = b""
    while chunk := connection.recv(65536):
        answer += chunk
        head, end, body = answer.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if end and lengths and len(body) >= int(lengths[0].partition(b":")[2]):
            break
    return answer


def problem_of(answer: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return document
