"""Whatever lies in a folder is stored, passed by or refused, and each of it is told exactly once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app import store
from app.errors import Unavailable
from app.index.connection import Connection
from app.tools import Tools
from app.upkeep.importing import aside, items, sources, start
from app.upkeep.importing.tally import Ending
from tests import make
from tests.importing import imported, study, told, wishes
from tests.upkeep_tools import content
from tests.upkeep_tools import tools as opened_tools


async def objects(tools: Tools, sql: Connection) -> set[bytes]:
    """The bytes of every instance that is stored."""
    return {await content(tools, row[0]) for row in await sql.fetch("select object_key from instance")}


async def test_every_instance_of_a_folder_is_stored_as_it_is(
    tools: Tools, sql: Connection, tmp_path: Path
) -> None:
    """In folders of any depth, under any name, beside anything else."""
    made = study(tmp_path / "in", 7)
    (tmp_path / "in" / "autorun.inf").write_bytes(b"[autorun]")
    (tmp_path / "in" / "viewer.exe").write_bytes(b"MZ" + bytes(5000))
    (tmp_path / "in" / "empty").touch()
    odd = tmp_path / "in" / os.fsdecode(b"M\xfcller\n\x1b[31m")
    odd.write_bytes(make.instance())
    result = await imported(tools, tmp_path, tmp_path / "in")
    assert result.endings == {"stored": 8, "skipped": 3}
    assert await objects(tools, sql) == {*made.values(), odd.read_bytes()}


async def test_what_is_refused_is_told_with_its_reason(tools: Tools, tmp_path: Path) -> None:
    """A broken file, one that only claims to be DICOM by its name, one that is asked for: none is passed by silently."""
    (tmp_path / "in").mkdir()
    whole = make.instance()
    (tmp_path / "in" / "cut").write_bytes(whole[:-10])
    (tmp_path / "in" / "zeros.DCM").write_bytes(bytes(5000))
    (tmp_path / "in" / "gone").symlink_to("nowhere")
    (tmp_path / "in" / "no\x1b[31m\nname.dcm").write_bytes(b"")
    (tmp_path / "letter.txt").write_text("hello")
    os.mkfifo(tmp_path / "pipe")
    result = await imported(
        tools, tmp_path, tmp_path / "in", tmp_path / "letter.txt", tmp_path / "nothing", tmp_path / "pipe"
    )
    assert {Path(name).name: why for name, why in result.refused.items()} == {
        "cut": "The file is truncated: it ends inside an element or a sequence.",
        "zeros.DCM": "This is no DICOM file.",
        "gone": "It is a link to nowhere.",
        "no\\x1b[31m\\nname.dcm": "This is no DICOM file.",
        "letter.txt": "This is no DICOM file.",
        "nothing": "It is not there.",
        "pipe": "It is neither a file nor a folder.",
    }
    assert result.tally.refused == 7
    assert "0 stored, 0 there already, 0 skipped, 7 refused." in result.tally.summary()
    assert "  refused 3: This is no DICOM file." in result.tally.summary()


async def test_a_second_run_reads_nothing_that_is_there(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored is remembered; what is new or was changed is read; --again reads all."""
    study(tmp_path / "in", 5)
    await imported(tools, tmp_path, tmp_path / "in")
    opened: list[str] = []
    real = os.open

    def noted(path: str, flags: int, mode: int = 0o777) -> int:
        opened.append(str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", noted)
    (tmp_path / "in" / "new").write_bytes(make.instance())
    (tmp_path / "in" / "0" / "IM0000").write_bytes(make.instance())
    result = await imported(tools, tmp_path, tmp_path / "in")
    assert result.endings == {"stored": 2, "remembered": 4}
    assert {Path(path).name for path in opened if path.startswith(str(tmp_path / "in"))} == {"new", "IM0000"}
    result = await imported(tools, tmp_path, tmp_path / "in", again=True)
    assert result.endings == {"there already": 6}


async def test_what_was_deleted_is_imported_again(tools: Tools, tmp_path: Path) -> None:
    """The memory of an import is a hint; the archive decides."""
    study(tmp_path / "in", 4, StudyInstanceUID="1.2.3")
    await imported(tools, tmp_path, tmp_path / "in")
    await store.remove(tools, "1.2.3")
    assert (await imported(tools, tmp_path, tmp_path / "in")).endings == {"stored": 4}


async def test_a_damaged_memory_is_begun_anew(tools: Tools, tmp_path: Path) -> None:
    study(tmp_path / "in", 2)
    await imported(tools, tmp_path, tmp_path / "in")
    (tmp_path / "import" / "done.sqlite").write_bytes(b"no database" * 1000)
    assert (await imported(tools, tmp_path, tmp_path / "in")).endings == {"there already": 2}
    assert (await imported(tools, tmp_path, tmp_path / "in")).endings == {"remembered": 2}


async def test_the_memory_names_no_file(tools: Tools, tmp_path: Path) -> None:
    """Paths hold names of patients."""
    study(tmp_path / "DOE^JANE", 2)
    await imported(tools, tmp_path, tmp_path / "DOE^JANE")
    kept = [path for path in (tmp_path / "import").iterdir() if path.is_file()]
    assert kept
    assert not any(b"DOE" in path.read_bytes() or path.stat().st_mode & 0o077 for path in kept)


async def test_the_same_in_two_places_is_stored_once(tools: Tools, sql: Connection, tmp_path: Path) -> None:
    made = study(tmp_path / "a", 3)
    for name, data in made.items():
        (tmp_path / "a" / f"{name} copy").write_bytes(data)
    result = await imported(tools, tmp_path, tmp_path / "a", tmp_path / "a" / "0")
    assert result.count(Ending.STORED) == 3
    assert not result.tally.refused
    assert await objects(tools, sql) == set(made.values())


async def test_what_is_there_under_the_uid_stays(
    tools: Tools, database: str, memory: Path, tmp_path: Path
) -> None:
    """By the server's own rule: another one is refused, or the first is kept and that is told."""
    study(tmp_path / "first", 1, SOPInstanceUID="1.9", PatientID="A")
    study(tmp_path / "second", 1, SOPInstanceUID="1.9", PatientID="B")
    await imported(tools, tmp_path, tmp_path / "first")
    result = await imported(tools, tmp_path, tmp_path / "second")
    assert list(result.refused.values()) == ["Another instance is stored under this SOP Instance UID."]
    async with opened_tools(database, memory, "keep") as keeping:
        result = await imported(keeping, tmp_path, tmp_path / "second")
    assert result.endings == {"warned": 1}
    assert "  warned 1: Another instance was kept under its SOP Instance UID." in result.tally.summary()


async def test_the_archive_is_not_imported_into_itself(tools: Tools, memory: Path, tmp_path: Path) -> None:
    """Neither found on the way nor when it is asked for."""
    study(tmp_path, 2)
    own = sources.places([memory, tmp_path / "import"])
    (tmp_path / "link").symlink_to(memory)
    found = list(sources.walk([str(tmp_path), str(memory)], own))
    assert [type(one).__name__ for one in found] == ["Item", "Item", "Trouble"]


async def test_a_file_that_changes_while_it_is_read_is_refused(
    tools: Tools, sql: Connection, tmp_path: Path
) -> None:
    """Half of one state and half of another would be stored else."""
    path = tmp_path / "growing"
    path.write_bytes(make.instance())
    [item] = [one for one in sources.walk([str(path)], frozenset()) if isinstance(one, items.Item)]
    path.write_bytes(make.instance() + bytes(10))
    with pytest.raises(items.Unreadable, match="changed"):
        _ = [piece async for piece in item.pieces()]


async def test_a_wish_to_stop_ends_it_in_order(tools: Tools, tmp_path: Path) -> None:
    """Nothing new is begun, what is on its way arrives, and the next run goes on."""
    study(tmp_path / "in", 40)
    stop, said = asyncio.Event(), told()
    said.tally.advance = lambda _: stop.set()
    await start.into(tools, wishes([tmp_path / "in"], tmp_path), said.tally, stop)
    first = said.count(Ending.STORED)
    assert 0 < first < 40
    assert not said.tally.refused
    result = await imported(tools, tmp_path, tmp_path / "in")
    assert result.endings == {"remembered": first, "stored": 40 - first}


async def test_what_is_stored_is_removed_when_that_is_wanted(tools: Tools, tmp_path: Path) -> None:
    """Also what an earlier run stored; what is refused or no DICOM stays."""
    study(tmp_path / "in", 3)
    (tmp_path / "in" / "notes.txt").write_text("mine")
    (tmp_path / "in" / "bad.dcm").write_bytes(make.instance()[:-4])
    await imported(tools, tmp_path, tmp_path / "in" / "0")
    result = await imported(tools, tmp_path, tmp_path / "in", aside=aside.remove)
    assert result.endings == {"remembered": 2, "stored": 1, "skipped": 1, "refused": 1}
    assert {path.name for path in (tmp_path / "in").rglob("*") if path.is_file()} == {"notes.txt", "bad.dcm"}


async def test_what_is_moved_overwrites_nothing(tools: Tools, tmp_path: Path) -> None:
    made = study(tmp_path / "in", 2)
    await imported(tools, tmp_path, tmp_path / "in", aside=aside.moved_to(tmp_path / "out"))
    again = study(tmp_path / "in", 2)
    await imported(tools, tmp_path, tmp_path / "in", aside=aside.moved_to(tmp_path / "out"))
    moved = {path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert moved == {*made.values(), *again.values()}
    assert not [path for path in (tmp_path / "in").rglob("*") if path.is_file()]


async def test_a_folder_that_cannot_be_read_is_told(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in it is not imported, so it must not look as if it were."""
    study(tmp_path / "in", 2)
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("0"):
            raise PermissionError(13, "no", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = await imported(tools, tmp_path, tmp_path / "in")
    assert result.endings == {"refused": 1, "stored": 1}
    assert list(result.refused.values()) == ["It cannot be read (EACCES)."]


async def test_a_memory_that_cannot_be_written_ends_it(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one sentence; a worker's failure leaves nobody waiting."""
    study(tmp_path / "in", 5)
    await imported(tools, tmp_path, tmp_path / "in" / "0")
    monkeypatch.setattr("app.upkeep.importing.done._FULL", 1)
    monkeypatch.setattr("app.upkeep.importing.done._PATIENCE_S", 0.01)
    with closing(sqlite3.connect(tmp_path / "import" / "done.sqlite")) as other:
        other.execute("begin immediate")
        with pytest.raises(Unavailable, match="cannot be noted"):
            await imported(tools, tmp_path, tmp_path / "in")
