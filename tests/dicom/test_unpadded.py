"""The unpadded length of a video, and its container, whatever way it streams by."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dicom import unpadded
from app.dicom.unpadded import Stream
from tests.dicom.corpus import box, sliced

FTYP = box(b"ftyp", 8)
LARGE = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"12345"
ENDLESS = struct.pack(">I4s", 0, b"mdat") + b"12345"
PACKET = b"G" + bytes(187)


def passed(data: bytes, size: int = 1 << 20) -> Stream:
    """The stream after all of it went by in chunks."""
    stream = Stream()
    for view in sliced(data, size):
        stream.take(view)
    return stream


@pytest.mark.parametrize(
    ("data", "container", "length"),
    [
        (FTYP + box(b"mdat", 5) + b"\0", "mp4", 16 + 13),
        (FTYP + box(b"mdat", 6), "mp4", 16 + 14),
        (FTYP + LARGE + b"\0", "mp4", 16 + 21),
        (FTYP + ENDLESS + b"\0", "mp4", 16 + 13 + 1),
        (FTYP + box(b"mdat", 5) + bytes(9), "mp4", 16 + 13),
        (FTYP + box(b"mdat", 50)[:-10], "mp4", 16 + 48),
        (FTYP + struct.pack(">I4s", 4, b"mdat"), "mp4", 16),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 2), "mp4", 16),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 1 << 63), "mp4", 32),
        (FTYP + box(b"moof", 3) + box(b"mdat", 2) + b"\0", "fmp4", 16 + 11 + 10),
        (PACKET * 5, "ts", 940),
        (PACKET * 5 + b"\0", "ts", 940),
        (PACKET, "ts", 188),
        (PACKET * 5 + bytes(2), "ts", 942),
        (b"\0\0\0\0" + b"G" + bytes(187) + b"\0\0\0\0G" + bytes(186), "ts", 383),
        (b"\0\0\0\1\x67\x11\0", "annexb", 6),
        (b"\0\0\1\x67\x11\0\0", "annexb", 6),
        (b"\0\0\1\x67\x11", "annexb", 5),
        (b"\0\0\1\xba\x11\0", "ps", 6),
        (b"\0\0\1\xb3\x11\0", "mpeg", 6),
        (b"nothing known\0", "unknown", 14),
        (b"", "unknown", 0),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 15, 16, 17, 1 << 20])
def test_rule(data: bytes, container: str, length: int, size: int) -> None:
    """One rule a container, the same for any chunking."""
    stream = passed(data, size)
    assert (stream.container, stream.unpadded(), stream.length) == (container, length, len(data))


@given(st.binary(max_size=200), st.integers(1, 40))
def test_anything_has_a_length(data: bytes, size: int) -> None:
    """Hostile bytes give a length within the stream, for any chunking."""
    stream = passed(FTYP + data, size)
    assert 0 <= stream.unpadded() <= stream.length
    assert stream.unpadded() == passed(FTYP + data).unpadded()


def test_a_flood_of_boxes_ends_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of empty boxes is not followed for ever; its length is as stored then."""
    monkeypatch.setattr(unpadded, "_MOST_BOXES", 100)
    assert passed(FTYP + box(b"free", 0) * 1000 + b"\0").unpadded() == 16 + 8000 + 1
