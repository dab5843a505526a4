"""Bytes made to cost time or memory: bounded turns, bounded memory, clear refusals."""

from __future__ import annotations

import gc
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from app.dicom.scanner import Limits, Scan, Scanner
from app.errors import Refused
from tests.dicom.corpus import File, by_name, files, scan
from tests.dicom.raw import ITEM_END, SEQUENCE_END, UNDEFINED, explicit, implicit, item
from tests.make import instance

ROOT = Path(__file__).parents[2]
JPEG = "1.2.840.10008.1.2.4.50"
FRAGMENTS = explicit("7FE00010", "OB", b"", UNDEFINED)
OPEN = explicit("70030011", "SQ", b"", UNDEFINED) + implicit("FFFEE000", b"", UNDEFINED)


def _distinct(vr: bytes, more: bytes = b"\0\0") -> bytes:
    return b"".join(struct.pack("<HH", 0x7003, 0x1000 + n % 60_000) + vr + more for n in range(60_000))


FLOODS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: instance(PixelData=None) + explicit("70030011", "LO", b"") * 60_000,
    "private": lambda: instance(PixelData=None) + _distinct(b"LO"),
    "odd-vr": lambda: instance(PixelData=None) + _distinct(b"ZZ", bytes(6)),
    "unknown": lambda: instance(PixelData=None) + _distinct(b"UN", bytes(6)),
    "implicit": lambda: instance("1.2.840.10008.1.2", PixelData=None) + _distinct(b"\0\0"),
    "creators": lambda: instance(PixelData=None) + explicit("70030010", "LO", b"ab") * 60_000,
    "characters": lambda: instance(PixelData=None) + explicit("00080005", "CS", b"x") * 60_000,
    "items": lambda: instance(PixelData=None) + explicit("70030011", "SQ", b"", UNDEFINED) + item() * 60_000,
    "sequences": lambda: instance(PixelData=None) + explicit("70030011", "SQ", b"") * 40_000,
    "nested": lambda: instance(PixelData=None) + (OPEN * 60 + (ITEM_END + SEQUENCE_END) * 60) * 150,
    "disordered": lambda: (
        instance(PixelData=None)
        + (OPEN * 60 + explicit("00100020", "LO", b"") * 900 + (ITEM_END + SEQUENCE_END) * 60) * 20
    ),
    "fragments": lambda: instance(JPEG, PixelData=None) + FRAGMENTS + item() * 60_000 + SEQUENCE_END,
    "decimals": lambda: instance(PixelData=None) + explicit("70030011", "DS", b"+1\\" * 20_000) * 10,
    "odd-numbers": lambda: instance(PixelData=None) + explicit("70030011", "DS", b"x\\" * 2_000) * 100,
    "short-numbers": lambda: instance(PixelData=None) + explicit("70030011", "IS", b"x\\" * 50) * 4_000,
    "texts": lambda: instance(PixelData=None) + explicit("70030011", "LO", b"\\" * 60_000) * 10,
    "names": lambda: instance(PixelData=None) + explicit("00100010", "PN", b"=\\" * 500) * 400,
    "tags": lambda: instance(PixelData=None) + explicit("70030011", "AT", bytes(60_000)) * 10,
    "prose": lambda: instance(PixelData=None) + explicit("70030011", "UT", b"\1" * 1_000_000) * 4,
    "escapes": lambda: instance(PixelData=None) + explicit("70030011", "UT", b"\x1b(B" * 300_000) * 3,
}


@pytest.fixture
def _settled() -> Iterator[None]:
    """As the server does: what the tests have loaded is no matter of the collector."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def longest_turn(data: bytes, *, is_whole: bool) -> float:
    """CPU seconds of the longest step, closing included."""
    scanner, view = Scanner(), memoryview(data)
    longest = 0.0
    for at in range(0, len(view), 64 << 10):
        steps = scanner.steps(view[at : at + (64 << 10)])
        more = True
        while more:
            started = time.thread_time()
            more = next(steps, 1) is None
            longest = max(longest, time.thread_time() - started)
    started = time.thread_time()
    if is_whole:
        scanner.close()
    return max(longest, time.thread_time() - started)


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("name", FLOODS)
def test_no_step_is_long(name: str) -> None:
    """No bytes hold the caller's loop: a step takes under 10 ms here; three tries and 25 ms for a busy machine."""
    data = FLOODS[name]()
    assert any(longest_turn(data, is_whole=name != "items") < 0.025 for _ in range(3))


MEMORY = """
import os, sys
from app.dicom.scanner import Scanner
from app.errors import Refused
scanner, said = Scanner(), ""
try:
    while chunk := os.read(0, 65536):
        scanner.feed(chunk)
    scan = scanner.close()
except Refused as refused:
    said = str(refused)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak >> 10, said)
"""


def _filled(unit: bytes) -> bytes:
    return instance(PixelData=None) + unit * ((16 << 20) // len(unit))


HEADERS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: _filled(explicit("70030011", "LO", b"")),
    "controls": lambda: _filled(explicit("70030011", "LT", b"\1" * 60_000)),
    "prose": lambda: _filled(explicit("70030011", "UT", b"\1" * 1_000_000)),
    "items": lambda: instance(PixelData=None) + explicit("70030011", "SQ", b"", UNDEFINED) + item() * (2 << 20),
    "nested": lambda: _filled(OPEN * 60 + (ITEM_END + SEQUENCE_END) * 60),
    "creators": lambda: instance(PixelData=None)
    + b"".join(
        struct.pack("<HH", group, element) + b"LO\4\0abcd"
        for group in range(0x7003, 0xFFFF, 2)
        for element in range(0x10, 0x60)
    ),
    "fragments": lambda: instance(JPEG, PixelData=None, NumberOfFrames=499_000)
    + FRAGMENTS
    + item(struct.pack("<499000I", *range(0, 8 * 499_000, 8)))
    + item() * 999_000
    + SEQUENCE_END,
    "tables": lambda: instance(JPEG, PixelData=None)
    + explicit("7FE00001", "OV", bytes(8 << 20))
    + explicit("7FE00002", "OV", bytes(8 << 20)),
}  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the process's peak from /proc")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in {"empty", "prose", "tables"} else pytest.mark.heavy)
        for name in HEADERS
    ],
)
def test_a_hostile_header_takes_little_memory(name: str) -> None:
    """16 MiB of header, whatever it holds: at most 128 MiB for the whole process, Python included."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], input=HEADERS[name](), capture_output=True, check=True, cwd=ROOT
    )
    peak, said = done.stdout.decode().split(" ", 1)
    assert int(peak) <= 128, said


@pytest.mark.heavy
def test_millions_of_elements_pass_by_setting() -> None:
    """A real header may be longer than the defaults allow: three settings open the door."""
    row = explicit("00100020", "LO", b"A1") + explicit("00100021", "LO", b"")
    data = instance(PixelData=None) + explicit("00081115", "SQ", item(row) * 700_000)
    with pytest.raises(Refused, match="more than 1000000 elements|longer than"):  # noqa: RUF043
        scan(data)
    found = scan(data, limits=Limits(elements=3_000_000, json_bytes=128 << 20))
    assert found.json.count(b'"00100021"') == 700_000


BROKEN = [File("cut", instance()[:-7]), File("text", b"no DICOM" * 50), File("empty", b"")]


@pytest.mark.parametrize(**by_name([*BROKEN, *(file for file in files() if file.expected != "stored")]))
def test_malformed_files_are_dealt_with_at_once(file: File) -> None:
    """Each gives a refusal or a description with valid JSON within 100 ms of CPU."""
    started = time.thread_time()
    try:
        found: Scan | None = scan(file.data, limits=Limits(normalise=True))
    except Refused:
        found = None
    assert time.thread_time() - started < 0.1
    if found:
        orjson.loads(found.json)


def test_many_fragments_are_told_to_be_many() -> None:
    """Closing is work for a thread when there are very many fragments."""
    scanner = Scanner()
    scanner.feed(instance(JPEG, PixelData=None) + FRAGMENTS + item() * 10)
    assert not scanner.is_large
    scanner.feed(item() * 40_000)
    assert scanner.is_large


def test_a_table_beyond_its_bound_is_not_kept() -> None:
    """A Basic Offset Table of more than 16 MiB is passed by; the frames are what the fragments say."""
    data = instance(JPEG, PixelData=None, NumberOfFrames=2) + FRAGMENTS
    data += implicit("FFFEE000", bytes(17 << 20)) + item(b"\xff\xd8\xff\xe0") * 2 + SEQUENCE_END
    found = scan(data)
    assert found.pixels is not None
    assert found.pixels.number_of_frames == 2


def test_fragments_end_with_their_sequence() -> None:
    """Fragments without a delimiter reach past the item that holds them."""
    with pytest.raises(Refused, match="past the end of their sequence"):
        scan(instance(PixelData=None) + explicit("70030011", "SQ", item(FRAGMENTS + item())))
