"""Times each callback on the event loop of a web worker by its thread's processor time; stow.py puts it in the path.

The longest ones stand in the file that CALLBACKS names. What uvloop itself does between callbacks is not seen.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, thread_time
from typing import Any

FOLDER = Path(__file__).parent
MOST = 5
EVERY_S = 0.5


class Longest:
    """The callbacks that took longest, and how many there were."""

    def __init__(self, file: Path) -> None:
        self._file, self._written = file, 0.0
        self._found: list[tuple[float, str]] = []
        self._count = 0
        self.begun = False  # a start may take its time

    def timed(self, callback: Callable[..., object]) -> Callable[..., object]:
        """The same callback, with a clock."""

        def run(*arguments: Any) -> object:
            began = thread_time()
            try:
                return callback(*arguments)
            finally:
                self._take(thread_time() - began, callback)

        return run

    def _take(self, seconds: float, callback: Callable[..., object]) -> None:
        if not self.begun:
            return
        self._count += 1
        if len(self._found) < MOST or seconds > self._found[0][0]:
            (heapq.heappush if len(self._found) < MOST else heapq.heappushpop)(
                self._found, (seconds, _name(callback))
            )
        if monotonic() > self._written + EVERY_S:
            self._written = monotonic()
            lines = [f"{self._count} callbacks"]
            lines += [f"{took * 1e3:.1f} ms {name}" for took, name in sorted(self._found, reverse=True)]
            self._file.write_text("\n".join(lines))


def _name(callback: Callable[..., object]) -> str:
    task: Any = getattr(callback, "__self__", None)
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else callback
    return str(getattr(coroutine, "__qualname__", type(coroutine).__name__))


def install(longest: Longest) -> None:
    """Every loop that is made from now on is watched."""
    import uvloop  # noqa: PLC0415 - only the process that is watched has it
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol  # noqa: PLC0415

    class Loop(uvloop.Loop):
        # the stub of the library has more in these signatures than the library asks for
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
            return super().call_soon(longest.timed(callback), *args, context=context)

        def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
            return super().call_soon_threadsafe(longest.timed(callback), *args, context=context)

        def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
            return super().call_later(delay, longest.timed(callback), *args, context=context)

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
            return super().call_at(when, longest.timed(callback), *args, context=context)

    def watched(protocol: type[HttpToolsProtocol]) -> None:
        received = protocol.data_received

        def data_received(self: HttpToolsProtocol, data: bytes) -> None:
            longest.begun = True
            longest.timed(received)(self, data)

        protocol.data_received = data_received  # type: ignore[method-assign] # it is watched

    # Ours, when it is defined.
    HttpToolsProtocol.__init_subclass__ = classmethod(watched)  # type: ignore[assignment] # as above
    uvloop.Loop = Loop  # type: ignore[misc] # new_event_loop makes it


if "CALLBACKS" in os.environ and "web-worker" in sys.orig_argv:
    install(Longest(Path(os.environ["CALLBACKS"])))
