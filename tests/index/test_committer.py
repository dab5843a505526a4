"""What is stored is stored once, described alike in any order, whoever stores it at the same time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from app import index as index_tool
from app.dicom.scanner import Pixels, Scan
from app.errors import FailureReason, Refused
from app.index import Index, Knobs, Outcome
from app.index.connection import Connection
from app.storage import keys
from tests.index import scans
from tests.index.scans import element, name

_COUNTS = "select study_instance_uid, number_of_instances from study"


async def test_an_instance_is_stored_with_its_study_and_series(index: Index, sql: Connection) -> None:
    """One instance makes one row at each level, counted; nothing is pending any more."""
    one = scans.scan({"Modality": element("CS", "CT"), "StudyDate": element("DA", "20261122")})
    assert await scans.add(index, one) is Outcome.STORED
    study = await sql.fetchrow("select * from study")
    assert study is not None
    assert study["study_instance_uid"] == "1.2.3"
    assert (study["number_of_series"], study["number_of_instances"], study["modalities"]) == (1, 1, ["CT"])
    assert await sql.fetchval("select count(*) from pending") == 0


async def test_the_same_again_and_another_under_its_uid(index: Index, sql: Connection) -> None:
    """The same data set again is `same`, another is `conflict`; neither counts, and their keys stay pending."""
    one = scans.scan(sop="1.9")
    outcomes = [await scans.add(index, one, content) for content in (b"a", b"a", b"b")]
    assert outcomes == [Outcome.STORED, Outcome.SAME, Outcome.CONFLICT]
    elsewhere = scans.scan(sop="1.9", study="7.7", series="7.8")
    assert await scans.add(index, elsewhere, b"c") is Outcome.CONFLICT
    assert [tuple(row) for row in await sql.fetch(_COUNTS)] == [("1.2.3", 1)]
    assert await sql.fetchval("select count(*) from pending") >= 3


async def test_the_same_uid_within_one_batch(index: Index) -> None:
    """Of instances that arrive together under one UID one wins, the others are told what they are."""
    outcomes = await asyncio.gather(
        *(scans.add(index, scans.scan(sop="1.9"), content) for content in (b"a", b"a", b"b"))
    )
    assert sorted(outcomes) in (["conflict", "same", "stored"], ["conflict", "conflict", "stored"])


async def test_a_series_uid_under_two_studies_is_two_series(index: Index, sql: Connection) -> None:
    await scans.add(index, scans.scan(study="1.1", series="5"))
    await scans.add(index, scans.scan(study="1.2", series="5"))
    assert await sql.fetchval("select count(*) from series where series_instance_uid = '5'") == 2


async def test_a_commit_whose_answer_was_lost_is_stored(index: Index) -> None:
    """The same object once more is no duplicate of itself."""
    kept = scans.stored(await index.pending.take())
    one = scans.scan()
    assert [await index.committer.add(one, kept) for _ in range(2)] == [Outcome.STORED, Outcome.STORED]


async def test_an_instance_whose_key_was_swept_is_refused(index: Index, sql: Connection) -> None:
    """Its object may be gone: no row, no study, and its neighbour is stored."""
    lost, kept = await index.pending.take(), await index.pending.take()
    await index.pending.drop([lost])
    results = await asyncio.gather(
        index.committer.add(scans.scan(study="1.1"), scans.stored(lost)),
        index.committer.add(scans.scan(study="1.2"), scans.stored(kept)),
        return_exceptions=True,
    )
    assert isinstance(results[0], Refused)
    assert results[0].reason == FailureReason.OUT_OF_RESOURCES
    assert results[1] is Outcome.STORED
    assert [row[0] for row in await sql.fetch("select study_instance_uid from study")] == ["1.2"]


@pytest.mark.parametrize("by", ["server", "driver"])
async def test_a_poison_row_fails_alone(index: Index, sql: Connection, by: str) -> None:
    """What the database cannot hold is refused without quoting it; the rest of its batch is stored."""
    poison = scans.scan({"PatientName": name("Secret^Patient")})
    if by == "server":
        poison = replace(poison, head=replace(poison.head, sop_class_uid="Secret\0"))
    else:
        poison = replace(poison, pixels=Pixels("7FE00010", "OB", 0, 0, 2**40, 8, b"", b"", 0, ""))
    batch = [scans.scan() for _ in range(5)] + [poison] + [scans.scan() for _ in range(5)]
    results = await asyncio.gather(*(scans.add(index, one) for one in batch), return_exceptions=True)
    assert [result for result in results if result is not Outcome.STORED] == [results[5]]
    assert isinstance(results[5], Refused)
    assert "Secret" not in str(results[5])
    assert await sql.fetchval("select count(*) from instance") == 10
    assert await sql.fetchval("select number_of_instances from study") == 10


async def test_odd_values_are_never_a_reason_to_refuse(index: Index, sql: Connection) -> None:
    """Too long, of the wrong type, with NULs, beyond 32 bits, not even values: stored all the same."""
    odd: dict[str, Any] = {
        "PatientName": element("PN", {"Alphabetic": "x" * 9000}),
        "PatientID": element("LO", "ä" * 5000),
        "AccessionNumber": element("SH", "a\0b"),
        "StudyDate": element("DA", "yesterday"),
        "StudyTime": element("TM", None),
        "SeriesNumber": element("IS", 10**12),
        "InstanceNumber": element("IS", "1e999"),
        "PatientBirthDate": element("DA", "00000000"),
        "RequestAttributesSequence": element(
            "SQ", {}, {"00400009": {"vr": "SH", "Value": [None, "y" * 3000]}}
        ),
        "StudyDescription": {"vr": "LO", "BulkDataURI": "@/00081030"},
        "ReferringPhysicianName": element("PN", None, "odd"),
    }
    assert await scans.add(index, scans.scan(odd, sop="1.9")) is Outcome.STORED
    attributes = await sql.fetchval("select attributes from study")
    assert '"@/studies/1.2.3/series/1.2.3.4/instances/1.9/bulkdata/00081030"' in attributes


def _disagreeing() -> list[Scan]:
    """Instances of one study that tell different things of it."""
    chance = random.Random(3)
    made = []
    for number in range(24):
        elements = {
            "PatientName": name(f"Name{number}"),
            "StudyDate": element("DA", f"2026{1 + number % 12:02d}01"),
            "Modality": element("CS", chance.choice(["CT", "MR", "SR"])),
            "SeriesNumber": element("IS", number),
        }
        made.append(scans.scan(elements, series=f"2.{number % 3}", sop=f"3.{chance.randrange(10**9)}"))
    return made


_STUDIES = """
select study_instance_uid, described_by, number_of_series, number_of_instances, modalities, study_date,
    patient_name_key, attributes from study"""
_SERIES = """
select series_instance_uid, described_by, number_of_instances, modality, series_number, attributes from series
order by series_instance_uid"""
_LINKS = "select modality, study_date from study_modality order by modality"


async def _told(sql: Connection) -> list[list[asyncpg.Record]]:
    return [await sql.fetch(statement) for statement in (_STUDIES, _SERIES, _LINKS)]


async def _store(index: Index, instances: Sequence[Scan], together: int) -> None:
    for at in range(0, len(instances), together):
        outcomes = await asyncio.gather(*(scans.add(index, one) for one in instances[at : at + together]))
        assert set(outcomes) == {Outcome.STORED}


@pytest.mark.parametrize("together", [1, 7, 24])
async def test_rows_do_not_depend_on_the_order_of_arrival(
    index: Index, sql: Connection, together: int
) -> None:
    """Study, series, counters and links are a function of the set of instances."""
    instances = _disagreeing()
    expected = None
    for seed in range(4):
        random.Random(seed).shuffle(instances)
        await _store(index, instances, together)
        told = await _told(sql)
        assert expected in (None, told)
        expected = told
        await sql.execute("delete from study")


async def test_two_servers_store_into_the_same_studies(database: str, sql: Connection) -> None:
    """From 16 tasks, in opposite orders, with duplicates: no deadlock, and every counter is exact."""
    async with (
        index_tool.opened(database, keys.new, Knobs(readers=2)) as one,
        index_tool.opened(database, keys.new, Knobs(readers=2)) as two,
    ):
        deadlocks = await sql.fetchval(
            "select deadlocks from pg_stat_database where datname = current_database()"
        )
        instances = [
            scans.scan(
                {"Modality": element("CS", "CT")},
                study=f"1.{number % 7}",
                series=f"2.{number % 11}",
                sop=f"3.{number}",
            )
            for number in range(400)
        ]

        async def send(index: Index, seed: int) -> list[Outcome]:
            mine = instances[seed * 25 : seed * 25 + 75]
            random.Random(seed).shuffle(mine)
            return [await scans.add(index, scan, scan.head.sop_instance_uid.encode()) for scan in mine]

        sent = await asyncio.gather(*(send((one, two)[seed % 2], seed) for seed in range(16)))
        outcomes = [outcome for some in sent for outcome in some]
    assert outcomes.count(Outcome.STORED) == 400
    assert set(outcomes) == {Outcome.STORED, Outcome.SAME}
    assert await sql.fetchval("select sum(number_of_instances) from study") == 400
    wrong = """select count(*) from study s where number_of_instances <> (
        select count(*) from instance i where i.study_id = s.id) or number_of_series <> (
        select count(*) from series r where r.study_id = s.id)"""
    assert await sql.fetchval(wrong) == 0
    wrong = """select count(*) from series r where number_of_instances <> (
        select count(*) from instance i where i.series_id = r.id)"""
    assert await sql.fetchval(wrong) == 0
    after = await sql.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    assert after == deadlocks


async def test_a_lost_connection_loses_nothing(index: Index, sql: Connection) -> None:
    """The server cuts every connection while instances are stored: each is stored once."""
    sending = asyncio.gather(*(scans.add(index, scans.scan()) for _ in range(40)))
    for _ in range(3):
        await asyncio.sleep(0.01)
        await sql.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'reelweb' and query like '%instance%'"
        )
    outcomes = await sending
    assert set(outcomes) == {Outcome.STORED}
    assert await sql.fetchval("select number_of_instances from study") == 40


async def test_a_video_wants_its_mp4_a_poster_and_a_description(index: Index, sql: Connection) -> None:
    """The renditions are queued in the transaction of the instance; images want none."""
    pixels = Pixels("7FE00010", "OB", 500, 100, 1, 0, b"\0" * 16, b"", 92, "mp4")
    await scans.add(index, scans.scan(syntax=scans.MP4_SYNTAX, pixels=pixels))
    await scans.add(index, scans.scan())
    rows = await sql.fetch("select kind, state from rendition order by kind")
    assert [tuple(row) for row in rows] == [("mp4", "queued"), ("poster", "queued"), ("stream", "queued")]
