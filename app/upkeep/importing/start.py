"""An import from its beginning to its end: where to, what from, how far it is, and how it is stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from app.tools import Tools
from app.upkeep.importing import remote, sources
from app.upkeep.importing.aside import Aside, leave
from app.upkeep.importing.done import Done
from app.upkeep.importing.local import Local
from app.upkeep.importing.remote import Address
from app.upkeep.importing.run import Import
from app.upkeep.importing.sources import Place
from app.upkeep.importing.tally import Tally
from app.upkeep.importing.target import Away, Bounds, Patience, Target
from app.upkeep.importing.watch import Resting

_AWAY_S: Final = 30.0  # a drop folder waits for a target that is away


@dataclass(frozen=True, slots=True)
class Wishes:
    """What to import and how."""

    paths: tuple[str, ...]
    notes: Path
    """The folder of what was imported before."""
    own: frozenset[Place] = frozenset()
    """Folders that are passed by."""
    jobs: int | None = None
    rest_s: float | None = None
    """Watch, and take what has rested so long."""
    again: bool = False
    aside: Aside = leave


async def into(tools: Tools, wishes: Wishes, tally: Tally, stop: asyncio.Event) -> None:
    """Into the archive of these tools."""
    bounds = Bounds(requests=wishes.jobs or Bounds().requests)
    await _import(Local(tools, bounds, Patience(stop, attempts=6)), "", wishes, tally, stop)


async def to(address: Address, wishes: Wishes, tally: Tally, stop: asyncio.Event) -> None:
    """To another server."""
    if address.is_overheard:
        tally.say("The token goes over a connection that is not encrypted.")
    usual = remote.BOUNDS
    bounds = Bounds(wishes.jobs or usual.requests, usual.instances, usual.size)
    async with remote.opened(address, Patience(stop), bounds) as target:
        destination = blake2b(address.studies.encode(), digest_size=16).hexdigest()
        await _import(target, destination, wishes, tally, stop)


async def _import(
    target: Target, destination: str, wishes: Wishes, tally: Tally, stop: asyncio.Event
) -> None:
    def found() -> Iterator[sources.Found]:
        return sources.walk(wishes.paths, wishes.own)

    with Done(wishes.notes, destination) as done:
        work = Import(target, done, tally, stop, aside=wishes.aside, again=wishes.again)
        if wishes.rest_s is None:
            await work.run(found())
            return
        with Resting(found, wishes.rest_s) as resting:
            while not stop.is_set():
                pause_s = await _look(work, resting, tally)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause_s)


async def _look(work: Import, resting: Resting, tally: Tally) -> float:
    """Import what rests; the pause until the next look."""
    try:
        await work.run(resting.look())
    except Away as away:
        tally.say(str(away))
        return _AWAY_S
    await asyncio.to_thread(resting.remember)
    return resting.pause_s


@contextmanager
def stoppable() -> Iterator[asyncio.Event]:
    """Ctrl-C lets what is on its way arrive and begins nothing new; a second one ends that, too."""
    loop, stop, task = asyncio.get_running_loop(), asyncio.Event(), asyncio.current_task()
    assert task is not None

    def told() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextmanager
def shown(wishes: Wishes, *, with_paths: bool) -> Iterator[Tally]:
    """A tally whose progress goes to a terminal, if there is one, and the names of what was refused to the output."""

    def tell(name: str, why: str) -> None:
        sys.stdout.write(f"{name}\t{why}\n")
        sys.stdout.flush()

    def say(sentence: str) -> None:
        sys.stderr.write(f"reelweb: {sentence}\n")
        sys.stderr.flush()

    tally = Tally(say=say)
    if with_paths:
        tally.tell = tell
    if not sys.stderr.isatty():
        yield tally
        return
    with _bar() as bar:
        task = bar.add_task("import", total=None, files=0)

        def advance(weight: int) -> None:
            bar.update(task, advance=weight, files=tally.met)

        tally.advance = advance
        with _census(wishes, lambda total: bar.update(task, total=total)):
            yield tally


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[files]} files"),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def _census(wishes: Wishes, tell: Callable[[int], None]) -> Iterator[None]:
    """Meanwhile a thread adds up what there is to import; a drop folder has no end."""
    over = False

    def count() -> None:
        total = 0
        for weight in sources.census(wishes.paths, wishes.own):
            total += weight
            if over:
                return
        tell(total)

    if wishes.rest_s is None:
        asyncio.get_running_loop().run_in_executor(None, count)
    try:
        yield
    finally:
        over = True
