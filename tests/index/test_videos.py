"""A video's range is one look into the database, shared by all who ask meanwhile, and never older than the question."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.dicom.scanner import Pixels
from app.errors import NotFound, Unavailable
from app.extent import Span
from app.index import Index, removal, renditions, videos
from app.index.connection import Connection
from app.index.together import MOST, Together
from tests.index import scans

FRAGMENTS = struct.pack("<4Q", 500, 60, 568, 40)
PIXELS = Pixels("7FE00010", "OB", 492, 116, 1, 0, FRAGMENTS, b"", 99, "mp4")
LAYOUT = [Span("rendition", 0, 40), Span("stream", 50, 49)]


async def store(index: Index, sop: str = "1.9", *, made: str = "renditions/1") -> None:
    await scans.add(index, scans.scan(sop=sop, syntax=scans.MP4_SYNTAX, pixels=PIXELS))
    if made:
        job = await renditions.lease(index, ["mp4"], 30)
        assert job
        assert await renditions.finish(index, job, made, 40, LAYOUT, "video/mp4", bytes(32))


async def find(index: Index, sop: str = "1.9") -> videos.Playable:
    return await index.videos.find("1.2.3", "1.2.3.4", sop)


@asynccontextmanager
async def counted(index: Index) -> AsyncIterator[list[str]]:
    """The statements by which videos are found inside the block."""
    statements: list[str] = []

    def heard(record: Any) -> None:
        statements.append(record.query)

    async with index.videos._connection.use() as connection:
        connection.add_query_logger(heard)
    yield statements
    await asyncio.sleep(0)
    connection.remove_query_logger(heard)


async def test_a_video_is_found_in_one_statement(index: Index) -> None:
    """With the version of what plays it, by which all else is known."""
    await store(index, "1.8", made="renditions/0")
    await find(index, "1.8")  # asyncpg learns types
    await store(index)
    async with counted(index) as statements:
        found = await find(index)
        again = await find(index)
    assert statements == [videos._FIND] * 2
    assert again == found
    assert found.version
    assert found.version[::2] == (found.located.key, "renditions/1")


async def test_who_asks_meanwhile_shares_the_next_statement(index: Index) -> None:
    for sop in ("1.7", "1.8", "1.9"):
        await store(index, sop, made=f"renditions/{sop}")
    async with counted(index) as statements:
        found = await asyncio.gather(*(find(index, sop) for sop in ("1.7", "1.8", "1.9") * 20))
    assert {one.located.sop_instance_uid for one in found} == {"1.7", "1.8", "1.9"}
    assert len(statements) <= 3


async def test_what_was_deleted_is_gone_at_once(index: Index) -> None:
    await store(index)
    await find(index)
    await removal.remove(index, "1.2.3")
    with pytest.raises(NotFound):
        await find(index)


async def test_only_its_own_address_finds_it(index: Index) -> None:
    await store(index)
    await find(index)
    for address in (("9", "1.2.3.4", "1.9"), ("1.2.3", "9", "1.9"), ("1.2.3", "1.2.3.4", "9")):
        with pytest.raises(NotFound):
            await index.videos.find(*address)


@pytest.mark.parametrize(
    ("change", "plays"),
    [
        ("update rendition set state = 'running'", False),
        ("delete from rendition", False),
        ("update instance set scanned_by = scanned_by + 1, fragments = substr(fragments, 1, 16)", True),
    ],
)
async def test_what_changed_is_read_anew(index: Index, sql: Connection, change: str, *, plays: bool) -> None:
    await store(index)
    before = await find(index)
    await sql.execute(change)
    after = await find(index)
    assert (after.version is not None) == plays
    assert after.version != before.version


async def test_an_instance_without_a_video_is_found_all_the_same(index: Index) -> None:
    await store(index, made="")
    assert (await find(index)).version is None


async def test_its_use_is_noted_once_in_a_while(index: Index, sql: Connection) -> None:
    """What is used goes last when room is needed."""
    await store(index)
    for _ in range(2):
        await sql.execute("update rendition set used_at = now() - interval '2 hours'")
        async with counted(index) as statements:
            await find(index)
            await find(index)
        assert statements.count(videos._USE) == 1
        assert await sql.fetchval(
            "select min(used_at) > now() - interval '1 minute' from rendition where kind = 'mp4'"
        )


# What asks for many at once


class Asked:
    """Knows even numbers; each statement waits for its turn."""

    def __init__(self) -> None:
        self.statements: list[Sequence[int]] = []
        self.turn = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, str]:
        self.statements.append(keys)
        await self.turn.wait()
        if self.error:
            raise self.error
        return {key: str(key) for key in keys if key % 2 == 0}


async def test_questions_are_gathered_while_one_is_answered() -> None:
    """Each key once, in turns of a bounded length; nobody gets an answer that was under way when he came."""
    asked = Asked()
    together = Together(asked)
    first = asyncio.create_task(together.of(0))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(together.of(key)) for key in [0, 1, 2, 1, 0, *range(10, 10 + MOST)]]
    await asyncio.sleep(0.01)
    assert asked.statements == [[0]]
    asked.turn.set()
    answers = await asyncio.gather(first, *others)
    assert answers[:6] == ["0", "0", None, "2", None, "0"]
    assert asked.statements[1] == [0, 1, 2, *range(10, 10 + MOST - 5)]
    assert len(asked.statements) == 3


async def test_who_leaves_does_not_take_the_others_along() -> None:
    asked = Asked()
    together = Together(asked)
    tasks = [asyncio.create_task(together.of(2)) for _ in range(3)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    asked.turn.set()
    assert await asyncio.gather(*tasks[1:]) == ["2", "2"]


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("surprise")])
async def test_all_are_told_what_went_wrong_and_the_next_are_answered(error: Exception) -> None:
    asked = Asked()
    asked.error = error
    asked.turn.set()
    together = Together(asked)
    failed = await asyncio.gather(*(together.of(key) for key in (1, 2)), return_exceptions=True)
    assert [type(one) for one in failed] == [Unavailable, Unavailable]
    asked.error = None
    assert await together.of(2) == "2"


async def test_at_the_end_nobody_waits() -> None:
    together = Together(Asked())
    waiting = [asyncio.create_task(together.of(2)) for _ in range(2)]
    await asyncio.sleep(0.01)
    late = asyncio.create_task(together.of(3))
    await asyncio.sleep(0)
    await together.close()
    for one in (*waiting, late):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(one, 5)
