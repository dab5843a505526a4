"""Frames of encapsulated and native pixels: tables that fit are believed, others replaced by what the stream says."""

from __future__ import annotations

import struct

import pytest

from app.dicom import frame_index, tags
from app.dicom.encapsulated import Encapsulated
from app.dicom.scan import Bulk, Pixels

JPEG = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
START, MORE = b"\xff\xd8\xff\xe0data", b"more data"[:8]


def indexed(
    pieces: list[bytes],
    declared: int | str,
    table: list[int] | bytes = b"",
    syntax: str = JPEG,
    extended: tuple[list[int], list[int]] | None = None,
) -> Pixels:
    """Pixels of these fragments."""
    found = Encapsulated(Bulk("7FE00010", "OB", 1000, 0))
    packed = table if isinstance(table, bytes) else struct.pack(f"<{len(table)}I", *table)
    at = 1000
    for item in [packed, *pieces]:
        found.begin(at + 8, len(item))
        for byte in item:
            found.take(memoryview(bytes([byte])))
        at += 8 + len(item)
    found.finish(at)
    known = {tags.NUMBER_OF_FRAMES: str(declared).encode()}
    if extended is not None:
        known[tags.EXTENDED_OFFSET_TABLE] = struct.pack(f"<{len(extended[0])}Q", *extended[0])
        known[tags.EXTENDED_OFFSET_TABLE_LENGTHS] = struct.pack(f"<{len(extended[1])}Q", *extended[1])
    return frame_index.encapsulated(found, known, syntax, None)


def starts(pixels: Pixels) -> list[int]:
    """The first fragment of each frame; nothing when each fragment is one."""
    return [start for (start,) in struct.iter_unpack("<I", pixels.frame_starts)]


@pytest.mark.parametrize(
    ("pieces", "declared", "table", "count", "expected"),
    [
        ([START, START], 2, [0, 16], 2, []),
        ([START, START], 2, b"", 2, []),
        ([START, MORE, START], 2, [0, 32], 2, [0, 2]),
        ([START, MORE, START], 2, b"", 2, [0, 2]),
        ([START, MORE, START], 2, [0, 16], 2, [0, 1]),
        ([START, MORE, START], 2, [0, 9999], 2, [0, 2]),
        ([START, MORE, START], 2, [32, 0], 2, [0, 2]),
        ([START, MORE, START], 2, [0, 48], 2, [0, 2]),
        ([START, MORE, START], 2, b"\0\0\0", 2, [0, 2]),
        ([START, MORE, START], 2, [0], 2, [0, 2]),
        ([START, MORE, START], 3, [0, 0, 16], 3, []),
        ([START, START * 5, MORE, START * 3, MORE], 3, [0, 16, 80], 3, [0, 1, 3]),
        ([START, b"", MORE, START], 2, [0, 16], 2, [0, 1]),
        ([START, MORE, MORE], 1, b"", 1, [0]),
        ([START, START, START], 2, b"", 3, []),
        ([START, START, MORE], 5, b"", 2, [0, 1]),
        ([START, START, MORE], 5, [0, 32], 2, [0, 2]),
        ([MORE, MORE, MORE], 2, b"", 3, []),
        ([START], 2, b"", 1, []),
        ([START], "x", b"", 1, []),
        ([], 1, b"", 0, []),
        ([], 3, b"", 0, []),
        ([b"\xff", START], 3, b"", 2, []),
    ],
)
def test_encapsulated(
    pieces: list[bytes], declared: int | str, table: list[int] | bytes, count: int, expected: list[int]
) -> None:
    """The table where it fits, else the number of frames, else what fragments begin with."""
    pixels = indexed(pieces, declared, table)
    assert (pixels.number_of_frames, starts(pixels)) == (count, expected)


def test_fragments_of_rle_are_frames() -> None:
    """A syntax without a marker has one fragment a frame."""
    assert indexed([MORE, MORE, MORE], 2, syntax=RLE).number_of_frames == 3


def test_an_extended_table_tells_the_pad() -> None:
    """Extended Offset Table Lengths take each frame's pad away; nonsense ones are ignored."""
    trimmed = indexed([START, START], 2, extended=([0, 16], [7, 8]))
    assert [length for _, length in struct.iter_unpack("<QQ", trimmed.fragments)] == [7, 8]
    assert trimmed.stream_length == 15
    assert trimmed.tag == "7FE00010"
    for nonsense in ([2, 900], [6, 8], [9, 8], [8]):
        assert indexed([START, START], 2, extended=([0, 16], nonsense)).stream_length == 16


@pytest.mark.parametrize(
    ("total", "expected"), [(15, 15), (16, 16), (17, 16), (8, 16), (0, 16), (9, 9)], ids=str
)
def test_the_total_length_is_believed_within_the_last_fragment(total: int, expected: int) -> None:
    """(7FE0,0003) counts where what it leaves over lies in the last fragment."""
    found = Encapsulated(Bulk("7FE00010", "OB", 0, 0))
    for at, item in ((8, b""), (16, START), (32, MORE)):
        found.begin(at, len(item))
        found.take(memoryview(item))
    known = {tags.ENCAPSULATED_TOTAL_LENGTH: total.to_bytes(8, "little")}
    assert frame_index.encapsulated(found, known, JPEG, None).stream_length == expected


@pytest.mark.parametrize(
    ("length", "frames", "bits", "photometric", "expected"),
    [
        (64, b"2", 8, b"RGB", (1, 48 * 8)),
        (96, b"2 ", 8, b"RGB", (2, 48 * 8)),
        (64, b"2", 8, b"YBR_FULL_422", (2, 32 * 8)),
        (1000, b"3", 16, b"MONOCHROME2 ", (3, 48 * 16)),
        (6, b"1", 1, b"MONOCHROME2", (1, 48)),
        (6, b"-5", 1, b"", (1, 48)),
        (6, b"99999999999999", 1, b"", (1, 48)),
        (6, b"3", 0, b"", (0, 0)),
    ],
)
def test_native(length: int, frames: bytes, bits: int, photometric: bytes, expected: tuple[int, int]) -> None:
    """As many frames as were declared and fit."""
    known = {
        tags.ROWS: b"\4\0",
        tags.COLUMNS: b"\4\0",
        tags.SAMPLES_PER_PIXEL: b"\3\0",
        tags.BITS_ALLOCATED: bits.to_bytes(2, "little"),
        tags.NUMBER_OF_FRAMES: frames,
        tags.PHOTOMETRIC_INTERPRETATION: photometric,
    }
    pixels = frame_index.native(Bulk("7FE00010", "OW", 0, length), known)
    assert (pixels.number_of_frames, pixels.frame_bits) == expected


def test_float_pixels_need_no_bits_allocated() -> None:
    """Float pixels have 32 bits, double float pixels 64."""
    known = {tags.ROWS: b"\2\0", tags.COLUMNS: b"\2\0"}
    assert frame_index.native(Bulk("7FE00008", "OF", 0, 16), known).frame_bits == 128
    assert frame_index.native(Bulk("7FE00009", "OD", 0, 32), known).frame_bits == 256
