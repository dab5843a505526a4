"""What is stored is stored once, whoever stores it at the same time."""

from __future__ import annotations

import asyncio

import asyncpg

from app.index import Index, Outcome
from tests.index import scans


async def test_an_instance_is_stored_with_its_study_and_series(
    index: Index, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    """One instance makes one row at each level, counted; nothing is pending any more."""
    one = scans.scan({"Modality": scans.element("CS", "CT"), "StudyDate": scans.element("DA", "20261122")})
    assert await scans.add(index, one) is Outcome.STORED
    study = await sql.fetchrow("select * from study")
    assert study is not None
    assert study["study_instance_uid"] == "1.2.3"
    assert (study["number_of_series"], study["number_of_instances"], study["modalities"]) == (1, 1, ["CT"])
    assert await sql.fetchval("select count(*) from pending") == 0


async def test_the_same_again_and_another_under_its_uid(index: Index) -> None:
    """The same data set again is `same`, another one under its UID is `conflict`."""
    one = scans.scan(sop="1.9")
    outcomes = [await scans.add(index, one, content) for content in (b"a", b"a", b"b")]
    assert outcomes == [Outcome.STORED, Outcome.SAME, Outcome.CONFLICT]


async def test_the_same_uid_within_one_batch(index: Index) -> None:
    """Of instances that arrive together under one UID one wins, the others are told what they are."""
    outcomes = await asyncio.gather(
        *(scans.add(index, scans.scan(sop="1.9"), content) for content in (b"a", b"a", b"b"))
    )
    assert sorted(outcomes) in (
        [Outcome.CONFLICT, Outcome.SAME, Outcome.STORED],
        [Outcome.CONFLICT, Outcome.CONFLICT, Outcome.STORED],
    )
