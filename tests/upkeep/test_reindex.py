"""From storage alone comes exactly what was acknowledged: row for row, and nothing that was not."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

from app import store
from app.errors import NotFound, Unavailable
from app.index import schema
from app.index.connection import Connection
from app.storage.local import LocalStorage
from app.storage.local_upload import LocalUpload
from app.upkeep import reindex, sweep
from app.upkeep.findings import Finding, Report
from app.upkeep.objects import Pace
from tests import make
from tests.index import rows
from tests.upkeep_tools import files, send, tools

EAGER = sweep.Knobs(grace_s=0)


async def reindexed(database: str, folder: Path, sql: Connection) -> list[Finding]:
    """The index is lost, and made from storage; what was found on the way."""
    await sql.execute(rows.EMPTY)
    found: list[Finding] = []
    async with tools(database, folder, rebuilds=True) as opened:
        await reindex.from_storage(opened, Report(found.append), Pace())
    return found


def _instance(sop: int, place: int, says: int) -> bytes:
    return make.instance(
        SOPInstanceUID=f"1.3.{sop}",
        StudyInstanceUID=f"1.1.{place // 2}",
        SeriesInstanceUID=f"1.2.{place % 2}",
        PatientName=f"Name{says}^Ünï",
        Modality=("CT", "MR", "SR")[says],
        StudyDate=f"2026010{1 + says}",
        AccessionNumber="A",
        PatientID="P",
        InstanceNumber=sop,
    )


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["store", "store", "store", "delete", "delete study", "sweep"]),
        st.integers(0, 4),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(acts=ACTS, on_conflict=st.sampled_from(["reject", "replace", "keep"]))
async def test_the_rows_are_equal(
    database: str,
    sql: Connection,
    memory: Path,
    acts: list[tuple[str, int, int, int]],
    on_conflict: Any,
) -> None:
    """After any stores, refusals, replaces, deletes and sweeps: keys, digests and times of arrival too."""
    folder = memory / uuid4().hex
    await sql.execute(rows.EMPTY)
    async with tools(database, folder, on_conflict) as opened:
        for act, sop, place, says in acts:
            if act == "store":
                await send(opened, _instance(sop, place, says))
            elif act == "sweep":
                await sweep.once(opened, EAGER)
            else:
                address = [f"1.1.{place // 2}", f"1.2.{place % 2}", f"1.3.{sop}"]
                try:
                    await store.remove(opened, *address[: 1 if act == "delete study" else 3])
                except NotFound:
                    continue
    before = await rows.told(sql)
    assert not await reindexed(database, folder, sql)
    assert await rows.told(sql) == before


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"])
async def test_whatever_the_syntax(database: str, sql: Connection, memory: Path, syntax: str) -> None:
    """Implicit, deflated and big endian instances are read as they were when they came."""
    async with tools(database, memory) as opened:
        assert (await send(opened, written(syntax))).failure is None
        before = await rows.told(sql)
        await sql.execute("update instance set scanned_by = 0, number_of_frames = 7, metadata = ''")
        await sql.execute("update rendition set state = 'ready', object_key = 'renditions/old', size = 1")
        await reindex.outdated(opened, Report(), Pace())
        assert await rows.told(sql) == before
        assert not await sql.fetchval("select count(*) from rendition where state = 'ready'")
    assert not await reindexed(database, memory, sql)
    assert await rows.told(sql) == before


def written(syntax: str) -> bytes:
    data = make.dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data["PixelData"].VR = "OW"
    buffer = BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


async def test_an_upload_that_was_not_acknowledged_stays_away(
    database: str, sql: Connection, tmp_path: Path
) -> None:
    """Durable but never committed, as when the process dies between: named, kept, and no instance."""
    async with tools(database, tmp_path) as opened:
        await send(opened, _instance(1, 0, 0))
        key = await opened.index.pending.take()
        async with opened.storage.upload(key) as upload:
            await upload.write(_instance(2, 0, 0))
        assert (await send(opened, _instance(2, 0, 1))).failure is None  # sent again, saying something else
    before = await rows.told(sql)
    assert await reindexed(database, tmp_path, sql) == [Finding("never acknowledged", key)]
    assert await rows.told(sql) == before


async def test_a_commit_whose_record_was_not_kept_was_not_acknowledged(
    database: str, sql: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client hears 'not now'. Sent again, or swept, it is stored for good; without both it is not."""
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "upload", _full_for_records)
        async with tools(database, tmp_path) as opened:
            for sop in (1, 2):
                assert (await send(opened, _instance(sop, 0, 0))).transient
    async with tools(database, tmp_path) as opened:
        assert (await send(opened, _instance(1, 0, 0))).failure is None
    found = await reindexed(database, tmp_path, sql)
    assert [one.what for one in found] == ["never acknowledged"]
    assert await sql.fetchval("select array_agg(sop_instance_uid) from instance") == ["1.3.1"]


async def test_the_sweeper_keeps_the_records_of_the_dead(
    database: str, sql: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "upload", _full_for_records)
        async with tools(database, tmp_path) as opened:
            assert (await send(opened, _instance(1, 0, 0))).transient
    async with tools(database, tmp_path) as opened:
        assert (await sweep.once(opened, EAGER))["record"] == 1
    before = await rows.told(sql)
    assert not await reindexed(database, tmp_path, sql)
    assert await rows.told(sql) == before


_upload = LocalStorage.upload


def _full_for_records(storage: LocalStorage, key: str, expected: int | None = None) -> LocalUpload:
    """A storage that takes no records any more, for a failure that is hard to cause."""
    if key.startswith("journal/"):
        raise Unavailable("no room for it")
    return _upload(storage, key, expected)


async def test_a_merged_journal_says_the_same(database: str, sql: Connection, tmp_path: Path) -> None:
    """Many records become one object; what they say stays."""
    async with tools(database, tmp_path) as opened:
        for sop in range(70):
            await send(opened, _instance(sop, sop % 4, sop % 3))
        await store.remove(opened, "1.1.0", "1.2.1")
        await sql.execute("update journal set at = at - interval '1 hour', is_kept = true")
        before = len(files(tmp_path, "journal"))
        assert (await sweep.once(opened, EAGER))["merged record"] == before == 71
        assert len(files(tmp_path, "journal")) == before + 1  # somebody may be copying them
        await sweep.once(opened, EAGER)
        assert len(files(tmp_path, "journal")) == 1
        assert await sql.fetchval("select count(*) from journal") == 0
    told = await rows.told(sql, "stored_at")
    assert not await reindexed(database, tmp_path, sql)
    assert await rows.told(sql, "stored_at") == told


async def test_reindex_goes_on_where_it_was_cut_short(
    database: str, sql: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile no server opens the half of an index; in the end it is whole."""
    monkeypatch.setattr(reindex, "_PAGE", 3)
    async with tools(database, tmp_path) as opened:
        for sop in range(10):
            await send(opened, _instance(sop, sop % 4, 0))
    before = await rows.told(sql)
    await sql.execute(rows.EMPTY)
    done: list[int] = []

    def cut(count: int, total: int | None) -> None:
        done.append(count)
        if len(done) == 2:
            raise asyncio.CancelledError

    async with tools(database, tmp_path, rebuilds=True) as opened:
        with pytest.raises(asyncio.CancelledError):
            await reindex.from_storage(opened, Report(advance=cut), Pace())
    assert await sql.fetchval("select count(*) from instance") == 6
    with pytest.raises(schema.Rebuilding):
        async with tools(database, tmp_path):
            pass
    done.clear()
    async with tools(database, tmp_path, rebuilds=True) as opened:
        await reindex.from_storage(opened, Report(advance=lambda count, _: done.append(count)), Pace())
    assert done == [3, 4]
    assert await rows.told(sql) == before


async def test_an_index_that_is_there_is_left_alone(database: str, sql: Connection, tmp_path: Path) -> None:
    async with tools(database, tmp_path) as opened:
        await send(opened, _instance(1, 0, 0))
        with pytest.raises(reindex.NotEmpty):
            await reindex.from_storage(opened, Report(), Pace())
    assert await sql.fetchval("select count(*) from instance") == 1


async def test_what_is_damaged_is_named(database: str, sql: Connection, tmp_path: Path) -> None:
    """A missing, a changed and an unreadable object, and a damaged record: each by its key, the rest is there."""
    async with tools(database, tmp_path) as opened:
        for sop in range(4):
            await send(opened, _instance(sop, sop, 0))
            await asyncio.sleep(0)
    listed = await sql.fetch("select object_key, sop_instance_uid from instance order by sop_instance_uid")
    missing, changed, unreadable, kept = (tmp_path / row["object_key"] for row in listed)
    missing.unlink()
    changed.write_bytes(changed.read_bytes()[:-1] + b"\xff")
    unreadable.write_bytes(bytes(unreadable.stat().st_size))
    (tmp_path / "journal" / "aa").mkdir(exist_ok=True)
    (tmp_path / "journal" / "aa" / "damaged").write_bytes(b"00 {}\n")
    found = await reindexed(database, tmp_path, sql)
    assert {(one.what, Path(one.key).name) for one in found} == {
        ("missing", missing.name),
        ("different", changed.name),
        ("unreadable", unreadable.name),
        ("damaged record", "damaged"),
    }
    keys = {Path(row[0]).name for row in await sql.fetch("select object_key from instance")}
    assert keys == {changed.name, kept.name}


async def test_outdated_rows_are_renewed_while_others_are_served(
    database: str, sql: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    """Whatever an older scanner wrote is written anew; ids and objects stay."""
    async with tools(database, tmp_path) as opened:
        for sop in range(6):
            await send(opened, _instance(sop, sop % 4, sop % 3))
        before = await rows.told(sql)
        ids = await sql.fetch("select id, object_key from instance order by id")
        await sql.execute(
            """update instance set scanned_by = 0, number_of_frames = 7, attributes = '', metadata = ''
                where sop_instance_uid <> '1.3.5'"""
        )
        await sql.execute("update study set patient_id = 'wrong', attributes = ''")
        await sql.execute("update series set modality = 'wrong', attributes = ''")
        await reindex.outdated(opened, Report(), Pace())
    assert await rows.told(sql) == before
    assert await sql.fetch("select id, object_key from instance order by id") == ids
