"""Reading ahead in one request: while an instance is made durable, the next one is read (PS3.18 10.5)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class Room:
    """How many instances a process may have read and not yet kept, beyond the one that each request may."""

    def __init__(self, most: int) -> None:
        self._free = most

    def take(self) -> bool:
        """One more, if there is room."""
        if self._free < 1:
            return False
        self._free -= 1
        return True

    def give(self) -> None:
        """One less."""
        self._free += 1


class Ahead(Generic[T]):
    """The works of one request in their order; the block ends when all of them have.

    An error inside the block ends no work: what was read as a whole is kept, and its outcome told.
    """

    def __init__(self, room: Room, tell: Callable[[T], None]) -> None:
        self._room, self._tell = room, tell
        self._tasks: deque[asyncio.Task[T]] = deque()

    async def add(
        self,
        chunks: AsyncIterator[memoryview],
        work: Callable[[AsyncIterator[memoryview]], Coroutine[Any, Any, T]],
    ) -> None:
        """Begin a work on these chunks; returns when it needs no more of them and there is room for another."""
        read = asyncio.Event()
        task = asyncio.create_task(work(_until(read, chunks)))
        task.add_done_callback(lambda _: read.set())
        self._tasks.append(task)
        await read.wait()
        if task.done() or not self._room.take():
            await self._until_told(0)
            return
        task.add_done_callback(lambda _: self._room.give())
        while self._tasks and self._tasks[0].done():
            await self._until_told(len(self._tasks) - 1)

    async def _until_told(self, left: int) -> None:
        """Tell the outcomes of the oldest, until so many are left."""
        while len(self._tasks) > left:
            try:
                self._tell(await self._tasks[0])
            finally:  # one that failed as nobody foresaw ends none of those behind it
                self._tasks.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, Exception):
                await self._until_told(0)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


async def _until(read: asyncio.Event, chunks: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
    async for chunk in chunks:
        yield chunk
    read.set()
