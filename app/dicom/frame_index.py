"""Which bytes are a frame: native by arithmetic, encapsulated by tables that are believed only when they fit (PS3.5 8, A.4)."""

from __future__ import annotations

import sys
from array import array
from itertools import pairwise

from app.dicom import tags, transfer_syntax
from app.dicom.encapsulated import Encapsulated
from app.dicom.scan import Bulk, Pixels
from app.dicom.unpadded import Stream

_ITEM_HEADER = 8
_BITS = {tags.FLOAT_PIXEL_DATA: 32, tags.DOUBLE_FLOAT_PIXEL_DATA: 64}
_HALF_CHROMA = (b"YBR_FULL_422", b"YBR_PARTIAL_422")


def declared_frames(known: dict[str, bytes]) -> int:
    """Number of Frames where it is a positive number, else one."""
    text = known.get(tags.NUMBER_OF_FRAMES, b"").strip(b" \0+")
    return int(text) if text.isdigit() and len(text) < 10 and int(text) > 0 else 1


def native(extent: Bulk, known: dict[str, bytes]) -> Pixels:
    """Frames of equal length, as many as were declared and lie there."""
    bits = _frame_bits(extent.path, known)
    fitting = extent.length * 8 // bits if bits else 0
    return Pixels(
        tag=extent.path,
        vr=extent.vr,
        offset=extent.offset,
        length=extent.length,
        number_of_frames=min(declared_frames(known), fitting),
        frame_bits=bits,
        fragments=b"",
        frame_starts=b"",
        stream_length=extent.length,
        container="",
    )


def _frame_bits(tag: str, known: dict[str, bytes]) -> int:
    rows, columns = _number(known, tags.ROWS, 0), _number(known, tags.COLUMNS, 0)
    samples = _number(known, tags.SAMPLES_PER_PIXEL, 1)
    allocated = _BITS.get(tag) or _number(known, tags.BITS_ALLOCATED, 8)
    if known.get(tags.PHOTOMETRIC_INTERPRETATION, b"").strip(b" \0") in _HALF_CHROMA:
        samples = 2  # two luminances share one pair of chrominances (PS3.3 C.7.6.3.1.2)
    return rows * columns * samples * allocated


def _number(known: dict[str, bytes], tag: str, otherwise: int) -> int:
    value = known.get(tag, b"")
    return int.from_bytes(value[:2], "little") if len(value) >= 2 else otherwise


def encapsulated(found: Encapsulated, known: dict[str, bytes], syntax: str, stream: Stream | None) -> Pixels:
    """Frames as sets of fragments; a video is one stream."""
    starts = None if stream else _starts(found, known, syntax)
    if starts is None and not stream:
        _trim(found, known)
    count = declared_frames(known) if stream else len(found.extents) // 2 if starts is None else len(starts)
    return Pixels(
        tag=found.extent.path,
        vr=found.extent.vr,
        offset=found.extent.offset,
        length=found.extent.length,
        number_of_frames=count,
        frame_bits=0,
        fragments=found.packed(),
        frame_starts=b"" if starts is None else _packed(starts),
        stream_length=_declared_length(found, known)
        or (stream.unpadded() if stream else found.stream_length),
        container=stream.container if stream else "",
    )


def _declared_length(found: Encapsulated, known: dict[str, bytes]) -> int:
    """(7FE0,0003), believed when what it leaves over lies in the last fragment."""
    value = known.get(tags.ENCAPSULATED_TOTAL_LENGTH, b"")
    length = int.from_bytes(value, "little") if len(value) == 8 else 0
    last = found.extents[-1] if found.extents else 0
    return length if 0 < length <= found.stream_length and found.stream_length - length < max(last, 1) else 0


def _starts(found: Encapsulated, known: dict[str, bytes], syntax: str) -> array[int] | None:
    """The index of each frame's first fragment; None when every fragment is a frame."""
    fragments = len(found.extents) // 2
    declared = declared_frames(known)
    extended = known.get(tags.EXTENDED_OFFSET_TABLE, b"")
    tables = [
        starts
        for offsets in (_numbers("Q", extended), _numbers("I", found.table))
        if (starts := _from_table(offsets, found)) is not None
    ]
    told = next((starts for starts in tables if len(starts) == declared), None)
    if told is not None:
        return told if len(told) != fragments else None
    if fragments == declared:
        return None
    if declared == 1 and not tables:
        return array("I", [0]) if fragments else None
    seen = _from_markers(found, transfer_syntax.MARKERS.get(syntax, ()))
    if seen is not None and len(seen) != declared and tables:
        seen = tables[0]
    return seen if seen is None or len(seen) != fragments else None


def _trim(found: Encapsulated, known: dict[str, bytes]) -> None:
    """Take each frame's pad away where the Extended Offset Table Lengths tell it (PS3.3 C.7.6.3.1.8)."""
    stored = found.extents[1::2]
    lengths = array("Q", _numbers("Q", known.get(tags.EXTENDED_OFFSET_TABLE_LENGTHS, b"")))
    if len(lengths) == len(stored) and all(0 <= a - b <= 1 for a, b in zip(stored, lengths, strict=True)):
        found.extents[1::2] = lengths


def _numbers(code: str, value: bytes | bytearray) -> array[int]:
    """A table's entries; none when its length is no multiple of an entry's."""
    numbers = array(code)
    if len(value) % numbers.itemsize == 0:
        numbers.frombytes(value)
        _to_little(numbers)
    return numbers


def _from_table(offsets: array[int], found: Encapsulated) -> array[int] | None:
    """Fragments that a table names, or None when it is not ascending from 0 or hits no fragment's beginning.

    A table and the fragments may have a million entries: both are walked along, and no object is made of an entry.
    """
    if not offsets or offsets[0] != 0 or any(a >= b for a, b in pairwise(offsets)):
        return None
    starts, extents = array("I"), found.extents
    at = index = 0
    for offset in offsets:
        while at < offset and 2 * index < len(extents):
            at += extents[2 * index + 1] + _ITEM_HEADER
            index += 1
        if at != offset or 2 * index >= len(extents):
            return None
        starts.append(index)
    return starts


def _from_markers(found: Encapsulated, markers: tuple[bytes, ...]) -> array[int] | None:
    """Fragments that begin as a frame of this syntax does; None when the first one does not."""
    heads = found.heads
    if not markers or not heads.startswith(markers):
        return None
    return array("I", (at // 4 for at in range(0, len(heads), 4) if heads.startswith(markers, at)))


def _packed(starts: array[int]) -> bytes:
    _to_little(starts)
    return starts.tobytes()


def _to_little(numbers: array[int]) -> None:
    if sys.byteorder == "big":
        numbers.byteswap()
