"""Work in threads: each piece is told how it ended, no more run at once than may, and closing waits for all."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from app.storage.threads import Threads


async def test_work_comes_back_with_its_result_or_its_error() -> None:
    threads = Threads(2, "test")
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    assert await threads.run(lambda: threading.current_thread().name) == "test_0"
    await threads.close()


async def test_no_more_work_runs_at_once_than_there_are_threads() -> None:
    threads, running, most = Threads(3, "test"), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    await asyncio.gather(*(threads.run(work) for _ in range(12)))
    assert most == 3
    await threads.close()


async def test_what_is_cancelled_before_its_turn_is_not_done() -> None:
    """And what runs already harms nobody when it ends."""
    threads, gate, done = Threads(1, "test"), threading.Event(), list[str]()
    first = threads.run(gate.wait)
    second = threads.run(done.append, "second")
    second.cancel()
    first.cancel()
    gate.set()
    await threads.run(done.append, "third")
    assert done == ["third"]
    await threads.close()


async def test_closing_waits_for_what_runs() -> None:
    threads, done = Threads(2, "test"), list[int]()

    def work() -> None:
        time.sleep(0.05)
        done.append(1)

    for _ in range(5):
        threads.run(work)
    await threads.close()
    assert len(done) == 5
    assert not any(thread.is_alive() for thread in threads._threads)


async def test_a_thread_that_cannot_start_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process may have no more threads for a while, what comes later is done."""
    threads = Threads(1, "test")
    with monkeypatch.context() as patched:
        patched.setattr("threading._start_new_thread", _none)
        with pytest.raises(RuntimeError):
            threads.run(divmod, 7, 2)
    assert threads.is_idle
    assert await threads.run(divmod, 7, 2) == (3, 1)
    await threads.close()


def _none(*_: object) -> None:
    raise RuntimeError("can't start new thread")
