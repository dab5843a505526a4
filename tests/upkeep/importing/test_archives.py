"""Zip and tar files, whole, damaged and hostile: members are streamed, and nothing of them touches the disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from app.index.connection import Connection
from app.tools import Tools
from app.upkeep.importing import aside, unpacked
from app.upkeep.importing.items import Unreadable
from app.upkeep.importing.tally import Ending
from tests import make
from tests.importing import imported
from tests.upkeep_tools import content

Members = dict[str, bytes]


def zipped(path: Path, members: Members, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: Members, mode: str, kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=kind) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


FORMATS: dict[str, Callable[[Path, Members], Path]] = {
    "zip": zipped,
    "stored-zip": lambda path, members: zipped(path, members, zipfile.ZIP_STORED),
    "tar": lambda path, members: tarred(path, members, "w"),
    "gnu-tar": lambda path, members: tarred(path, members, "w", tarfile.GNU_FORMAT),
    "gzip": lambda path, members: tarred(path, members, "w:gz"),
    "bzip2": lambda path, members: tarred(path, members, "w:bz2"),
    "xz": lambda path, members: tarred(path, members, "w:xz"),
}
every_format = pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)


def noise(size: int) -> bytes:
    """An instance of this many bytes of pixels that no archive makes smaller."""
    return make.instance(Rows=1000, Columns=size // 2000, PixelData=random.Random(size).randbytes(size))


async def everything(tools: Tools, sql: Connection) -> set[bytes]:
    return {await content(tools, row[0]) for row in await sql.fetch("select object_key from instance")}


@every_format
async def test_every_member_is_stored_as_it_is(
    tools: Tools, sql: Connection, tmp_path: Path, write: Callable[[Path, Members], Path]
) -> None:
    """Short ones and long ones, of any name, beside what is no DICOM; a second run stores none of them."""
    made = {f"a/{'long/' * 40}{number}": make.instance() for number in range(5)}
    made |= {
        "../../etc/passwd": noise(2_200_000),
        "/root/.ssh/x\n\x1b[2J": make.instance(),
        "x": make.instance(),
    }
    others = {"README.TXT": b"hello", "viewer.exe": bytes(3_000_000), "empty": b""}
    path = write(tmp_path / "study.bin", others | made)
    result = await imported(tools, tmp_path, path)
    assert result.refused == {}
    assert result.endings == {"stored": len(made), "skipped": 3}
    assert await everything(tools, sql) == set(made.values())
    assert {one.name for one in Path.iterdir(tmp_path)} == {"study.bin", "import"}
    assert (await imported(tools, tmp_path, path)).endings == {"remembered": len(made), "skipped": 3}


@every_format
async def test_what_is_cut_keeps_what_came_before(
    tools: Tools, tmp_path: Path, write: Callable[[Path, Members], Path]
) -> None:
    """An archive that ends too early is told, and never taken for a whole one."""
    path = write(tmp_path / "study", {f"{number}.dcm": noise(300_000) for number in range(6)})
    os.truncate(path, path.stat().st_size // 2)
    result = await imported(tools, tmp_path, path)
    assert result.count(Ending.STORED) < 6
    assert result.tally.refused
    assert set(result.refused.values()) <= {
        "The archive is damaged.", "It changed while it was read.", "This is no DICOM file."
    }  # fmt: skip


@every_format
async def test_what_is_damaged_is_told(
    tools: Tools, sql: Connection, tmp_path: Path, write: Callable[[Path, Members], Path]
) -> None:
    """Whatever bits are turned: what is stored is what was put in, or a reason is told."""
    made = {f"{number}.dcm": noise(20_000) for number in range(4)}
    whole = write(tmp_path / "whole", made).read_bytes()
    chance = random.Random(7)
    for number in range(12):
        broken = bytearray(whole)
        for _ in range(3):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        path = tmp_path / f"broken-{number}"
        path.write_bytes(broken)
        before = await everything(tools, sql)
        result = await imported(tools, tmp_path, path)
        others = await everything(tools, sql) - before - set(made.values())
        assert (
            result.refused or not others or write in {FORMATS["tar"], FORMATS["gnu-tar"]}
        )  # without checksums


async def test_an_archive_in_an_archive_stays_closed(tools: Tools, tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", {"a": make.instance()}).read_bytes()
    members = {"inner.zip": inner, "DICOMDIR": make.instance(), "b": make.instance()}
    result = await imported(tools, tmp_path, tarred(tmp_path / "outer.tgz", members, "w:gz"))
    assert result.endings == {"stored": 1, "skipped": 2}


async def test_archives_in_a_folder_are_opened(tools: Tools, tmp_path: Path) -> None:
    """By what they are, not by their names; what is only compressed is no archive."""
    (tmp_path / "in").mkdir()
    zipped(tmp_path / "in" / "one.exe", {"a": make.instance()})
    tarred(tmp_path / "in" / "two", {"a": make.instance()}, "w:xz")
    (tmp_path / "in" / "brain.nii.gz").write_bytes(gzip.compress(bytes(100_000)))
    (tmp_path / "in" / "log.bz2").write_bytes(bz2.compress(b"hello"))
    (tmp_path / "in" / "odd.gz").write_bytes(b"\x1f\x8bnonsense")
    zipped(tmp_path / "in" / "report.docx", {"word/document.xml": b"<x/>"})
    result = await imported(tools, tmp_path, tmp_path / "in")
    assert result.endings == {"stored": 2, "skipped": 3, "refused": 1}
    assert [Path(name).name for name in result.refused] == ["odd.gz"]
    assert list((await imported(tools, tmp_path, tmp_path / "in" / "log.bz2")).refused.values()) == [
        "This is no DICOM file."
    ]


def encrypted(path: Path) -> Path:
    """Only its flag says so; without a key nobody would look further."""
    data = bytearray(zipped(path, {"a.dcm": make.instance()}).read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (encrypted, "It is encrypted."),
        (
            lambda path: zipped(path, {"a": make.instance()}, zipfile.ZIP_LZMA),
            "It is compressed in a way that is not read.",
        ),
    ],
    ids=["encrypted", "lzma"],
)
async def test_members_that_cannot_be_read_are_told(
    tools: Tools, tmp_path: Path, write: Callable[[Path], Path], why: str
) -> None:
    result = await imported(tools, tmp_path, write(tmp_path / "a.zip"))
    assert list(result.refused.values()) == [why]


def pax_bomb(path: Path) -> Path:
    """A header that announces itself as 1 GiB long, for tarfile to hold."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    with lzma.open(path, "wb") as file:
        file.write(info.tobuf())
        for _ in range(64):
            file.write(bytes(1 << 20))
    return path


def sparse_bomb(path: Path) -> Path:
    """An old GNU sparse map without an end."""
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    block = b"%011o\0%011o\0" % (1, 1) * 21 + b"\1" + bytes(7)
    with gzip.open(path, "wb") as file:
        file.write(head)
        for _ in range(20_000):
            file.write(block)
    return path


def zip_bomb(path: Path) -> Path:
    """A directory of 60 MB, made of members that are not there."""
    whole = zipped(path, {"a": b""}).read_bytes()
    start, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    entries = whole[start:end] * 1_300_000
    tail = bytearray(whole[end:])
    tail[8:12] = (0xFFFF).to_bytes(2, "little") * 2
    tail[12:16] = len(entries).to_bytes(4, "little")
    path.write_bytes(whole[:start] + entries + tail)
    return path


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (pax_bomb, "The archive is damaged."),
        (sparse_bomb, "The archive is damaged."),
        (zip_bomb, "The archive's directory is too long."),
    ],
    ids=["pax", "sparse", "zip"],
)
async def test_a_header_costs_no_memory(
    tools: Tools, tmp_path: Path, write: Callable[[Path], Path], why: str
) -> None:
    """Whatever it announces."""
    path = write(tmp_path / "bomb")
    tracemalloc.start()
    try:
        result = await imported(tools, tmp_path, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert list(result.refused.values()) == [why]
    assert peak < 60 << 20


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz"])
def test_what_comes_out_is_bounded_by_what_is_asked_for(packing: str) -> None:
    """A long run of zeros is given piece by piece; several streams in a row are one."""
    packs: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
    }
    pack = packs[packing]
    stream = unpacked.Unpacked(io.BytesIO(pack(bytes(5_000_000)) + pack(b"end") + bytes(512)), packing)
    pieces = []
    while piece := stream.read(10_000):
        pieces.append(piece)
    assert max(map(len, pieces)) <= 10_000
    assert b"".join(pieces) == bytes(5_000_000) + b"end"


async def test_a_bomb_ends_where_it_is_out_of_proportion(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before stays; the disk is not filled by a small file."""
    monkeypatch.setattr(unpacked, "_FREE", 10 << 20)
    blank = make.instance(Rows=1, Columns=1, PixelData=bytes(40 << 20))
    for path in (
        tarred(tmp_path / "a.tgz", {"a": make.instance(), "b": blank}, "w:gz"),
        zipped(tmp_path / "a.zip", {"a": make.instance(), "b": blank}),
    ):
        result = await imported(tools, tmp_path, path)
        assert result.count(Ending.STORED) == 1
        assert set(result.refused.values()) == {"The archive expands to far more than it is."}


def test_a_dictionary_that_wants_gigabytes_is_refused() -> None:
    """An xz file tells how much memory it needs; we say how much it gets."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 << 20}]
    packed = lzma.compress(b"x", lzma.FORMAT_XZ, filters=filters)
    with pytest.raises(Unreadable):
        unpacked.Unpacked(io.BytesIO(packed), "xz").read(1)


async def test_an_archive_goes_when_all_of_it_is_stored(tools: Tools, tmp_path: Path) -> None:
    """One that holds anything else stays: nobody else may have it."""
    zipped(tmp_path / "all.zip", {"a": make.instance(), "b": make.instance()})
    tarred(tmp_path / "some.tgz", {"a": make.instance(), "letter.txt": b"hello"}, "w:gz")
    await imported(tools, tmp_path, tmp_path / "all.zip", tmp_path / "some.tgz", aside=aside.remove)
    assert not (tmp_path / "all.zip").exists()
    assert (tmp_path / "some.tgz").exists()


async def test_links_and_devices_of_a_tar_lead_nowhere(tools: Tools, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"{number}.dcm")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert (await imported(tools, tmp_path, tmp_path / "a.tar")).endings == {}
