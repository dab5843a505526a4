"""Later instances of a series cost one statement, and nothing of what the long way promises."""

from __future__ import annotations

import asyncio

import pytest

from app import index as index_tool
from app.errors import Refused
from app.index import Index, Journal, Knobs, Outcome
from app.index.connection import Connection
from app.storage import keys
from tests.index import scans

_TOLD = """
select s.number_of_instances, s.number_of_series, r.number_of_instances, r.version, s.described_by
from study s join series r on r.study_id = s.id"""


async def test_the_next_instance_of_a_series_is_one_statement(index: Index, sql: Connection) -> None:
    """Counters, version, pending keys and journal are as after the long way; so is who describes the study."""
    await scans.add(index, scans.scan(sop="1.1"))
    async with scans.committed(index) as heard:
        assert await scans.add(index, scans.scan(sop="1.2")) is Outcome.STORED
    assert len(heard) == 1
    assert [tuple(row) for row in await sql.fetch(_TOLD)] == [(2, 1, 2, 2, "1.1")]
    assert await sql.fetchval("select count(*) from pending join instance on key = object_key") == 0
    assert await sql.fetchval("select count(*) from journal") == 2
    async with scans.committed(index) as heard:
        await scans.add(index, scans.scan(sop="1.0"))
    assert len(heard) > 1
    assert [tuple(row) for row in await sql.fetch(_TOLD)] == [(3, 1, 3, 3, "1.0")]


async def test_what_is_not_as_expected_goes_the_long_way(index: Index, sql: Connection) -> None:
    """Nothing of the short way stays: the same again, another under its UID, a study that went, a key that was swept."""
    await scans.add(index, scans.scan(sop="1.1"))
    assert await scans.add(index, scans.scan(sop="1.2"), b"a") is Outcome.STORED
    assert await scans.add(index, scans.scan(sop="1.2"), b"a") is Outcome.SAME
    await scans.add(index, scans.scan(sop="1.3"), b"a")
    assert await scans.add(index, scans.scan(sop="1.2"), b"b") is Outcome.CONFLICT
    await scans.add(index, scans.scan(sop="1.4"), b"a")
    lost = await index.pending.take()
    await index.pending.drop([lost])
    with pytest.raises(Refused):
        await index.committer.add(scans.scan(sop="1.5"), scans.stored(lost))
    assert await sql.fetchval("select number_of_instances from study") == 4
    await sql.execute("delete from study")
    assert await scans.add(index, scans.scan(sop="1.6")) is Outcome.STORED
    assert [tuple(row) for row in await sql.fetch(_TOLD)] == [(1, 1, 1, 1, "1.6")]


async def _one_waits(sql: Connection) -> None:
    async with asyncio.timeout(10):
        while True:
            if await sql.fetchval("select count(*) from pg_locks where not granted"):
                return
            await asyncio.sleep(0.01)


async def test_it_rests_on_what_was_committed_while_it_waited(database: str, sql: Connection) -> None:
    """A removal of this UID that another process commits meanwhile, and does not live to record, is recorded first."""
    kept: list[str] = []

    async def keep(key: str, _line: bytes) -> None:
        kept.append(key)

    journal = Journal(keys.record, keep)
    async with index_tool.opened(database, keys.new, Knobs(readers=2), journal) as index:
        await scans.add(index, scans.scan(sop="1.1"))
        await scans.add(index, scans.scan(sop="1.2"), b"a")
        async with scans.committed(index) as heard:
            async with sql.transaction():
                await sql.execute("select from study for update")
                await sql.execute("delete from instance where sop_instance_uid = '1.2'")
                await sql.execute("insert into journal values ('journal/removal', '{1.2}', now(), '{}')")
                adding = asyncio.create_task(scans.add(index, scans.scan(sop="1.2"), b"b"))
                await _one_waits(sql)
            assert await adding is Outcome.STORED
        assert len(heard) == 1
    assert "journal/removal" in kept
    assert len(kept) == 4


async def test_two_servers_make_the_same_series_grow(database: str, sql: Connection) -> None:
    """In batches of several studies, in any order: no deadlock, and each counter is exact."""
    async with (
        index_tool.opened(database, keys.new, Knobs(readers=2)) as one,
        index_tool.opened(database, keys.new, Knobs(readers=2)) as two,
    ):
        for index in (one, two):
            for study in range(5):
                await scans.add(index, scans.scan(study=f"1.{study}", series="2.1", sop=f"3.0.{study}"), b"a")
        sending = [
            scans.add(
                index, scans.scan(study=f"1.{(number * step) % 5}", series="2.1", sop=f"3.{side}.{number}")
            )
            for number in range(1, 200)
            for side, index, step in ((1, one, 1), (2, two, 4))
        ]
        assert set(await asyncio.gather(*sending)) == {Outcome.STORED}
    told = await sql.fetch(
        "select number_of_instances, (select count(*) from instance i where i.study_id = s.id) from study s"
    )
    assert sum(row[0] for row in told) == 5 + 2 * 199
    assert all(row[0] == row[1] for row in told)
    assert await sql.fetchval("select sum(number_of_instances) from series") == 5 + 2 * 199
    assert await sql.fetchval("select count(*) from journal where content = ''") == 0
