"""What every upload does, wherever it goes: collect, hash each byte once, hand over, and end as one or leave nothing."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Final, Self

from app.extent import Stored
from app.storage.digest import Digests

FLUSH: Final = 1 << 20
# A smaller chunk is copied to its neighbour: of a mebibyte there are 512 buffers at most, of two 1023 (IOV_MAX: 1024).
_SMALL: Final = 4096

Buffers = list[bytes | bytearray | memoryview]


class Collecting(ABC):
    """Collects a mebibyte (of large objects more) while the one before is hashed and written, and holds no more."""

    def __init__(self, key: str, digests: Digests) -> None:
        self._key, self._digests = key, digests
        self._held: Buffers = []
        self._collected = 0
        self._flight: asyncio.Future[Any] | None = None
        self._is_split = False
        self._stored: Stored | None = None

    async def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes; waits while the flush before is not done."""
        if len(chunk) <= FLUSH:
            await self._write(chunk)
            return
        view = memoryview(chunk)
        for start in range(0, len(view), FLUSH):
            await self._write(view[start : start + FLUSH])

    async def _write(self, chunk: bytes | memoryview) -> None:
        self._hold(chunk)
        if self._collected >= self._enough() or (self._is_split and not self._flight and self._may_begin()):
            await self._landed()
            held, self._held, self._collected = self._held, [], 0
            self._start(self._flush(held))

    def split(self, offset: int, seed: bytes) -> None:
        """Hash the data set apart, from `offset`."""
        if self._flight:
            raise ValueError("the data set's offset is told after bytes were hashed")
        self._digests.split(offset, seed)
        self._is_split = True

    @property
    def stored(self) -> Stored:
        """Size and digests, once the block has ended."""
        if not self._stored:
            raise ValueError("the upload has not ended")
        return self._stored

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._landed()
                held, self._held = self._held, []
                await asyncio.shield(self._start(self._finish(held)))
                self._stored = self._digests.stored(self._key)
        finally:
            self._held.clear()
            if not self._stored:
                await asyncio.shield(asyncio.ensure_future(self._abort()))

    @property
    @abstractmethod
    def may_remain(self) -> bool:
        """After a block that failed: the object may be there all the same, or come to be, and nobody knows."""

    def _enough(self) -> int:
        """How many bytes are handed over together."""
        return FLUSH

    def _may_begin(self) -> bool:
        """Whether what is collected may be the first flush although it is little."""
        return False

    @abstractmethod
    def _flush(self, held: Buffers) -> Awaitable[Any]:
        """Hash and write these bytes; more will come."""

    @abstractmethod
    def _finish(self, held: Buffers) -> Awaitable[None]:
        """Hash and write the last bytes, and make the object durable."""

    @abstractmethod
    def _abort(self) -> Awaitable[None]:
        """Leave nothing, whatever was reached and whatever is still under way."""

    def _hold(self, chunk: bytes | memoryview) -> None:
        self._collected += len(chunk)
        if len(chunk) >= _SMALL:
            self._held.append(chunk)
        elif self._held and isinstance(self._held[-1], bytearray):
            self._held[-1] += chunk
        else:
            self._held.append(bytearray(chunk))

    async def _landed(self) -> None:
        if self._flight:
            await asyncio.shield(self._flight)

    def _start(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        self._flight = asyncio.ensure_future(work)
        self._flight.add_done_callback(_seen)
        return self._flight


def _seen(flight: asyncio.Future[None]) -> None:
    """An abandoned flush may fail too; that is no news to anybody."""
    if not flight.cancelled():
        flight.exception()
