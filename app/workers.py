"""CPU work off the event loop: a bounded pool and a bounded queue; functions and arguments are picklable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from app.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
_STOPPING = "The server is stopping."


class Workers:
    """Threads now; callers hand over functions and plain values, so that processes can take their place.

    Work that has begun cannot be stopped: it keeps its place until it ends, also when nobody waits for it
    any more, so that the bound stays honest.
    """

    def __init__(self, size: int = 2, queue: int = 64, timeout_s: float = 30.0) -> None:
        self._executor = ThreadPoolExecutor(size, "worker")
        self._places = size + queue
        self._taken = 0
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    @property
    def taken(self) -> int:
        """How much work waits or runs."""
        return self._taken

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns or raises; Unavailable when the queue is full or the time is over."""
        if self._taken >= self._places:
            raise Unavailable("The server has more pictures to make than it can; try again later.", 1)
        work = self._submit(function, *args, **kwargs)
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                return await asyncio.wrap_future(work)
        except TimeoutError as error:
            if not limit.expired():  # the function's own
                raise
            raise Unavailable("Making the picture took too long; try again later.") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Unavailable(_STOPPING) from error  # the pool dropped the work, nobody cancelled the caller

    def _submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        loop = asyncio.get_running_loop()
        try:
            work = self._executor.submit(function, *args, **kwargs)
        except RuntimeError as error:
            raise Unavailable(_STOPPING) from error
        self._taken += 1
        work.add_done_callback(lambda _: _leave(loop, self._release))
        return work

    def _release(self) -> None:
        self._taken -= 1


def _leave(loop: asyncio.AbstractEventLoop, release: Callable[[], None]) -> None:
    """Count on the loop's thread; a loop that is closed counts nothing any more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(release)
