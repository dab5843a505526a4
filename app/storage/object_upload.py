"""One object on its way into an object store: one put when it is small, else parts, within a budget."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

from app.errors import FailureReason, Refused
from app.extent import Stored
from app.storage.digest import Digests

if TYPE_CHECKING:
    from obstore import AsyncWritableFile

T = TypeVar("T")
FLUSH: Final = 1 << 20
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


class ObjectUpload:
    """Collects a mebibyte while the one before is hashed and sent; nobody sees the object before its end."""

    def __init__(self, key: str, sink: Sink, budget: Budget, pool: Executor, expected: int | None) -> None:
        self._key, self._sink, self._budget, self._pool = key, sink, budget, pool
        self._part = part_size(expected)
        self._reserve = min(self._part, expected or self._part) + 2 * FLUSH
        self._reserved = 0
        self._digests = Digests()
        self._held: list[bytes | memoryview] = []
        self._collected = self._size = 0
        self._writer: AsyncWritableFile | None = None
        self._flight: asyncio.Task[None] | None = None
        self._completing = False
        self._aborted = False
        self._stored: Stored | None = None

    async def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes; waits while the flush before is not done."""
        self._held.append(chunk)
        self._collected += len(chunk)
        if self._collected >= FLUSH:
            await self._landed()
            held, self._held, self._collected = self._held, [], 0
            self._start(self._flush(held))

    def split(self, offset: int, seed: bytes) -> None:
        """Hash the data set apart, from `offset`."""
        if self._flight:
            raise ValueError("the data set's offset is told after bytes were hashed")
        self._digests.split(offset, seed)

    @property
    def may_remain(self) -> bool:
        """An attempt to complete whose answer was lost can succeed yet, also after it was removed."""
        return self._completing or not self._aborted

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
                await self._commit()
        finally:
            self._held.clear()
            if not self._stored:
                await asyncio.shield(asyncio.ensure_future(self._abort()))
            else:
                self._release()

    async def _commit(self) -> None:
        await self._landed()
        await self._start(self._complete())
        prefix, dataset = self._digests.prefix_sha256(), self._digests.dataset_sha256()
        self._stored = Stored(self._key, self._size, prefix, dataset)

    async def _flush(self, held: list[bytes | memoryview]) -> None:
        if not self._reserved:
            await self._budget.take(self._reserve)
            self._reserved = self._reserve
        data = await self._hashed(held)
        if self._size > self._part * PARTS:
            raise Refused(
                "The instance is too large to be stored without its length being told first.",
                FailureReason.OUT_OF_RESOURCES,
            )
        if not self._writer:
            self._writer = self._sink.open(self._key, self._part)
        await self._sink.writing(self._writer.write(data))

    async def _complete(self) -> None:
        if not self._writer:
            data = await self._hashed(self._held)
            self._completing = True
            await self._sink.put(self._key, data)
            return
        if self._held:
            await self._flush(self._held)
        # While a part fails here the upload can still be aborted; a failure in `close` leaves it to the sweep.
        await self._sink.writing(self._writer.flush())
        self._completing = True
        await self._sink.writing(self._writer.close())

    async def _abort(self) -> None:
        """Leave nothing; what is under way ends first, so that nothing comes after."""
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

    async def _hashed(self, held: list[bytes | memoryview]) -> bytes:
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._pool, self._hash, held)
        self._size += len(data)
        return data

    def _hash(self, held: list[bytes | memoryview]) -> bytes:
        data = b"".join(held)
        self._digests.update(data)
        return data

    async def _landed(self) -> None:
        if self._flight:
            await asyncio.shield(self._flight)

    def _start(self, work: Coroutine[Any, Any, None]) -> Awaitable[None]:
        self._flight = asyncio.create_task(work)
        self._flight.add_done_callback(_seen)
        return asyncio.shield(self._flight)


def _seen(task: asyncio.Task[None]) -> None:
    """An abandoned flush may fail too; that is no news to anybody."""
    if not task.cancelled():
        task.exception()
