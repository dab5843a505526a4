"""Threads for work that waits on a disk, and one hop to them and back.

An executor of the standard library makes two futures, three locks and a chain of callbacks of each piece of work: half
of what a hop costs, and an instance that comes alone makes two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads:
    """At most so many, started when they are needed; to be used on one event loop."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._threads: list[Thread] = []
        self._unfinished = 0
        self._works: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Any, Any] | None] = (
            SimpleQueue()
        )

    def run(self, work: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> asyncio.Future[T]:
        """What a thread made of it; cancelled before its turn it is not done, and later it is done for nobody."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._unfinished >= len(self._threads) < self._most:
            thread = Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            thread.start()  # one that cannot start is none, and its work was not taken
            self._threads.append(thread)
        self._unfinished += 1
        self._works.put((loop, future, work, arguments))
        return future

    @property
    def is_idle(self) -> bool:
        """Nothing is being done or waits for its turn."""
        return not self._unfinished

    async def close(self) -> None:
        """Returns when everything is done and the threads have ended."""
        for _ in self._threads:
            self._works.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        while item := self._works.get():
            loop, future, work, arguments = item
            result, error = None, None
            if not future.cancelled():
                try:
                    result = work(*arguments)
                except BaseException as raised:  # noqa: BLE001 - whoever asked is told
                    error = raised
            try:
                loop.call_soon_threadsafe(self._settle, future, result, error)
            except RuntimeError:  # the loop is closed: nobody waits
                return
            del item, future, work, arguments, result, error  # while waiting, hold nothing

    def _settle(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        self._unfinished -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
