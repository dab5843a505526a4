"""Stored objects read again: what the journal's records say, what a scanner sees, whether each byte is the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from app.dicom import attributes
from app.dicom.scanner import Scan, Scanner
from app.errors import NotFound, ReelwebError, Refused
from app.extent import Stored
from app.index import journal
from app.index.journal import Acknowledged
from app.index.ledger import Ledger
from app.storage.digest import Digests
from app.tools import Tools

_PIECE: Final = 1 << 20
_RECORDS: Final = 2000  # entries told at once


class Different(ReelwebError):
    """The bytes are not those that were acknowledged."""


class Pace:
    """At most so many bytes a second and objects at once, so that those who are served do not feel it."""

    def __init__(self, bytes_per_s: float | None = None, at_once: int = 4) -> None:
        self.gate = asyncio.Semaphore(at_once)
        self._rate, self._free = bytes_per_s, time.monotonic()

    async def take(self, size: int) -> None:
        """Wait for this many bytes' turn."""
        if self._rate:
            self._free = max(self._free, time.monotonic()) + size / self._rate
            await asyncio.sleep(self._free - time.monotonic())


@dataclass(frozen=True, slots=True)
class Journal:
    """How the journal was found."""

    objects: int
    damaged: list[str]


async def tell_journal(tools: Tools, ledger: Ledger) -> Journal:
    """Read every record into the ledger; the keys of those that are damaged."""
    count, damaged = 0, []
    stored: list[Acknowledged] = []
    removed: list[str] = []
    async with ledger.reading():
        async for entry in tools.storage.list("journal/"):
            count += 1
            try:
                lines = await tools.storage.read(entry.key, 0, entry.size)
                for some, gone in journal.parse(bytes(lines)):
                    stored += some
                    removed += gone
            except journal.Damaged:
                damaged.append(entry.key)
            if len(stored) + len(removed) >= _RECORDS:
                await ledger.tell(stored, removed)
                stored, removed = [], []
        await ledger.tell(stored, removed)
    return Journal(count, damaged)


async def list_all(tools: Tools, ledger: Ledger, prefix: str) -> None:
    """Tell the ledger which objects the storage has."""
    some: list[tuple[str, int]] = []
    async for entry in tools.storage.list(prefix):
        some.append((entry.key, entry.size))
        if len(some) >= _RECORDS:
            await ledger.see(some)
            some = []
    await ledger.see(some)


async def _pieces(tools: Tools, key: str, size: int, pace: Pace) -> AsyncIterator[memoryview]:
    for offset in range(0, size, _PIECE):
        length = min(_PIECE, size - offset)
        await pace.take(length)
        yield await tools.storage.read(key, offset, length)


async def check(tools: Tools, stored: Stored, dataset_offset: int, syntax: str, pace: Pace) -> None:
    """Raise Different or NotFound unless each byte is what was stored."""
    digests = Digests()
    digests.split(dataset_offset, syntax.encode() + b"\0")
    await check_length(tools, stored)
    async for piece in _pieces(tools, stored.key, stored.size, pace):
        await asyncio.to_thread(digests.update, piece)
    if (digests.prefix_sha256(), digests.dataset_sha256()) != (stored.prefix_sha256, stored.dataset_sha256):
        raise Different("The object's bytes are not those that were stored.")


async def check_length(tools: Tools, stored: Stored) -> None:
    """The same of the length alone."""
    if await tools.storage.size(stored.key) != stored.size:
        raise Different("The object has another length.")


async def scan(tools: Tools, stored: Stored, pace: Pace) -> tuple[Scan, bool]:
    """What a scanner sees in an object, and whether its bytes are what was stored; Refused, Different, NotFound."""
    await check_length(tools, stored)
    found, seen = await look(tools, stored.key, stored.size, pace)
    return found, seen == stored


async def look(tools: Tools, key: str, size: int, pace: Pace) -> tuple[Scan, Stored]:
    """What a scanner sees in an object of which nothing is known, and its digests; Refused, NotFound."""
    scanner, digests = Scanner(tools.limits, attributes.STORED), Digests()
    held: list[memoryview] | None = []
    async for piece in _pieces(tools, key, size, pace):
        await asyncio.to_thread(scanner.feed, piece)
        if held is None:
            await asyncio.to_thread(digests.update, piece)
            continue
        held.append(piece)
        if scanner.dataset_offset is not None and scanner.transfer_syntax_uid is not None:
            digests.split(scanner.dataset_offset, scanner.transfer_syntax_uid.encode() + b"\0")
            for one in held:
                await asyncio.to_thread(digests.update, one)
            held = None
    found = await asyncio.to_thread(scanner.close)
    return found, Stored(key, size, digests.prefix_sha256(), digests.dataset_sha256())


def why(error: Exception) -> str:
    """One word for what is wrong with an object."""
    if isinstance(error, NotFound):
        return "missing"
    return "unreadable" if isinstance(error, Refused) else "different"
