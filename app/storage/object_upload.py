"""One object on its way into an object store: one put when it is small, else parts, within a budget."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from app.errors import FailureReason, Refused
from app.storage.collecting import FLUSH, Buffers, Collecting
from app.storage.digest import Digests

if TYPE_CHECKING:
    from obstore import AsyncWritableFile

T = TypeVar("T")
SMALLEST_PART: Final = 5 << 20  # S3 takes no smaller one, but for the last
LARGEST_PART: Final = 640 << 20  # 10,000 of them are more than the largest object, 5 TiB
UNKNOWN_PART: Final = 16 << 20  # of an object whose length nobody told: 156 GiB
PARTS: Final = 9_990  # S3 takes 10,000


class Budget:
    """Bytes that all uploads of a process hold together; who comes first gets first."""

    def __init__(self, size: int) -> None:
        self.size, self.taken = size, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait until so many bytes are free; one that wants more than there are waits to be alone."""
        if not self._waiting and self._fits(size):
            self.taken += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            else:
                self._waiting.remove((size, turn))
                self.give(0)
            raise

    def give(self, size: int) -> None:
        """Give them back."""
        self.taken -= size
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self.taken += wanted
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self.taken or self.taken + size <= self.size


class Sink(Protocol):
    """What an upload needs of the store; errors come translated."""

    async def put(self, key: str, data: bytes) -> None:
        """Store a small object at once."""

    def open(self, key: str, part: int) -> AsyncWritableFile:
        """Begin a large one, in parts of this size, one under way at a time."""

    async def writing(self, act: Awaitable[T]) -> T:
        """Await what writes."""

    async def discard(self, key: str) -> None:
        """Remove what an attempt to complete may have left; never raises."""


def part_size(expected: int | None) -> int:
    """Of an object of at most `expected` bytes: as small as 10,000 parts allow, since parts are held."""
    if expected is None:
        return UNKNOWN_PART
    return min(max(SMALLEST_PART, -(-expected // PARTS)), LARGEST_PART)


class ObjectUpload(Collecting):
    """An upload of which nobody sees anything before its end."""

    def __init__(self, key: str, sink: Sink, budget: Budget, pool: Executor, expected: int | None) -> None:
        super().__init__(key, Digests())
        self._sink, self._budget, self._pool = sink, budget, pool
        self._part = part_size(expected)
        self._reserve = min(self._part, expected or self._part) + 2 * FLUSH
        self._reserved = 0
        self._writer: AsyncWritableFile | None = None
        self._completing = self._aborted = False

    @property
    def may_remain(self) -> bool:
        """An attempt to complete whose answer was lost can succeed yet, also after it was removed."""
        return self._completing or not self._aborted

    async def _flush(self, held: Buffers) -> None:
        if not self._reserved:
            await self._budget.take(self._reserve)
            self._reserved = self._reserve
        data = await self._hashed(held)
        if self._digests.size > self._part * PARTS:
            raise Refused(
                "The instance is too large to be stored without its length being told first.",
                FailureReason.OUT_OF_RESOURCES,
            )
        if not self._writer:
            self._writer = self._sink.open(self._key, self._part)
        await self._sink.writing(self._writer.write(data))

    async def _finish(self, held: Buffers) -> None:
        if not self._writer:
            data = await self._hashed(held)
            self._completing = True
            await self._sink.put(self._key, data)
            return
        if held:
            await self._flush(held)
        # While a part fails here the upload can still be aborted; a failure in `close` leaves it to the sweep.
        await self._sink.writing(self._writer.flush())
        self._completing = True
        await self._sink.writing(self._writer.close())
        self._release()

    async def _abort(self) -> None:
        """What is under way ends first, so that nothing comes after."""
        if self._flight:
            if not (self._reserved or self._completing):  # it waits for its turn: nothing was sent
                self._flight.cancel()
            await asyncio.wait([self._flight])
        if self._completing:
            await self._sink.discard(self._key)
        elif self._writer:
            stop = Refused("aborted")
            with suppress(Exception):  # what cannot be aborted is swept
                await self._writer.__aexit__(type(stop), stop, None)
        self._release()
        self._aborted = True

    def _release(self) -> None:
        self._writer = None
        if self._reserved:
            self._budget.give(self._reserved)
            self._reserved = 0

    async def _hashed(self, held: Buffers) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._hash, held)

    def _hash(self, held: Buffers) -> bytes:
        data = b"".join(held)
        held.clear()  # not held twice while it is sent
        self._digests.update(data)
        return data
