"""A DICOMDIR's files are imported once, whoever names it, and what it names and lacks is told."""

from __future__ import annotations

import gc
import io
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.fileset import FileSet

from app.tools import Tools
from app.upkeep.importing import dicomdir
from app.upkeep.importing.items import Unreadable
from tests import make
from tests.importing import imported


def medium(folder: Path, count: int = 4) -> Path:
    """A medium with a DICOMDIR, beside it what makes up a CD."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # of a temporary folder that pydicom never removes itself
        files = FileSet()
        for number in range(count):
            files.add(dcmread(io.BytesIO(make.instance(StudyInstanceUID="1.5", InstanceNumber=number))))
        files.write(folder)
        del files
        gc.collect()
    (folder / "VIEWER.EXE").write_bytes(b"MZ" + bytes(1000))
    return folder / "DICOMDIR"


def ids(content: bytes) -> list[tuple[str, ...]]:
    return list(dicomdir.file_ids(io.BytesIO(content)))


def last_id(cd: Path) -> bytes:
    """As it is written."""
    name = "\\".join(ids(cd.read_bytes())[-1]).encode()
    return name + b" " * (len(name) % 2)


def lose(cd: Path) -> None:
    """One of its files is gone."""
    (cd.parent / Path(*ids(cd.read_bytes())[1])).unlink()


def change(cd: Path, before: bytes, after: bytes) -> None:
    """Other bytes in the place of these, the last ones if there are several."""
    content = cd.read_bytes()
    at = content.rindex(before)
    cd.write_bytes(content[:at] + after + content[at + len(before) :])


@pytest.fixture
def cd(tmp_path: Path) -> Path:
    return medium(tmp_path / "cd")


async def test_its_files_are_imported(tools: Tools, tmp_path: Path, cd: Path) -> None:
    (tmp_path / "cd" / "other.dcm").write_bytes(make.instance())
    result = await imported(tools, tmp_path, cd)
    assert result.endings == {"stored": 4}


async def test_a_folder_with_one_is_imported_once(tools: Tools, tmp_path: Path, cd: Path) -> None:
    """Also what it does not name; the DICOMDIR itself is no instance."""
    (tmp_path / "cd" / "other.dcm").write_bytes(make.instance())
    result = await imported(tools, tmp_path, tmp_path / "cd")
    assert result.endings == {"stored": 5, "skipped": 1}


async def test_what_it_names_and_lacks_is_told(tools: Tools, tmp_path: Path, cd: Path) -> None:
    """A picture that is lost must not go unnoticed, however the medium is given."""
    lose(cd)
    for path in (cd, cd.parent):
        result = await imported(tools, tmp_path, path)
        assert list(result.refused.values()) == ["A DICOMDIR names it, and it is not there."]


async def test_names_in_another_case_are_found(tools: Tools, tmp_path: Path, cd: Path) -> None:
    """As some systems show a CD: lower case, with versions and dots."""
    for number, path in enumerate(sorted(cd.parent.rglob("*"), reverse=True)):
        suffix = ("", ";1", ".")[number % 3] if path.is_file() and path != cd else ""
        path.rename(path.with_name(path.name.lower() + suffix))
    result = await imported(tools, tmp_path, cd.with_name("dicomdir"))
    assert result.endings == {"stored": 4}


@pytest.mark.parametrize(
    "name", [b"..\\SECRET", b"LINK", b"/etc/passwd", b"A\0B", b".", b"\\\\SECRET", b"SECRET"]
)
async def test_it_leads_nowhere_else(tools: Tools, tmp_path: Path, cd: Path, name: bytes) -> None:
    """Not by a name, not by a link: what is imported lies below its folder."""
    (tmp_path / "SECRET").write_bytes(make.instance())
    (tmp_path / "cd" / "LINK").symlink_to(tmp_path / "SECRET")
    last = last_id(cd)
    change(cd, last, name.ljust(len(last)))
    result = await imported(tools, tmp_path, cd)
    assert result.endings == {"stored": 3, "refused": 1}


async def test_one_that_names_itself_goes_in_no_circle(tools: Tools, tmp_path: Path, cd: Path) -> None:
    last = last_id(cd)
    change(cd, last, b"DICOMDIR".ljust(len(last)))
    assert (await imported(tools, tmp_path, cd)).endings == {"stored": 3}


async def test_records_out_of_use_are_left_out(tools: Tools, tmp_path: Path, cd: Path) -> None:
    in_use = b"\x04\x00\x10\x14US\x02\x00"
    change(cd, in_use + b"\xff\xff", in_use + b"\0\0")
    assert (await imported(tools, tmp_path, cd)).endings == {"stored": 3}


async def test_a_broken_one_is_told(tools: Tools, tmp_path: Path, cd: Path) -> None:
    change(cd, b"\x04\x00\x30\x14CS", b"\x04\x00\x30\x14\1\2")
    result = await imported(tools, tmp_path, cd)
    assert list(result.refused.values()) == ["The DICOMDIR cannot be read to its end."]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return medium(tmp_path_factory.mktemp("cd") / "cd", 1).read_bytes()


@given(data=st.data())
def test_whatever_it_holds_it_is_read_or_refused(small: bytes, data: st.DataObject) -> None:
    """Cut anywhere, any byte turned: no other error, no endless loop, no name that is long."""
    content = bytearray(small)
    for at in data.draw(st.lists(st.integers(132, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    try:
        found = ids(bytes(content[: data.draw(st.integers(132, len(content)))]))
    except Unreadable:
        return
    assert sum(len(one) for names in found for one in names) <= len(content)
