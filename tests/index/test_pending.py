"""Keys are in the table before anybody has them, and leave it."""

from __future__ import annotations

import asyncio

from app import index as index_tool
from app.index import Index, Knobs
from app.index.connection import Connection
from app.storage import keys


async def _keys(sql: Connection) -> set[str]:
    return {row[0] for row in await sql.fetch("select key from pending")}


async def test_a_key_is_committed_before_it_is_returned(index: Index, sql: Connection) -> None:
    """Each is handed out once; blocks grow with the demand."""
    taken = [await index.pending.take() for _ in range(100)]
    assert len(set(taken)) == 100
    assert set(taken) <= await _keys(sql)
    assert len(await _keys(sql)) < 200


async def test_many_at_once_get_different_keys(index: Index) -> None:
    taken = await asyncio.gather(*(index.pending.take() for _ in range(50)))
    assert len(set(taken)) == 50


async def test_keys_that_nobody_took_go_when_the_server_does(database: str, sql: Connection) -> None:
    async with index_tool.opened(database, keys.new) as index:
        taken = {await index.pending.take() for _ in range(5)}
    assert await _keys(sql) == taken


async def test_a_reservation_is_short(database: str, sql: Connection) -> None:
    """A key that lay around is given back, for the sweeper counts from its commit."""
    async with index_tool.opened(database, keys.new, Knobs(reserved_keys_life_s=0.01)) as index:
        first = {await index.pending.take() for _ in range(4)}
        await asyncio.sleep(0.05)
        last = await index.pending.take()
        assert await _keys(sql) == first | {last}


async def test_dropped_keys_are_gone(index: Index, sql: Connection) -> None:
    key = await index.pending.take()
    await index.pending.drop([key, "objects/never"])
    assert key not in await _keys(sql)


async def test_a_key_under_which_nothing_came_to_be_is_the_next_one(index: Index, sql: Connection) -> None:
    """A thousand parts that are no instances cost no statement each."""
    first = await index.pending.take()
    await index.pending.untake(first)
    assert await index.pending.take() == first
    assert first in await _keys(sql)


async def test_a_key_does_not_grow_old_by_being_given_back(database: str, sql: Connection) -> None:
    """For the sweeper counts from its commit: of another block, or after the block's time, it goes."""
    async with index_tool.opened(database, keys.new, Knobs(reserved_keys_life_s=0.2)) as index:
        old = await index.pending.take()  # a block of one
        later = await index.pending.take()
        await index.pending.untake(old)
        assert old not in await _keys(sql)
        await asyncio.sleep(0.3)
        await index.pending.untake(later)
        assert later not in await _keys(sql)
