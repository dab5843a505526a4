"""What was found stays true until it is told otherwise, and nobody trusts it while nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from app.index import Index, changes, removal, renditions
from tests.index import scans
from tests.index.test_videos import store

Act = Callable[[Index, Any], Awaitable[object]]


@pytest.fixture
async def listening(index: Index) -> AsyncIterator[Index]:
    index.changes.start()
    await certain(index)
    yield index
    await index.changes.close()


async def certain(index: Index) -> int:
    async with asyncio.timeout(10):
        while (count := index.changes.count) is None:  # noqa: ASYNC110 - it is asked, and tells nobody
            await asyncio.sleep(0.01)
    return count


async def settled(index: Index) -> int:
    """The count when what happened until now was heard: the database tells within milliseconds."""
    await asyncio.sleep(0.3)
    return await certain(index)


async def finish(index: Index, _sql: Any) -> None:
    job = await renditions.lease(index, ["mp4"], 30)
    assert job
    assert await renditions.finish(index, job, "renditions/9", 40, [], "video/mp4", bytes(32))


def statement(text: str) -> Act:
    async def act(_index: Index, sql: Any) -> None:
        await sql.execute(text)

    return act


async def remove(index: Index, _sql: Any) -> None:
    await removal.remove(index, "1.2.3")


async def more(index: Index, _sql: Any) -> None:
    await scans.add(index, scans.scan(sop="1.10"))


@pytest.mark.parametrize(
    ("act", "made"),
    [
        pytest.param(remove, "renditions/1", id="an instance goes"),
        pytest.param(statement("delete from study"), "renditions/1", id="a study goes"),
        pytest.param(
            statement("update instance set scanned_by = 9"), "renditions/1", id="an instance is read anew"
        ),
        pytest.param(finish, "", id="a rendition comes to be"),
        pytest.param(
            statement("update rendition set object_key = 'renditions/7'"), "renditions/1", id="it changes"
        ),
        pytest.param(
            statement("update rendition set state = 'queued'"), "renditions/1", id="it is made anew"
        ),
        pytest.param(statement("delete from rendition"), "renditions/1", id="it goes"),
    ],
)
async def test_what_makes_something_else_true_is_told(
    listening: Index, sql: Any, act: Act, made: str
) -> None:
    await store(listening, made=made)
    before, changed = await settled(listening), listening.changes.next
    await act(listening, sql)
    async with asyncio.timeout(10):
        await changed.wait()
    assert await certain(listening) > before


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(more, id="more is stored"),
        pytest.param(statement("update rendition set used_at = now()"), id="a rendition is used"),
        pytest.param(statement("update rendition set progress = 1 where state <> 'ready'"), id="progress"),
        pytest.param(statement("delete from rendition where false"), id="nothing goes"),
    ],
)
async def test_what_changes_nothing_is_not(listening: Index, sql: Any, act: Act) -> None:
    """Or a server that takes in would remember nothing."""
    await store(listening)
    before = await settled(listening)
    await act(listening, sql)
    assert await settled(listening) == before


async def test_nothing_is_certain_before_somebody_listens(index: Index) -> None:
    assert index.changes.count is None


async def test_a_lost_connection_makes_all_uncertain(
    listening: Index, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happened meanwhile is not known: when there is one again, what was true before is not."""
    monkeypatch.setattr(changes, "_PAUSE_S", 0.3)
    before = await certain(listening)
    await sql.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and query ilike 'listen%'"
    )
    async with asyncio.timeout(10):
        while listening.changes.count is not None:  # noqa: ASYNC110 - it is asked, and tells nobody
            await asyncio.sleep(0.01)
    assert await certain(listening) > before


async def test_who_changes_something_knows_at_once(listening: Index) -> None:
    before = await certain(listening)
    listening.changes.happened()
    assert listening.changes.count == before + 1
