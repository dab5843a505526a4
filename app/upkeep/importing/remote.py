"""To another server, by STOW-RS (PS3.18 10.5): bodies are streamed, outcomes read, and what may pass is tried again."""

from __future__ import annotations

import asyncio
import email.utils
import time
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from secrets import token_hex
from typing import Final
from urllib.parse import urlsplit

import httpx

from app.dicom.scanner import Limits, Scanner
from app.errors import Refused
from app.upkeep.importing import answers
from app.upkeep.importing.answers import Answer
from app.upkeep.importing.items import Reading, Unreadable
from app.upkeep.importing.tally import Ending, Result, refused
from app.upkeep.importing.target import Away, Bounds, Patience

BOUNDS: Final = Bounds(requests=4, instances=100, size=16 << 20)
_TIMES: Final = httpx.Timeout(connect=10, read=600, write=120, pool=None)
_LONGEST_ANSWER: Final = 16 << 20
_LATER: Final = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_CLOSED: Final = {
    HTTPStatus.UNAUTHORIZED: "The other server wants a token (REELWEB_IMPORT_TOKEN) or another one.",
    HTTPStatus.FORBIDDEN: "The other server does not let this token store.",
    HTTPStatus.NOT_FOUND: "There is no DICOMweb root at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "Nothing can be stored at this address.",
    HTTPStatus.NOT_IMPLEMENTED: "Nothing can be stored at this address.",
}
_IN_VAIN: Final = 3  # instances given up one after the other


@dataclass(frozen=True, slots=True)
class Address:
    """The DICOMweb root of another server, who we are there, and whom to trust beside the usual authorities."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None

    def __post_init__(self) -> None:
        url = urlsplit(self.url)
        if (
            url.scheme not in {"http", "https"}
            or not url.hostname
            or url.query
            or url.fragment
            or "@" in url.netloc
        ):
            raise ValueError(
                "--url must be http:// or https:// with a host, and neither user, query nor fragment."
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("The token must be one line of ASCII.")

    @property
    def studies(self) -> str:
        """The Studies resource."""
        root = self.url.rstrip("/")
        return root if root.endswith("/studies") else f"{root}/studies"

    @property
    def is_overheard(self) -> bool:
        """A token goes where others can read it."""
        url = urlsplit(self.url)
        is_near = url.hostname in {"localhost", "127.0.0.1", "::1"}
        return self.token is not None and url.scheme == "http" and not is_near

    @property
    def headers(self) -> dict[str, str]:
        """`user:password` is a token too."""
        told = {"Accept": "application/dicom+json", "User-Agent": "reelweb"}
        if self.token is None:
            return told
        basic = f"Basic {b64encode(self.token.encode()).decode()}"
        return told | {"Authorization": basic if ":" in self.token else f"Bearer {self.token}"}


@asynccontextmanager
async def opened(address: Address, patience: Patience, bounds: Bounds = BOUNDS) -> AsyncIterator[Remote]:
    """The other server, for the time of the block."""
    trust = httpx.create_ssl_context()
    if address.ca is not None:
        trust.load_verify_locations(address.ca)
    limits = httpx.Limits(max_connections=bounds.requests, max_keepalive_connections=bounds.requests)
    async with httpx.AsyncClient(
        verify=trust, headers=address.headers, timeout=_TIMES, limits=limits
    ) as client:
        yield Remote(client, address.studies, patience, bounds)


class _Failed(Exception):
    """A request without an answer that settles anything; it may be tried again."""

    def __init__(self, why: str, pause_s: float | None = None, *, is_gone: bool = False) -> None:
        super().__init__(why)
        self.pause_s, self.is_gone = pause_s, is_gone


class _Broken(Exception):
    """The bytes of one instance could not be read to their end, so the request was given up."""

    def __init__(self, reading: Reading, why: str) -> None:
        super().__init__(why)
        self.reading = reading


class Remote:
    """Any STOW-RS server."""

    def __init__(self, client: httpx.AsyncClient, url: str, patience: Patience, bounds: Bounds) -> None:
        self.bounds = bounds
        self._client, self._url, self._patience = client, url, patience
        self._in_vain = 0

    async def has(self, sop_instance_uids: Sequence[str]) -> set[str]:
        """It is believed that it keeps what it took: to ask for each would cost as much as to send it."""
        return set(sop_instance_uids)

    async def send(self, readings: Sequence[Reading]) -> list[Result]:
        """All in one request; what its answer leaves open is sent again, one by one."""
        results = await self._told(readings)
        for reading in readings:
            if reading not in results:
                results |= await self._told([reading])
        return [results[reading] for reading in readings]

    async def _told(self, batch: Sequence[Reading]) -> dict[Reading, Result]:
        """What is known after one request that was answered; of a single instance that is everything."""
        attempt = 0
        while True:
            attempt += 1
            uids: dict[Reading, str] = {}
            try:
                status, answer = await self._post(batch, uids)
            except _Broken as broken:
                return {broken.reading: refused(str(broken))}
            except _Failed as failed:
                if await self._patience.again(attempt, failed.pause_s):
                    continue
                return self._given_up(batch, failed)
            self._in_vain = 0
            return _results(batch, uids, status, answer)

    def _given_up(self, batch: Sequence[Reading], failed: _Failed) -> dict[Reading, Result]:
        """One instance that no server survives must not keep the others out."""
        self._in_vain += len(batch) == 1
        if failed.is_gone or self._in_vain >= _IN_VAIN or self._patience.stop.is_set():
            raise Away(str(failed))
        return {batch[0]: refused(str(failed))} if len(batch) == 1 else {}

    async def _post(self, batch: Sequence[Reading], uids: dict[Reading, str]) -> tuple[int, Answer]:
        boundary = token_hex(16)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(_length(batch, boundary)),
        }
        try:
            async with (
                aclosing(_body(batch, boundary, uids)) as body,
                self._client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                return response.status_code, await _read(response)
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Away("The other server's certificate is not trusted: see --ca.") from error
            raise _Failed("The other server cannot be reached.", is_gone=True) from error
        except httpx.TransportError as error:
            raise _Failed(f"The other server does not answer ({type(error).__name__}).") from error


async def _read(response: httpx.Response) -> Answer:
    status = response.status_code
    if status in _LATER:
        raise _Failed(f"The other server answers with status {status}.", _retry_after(response))
    if status in _CLOSED:
        raise Away(_CLOSED[HTTPStatus(status)])
    if response.is_redirect:
        raise Away("The other server points to another address: give that one to --url.")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _LONGEST_ANSWER:
            return Answer()
    return answers.read(bytes(body))


def _results(
    batch: Sequence[Reading], uids: dict[Reading, str], status: int, answer: Answer
) -> dict[Reading, Result]:
    is_well = status in {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}
    times = Counter(uids.values())
    results: dict[Reading, Result] = {}
    for reading in batch:
        uid = uids.get(reading, "")
        if uid and (times[uid] == 1 or len(batch) == 1):
            if uid in answer.failed:
                results[reading] = refused(answer.failed[uid])
            elif uid in answer.warned:
                results[reading] = Result(Ending.WARNED, answer.warned[uid])
            elif uid in answer.stored or (is_well and not answer.is_telling):
                results[reading] = Result(Ending.STORED, sop_instance_uid=uid)
    if len(batch) == 1 and not results:
        why = [*answer.failed.values(), *answer.other] or [f"The other server refused it: status {status}."]
        stored = Result(Ending.STORED, sop_instance_uid=uids.get(batch[0], ""))
        results[batch[0]] = stored if is_well and not answer.failed and not answer.other else refused(why[0])
    return results


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, told as such or as a date (RFC 9110 10.2.3)."""
    told = response.headers.get("retry-after", "").strip()
    if told.isdecimal() and told.isascii():
        return float(told[:9])
    try:
        return email.utils.parsedate_to_datetime(told).timestamp() - time.time()
    except ValueError:
        return None


def _opening(boundary: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")


def _closing(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode("ascii")


def _length(batch: Sequence[Reading], boundary: str) -> int:
    """Of the body, so that the server knows what comes."""
    between = len(_opening(boundary)) + len(b"\r\n")
    return sum(between + reading.item.size for reading in batch) + len(_closing(boundary))


async def _body(
    batch: Sequence[Reading], boundary: str, uids: dict[Reading, str]
) -> AsyncGenerator[bytes, None]:
    """The parts one after the other; tells in passing which instances they are."""
    for reading in batch:
        yield _opening(boundary)
        scanner: Scanner | None = Scanner(Limits(normalise=True))
        try:
            async with aclosing(reading.chunks()) as chunks:
                async for chunk in chunks:
                    if scanner is not None and await _met(scanner, chunk):
                        if scanner.head is not None:
                            uids[reading] = scanner.head.sop_instance_uid
                        scanner = None
                    yield chunk
        except Unreadable as error:
            raise _Broken(reading, str(error)) from error
        yield b"\r\n"
    yield _closing(boundary)


async def _met(scanner: Scanner, chunk: bytes) -> bool:
    """Whether the head is known by now, or never will be."""
    try:
        for _ in scanner.steps(chunk):
            await asyncio.sleep(0)
    except Refused:
        return True  # the other server judges
    return scanner.head is not None
