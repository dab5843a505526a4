"""Imports in a test's own process, and folders to import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.tools import Tools
from app.upkeep.importing import start
from app.upkeep.importing.aside import Aside, leave
from app.upkeep.importing.remote import Address
from app.upkeep.importing.tally import Ending, Tally
from tests import make


@dataclass
class Told:
    """What an import said, and how it ended."""

    tally: Tally
    refused: dict[str, str] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    @property
    def endings(self) -> dict[str, int]:
        return {ending.value: count for ending, count in self.tally.endings.items() if count}

    def count(self, ending: Ending) -> int:
        return self.tally.endings[ending]


def told() -> Told:
    made = Told(Tally())
    made.tally.tell = made.refused.__setitem__
    made.tally.say = made.sentences.append
    return made


def wishes(
    paths: Iterable[Path],
    notes: Path,
    *,
    again: bool = False,
    rest_s: float | None = None,
    aside: Aside = leave,
    jobs: int | None = None,
) -> start.Wishes:
    return start.Wishes(
        tuple(map(str, paths)), notes / "import", again=again, rest_s=rest_s, aside=aside, jobs=jobs
    )


async def imported(
    tools: Tools, notes: Path, *paths: Path, again: bool = False, aside: Aside = leave
) -> Told:
    """Import these paths into the archive of these tools."""
    said = told()
    await start.into(tools, wishes(paths, notes, again=again, aside=aside), said.tally, asyncio.Event())
    return said


async def sent(address: Address, notes: Path, *paths: Path) -> Told:
    """Import these paths to another server."""
    said = told()
    await start.to(address, wishes(paths, notes), said.tally, asyncio.Event())
    return said


@asynccontextmanager
async def watching(
    tools: Tools, notes: Path, folder: Path, rest_s: float, aside: Aside = leave
) -> AsyncIterator[Told]:
    """A drop folder that is watched for the time of the block."""
    said, stop = told(), asyncio.Event()
    task = asyncio.create_task(
        start.into(tools, wishes([folder], notes, rest_s=rest_s, aside=aside), said.tally, stop)
    )
    try:
        yield said
    finally:
        stop.set()
        await task


def study(folder: Path, count: int = 5, **attributes: str) -> dict[str, bytes]:
    """A folder of instances; their bytes by the path in it."""
    made = {f"{number % 2}/IM{number:04}": make.instance(**attributes) for number in range(count)}
    for name, content in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return made
