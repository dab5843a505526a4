"""A drop folder: what comes to rest is stored once, what is still being written is left alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.index.connection import Connection
from app.tools import Tools
from app.upkeep.importing import aside, sources, watch
from app.upkeep.importing.items import Item
from app.upkeep.importing.tally import Ending
from tests import make
from tests.importing import Told, study, watching


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it; the test's own time-out ends it."""
    while not condition():  # noqa: ASYNC110 - folders and tallies have no events
        await asyncio.sleep(0.02)


def names(found: list[sources.Found]) -> set[str]:
    return {Path(one.path).name for one in found if isinstance(one, Item)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until it is set."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_file_is_given_when_it_rests(tmp_path: Path, clock: list[float]) -> None:
    """Each change begins its rest anew; what was given and settled is not given again unless it changes."""
    study(tmp_path, 2)
    growing = tmp_path / "0" / "IM0000"
    with watch.Resting(lambda: sources.walk([str(tmp_path)], frozenset()), 5) as resting:
        assert not list(resting.look())
        clock[0] += 3
        growing.write_bytes(make.instance() + bytes(100))
        assert not list(resting.look())
        clock[0] += 3
        assert names(list(resting.look())) == {"IM0001"}
        assert names(list(resting.look())) == {"IM0001"}  # nobody said that it is settled
        resting.remember()
        clock[0] += 3
        assert names(list(resting.look())) == {"IM0000"}
        resting.remember()
        clock[0] += 100
        assert not list(resting.look())
        growing.write_bytes(make.instance())
        assert not list(resting.look())
        clock[0] += 6
        assert names(list(resting.look())) == {"IM0000"}


def test_the_more_files_lie_there_the_rarer_it_looks(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}").touch()
    with watch.Resting(lambda: sources.walk([str(tmp_path)] * 200, frozenset()), 0) as resting:
        assert resting.pause_s == 0.5
        assert len(list(resting.look())) == 10_000
        assert resting.pause_s == 1.0


async def test_what_comes_is_stored(tools: Tools, sql: Connection, tmp_path: Path) -> None:
    """Slowly written or in one go, and what is refused is told once, however often the folder is looked at."""
    folder = tmp_path / "drop"
    folder.mkdir()
    content = make.instance(Rows=100, Columns=100, PixelData=bytes(20_000))
    async with watching(tools, tmp_path, folder, 1.0) as said:
        study(folder, 3)
        (folder / "bad.dcm").write_bytes(b"no")
        with (folder / "slow").open("wb") as file:
            for at in range(0, len(content), 2000):
                file.write(content[at : at + 2000])
                file.flush()
                await asyncio.sleep(0.02)
        await until(lambda: said.count(Ending.STORED) == 4 and said.tally.refused == 1)
        (folder / "late").write_bytes(make.instance())
        await until(lambda: said.count(Ending.STORED) == 5)
    assert said.endings == {"stored": 5, "refused": 1}
    assert len(said.refused) == 1
    assert await sql.fetchval("select count(*) from instance where size = $1", len(content)) == 1


async def test_what_is_stored_goes_when_that_is_wanted(tools: Tools, tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    async with watching(tools, tmp_path, folder, 0, aside.remove) as said:
        for _ in range(2):
            before = said.count(Ending.STORED)
            study(folder, 2)
            await gone(said, folder, before + 2)


async def gone(said: Told, folder: Path, stored: int) -> None:
    await until(lambda: said.count(Ending.STORED) == stored)
    await until(lambda: not [path for path in folder.rglob("*") if path.is_file()])
