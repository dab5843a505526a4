"""A movie header of one track of pictures, written from an index (ISO/IEC 14496-12 8)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.video.boxes import Box, box, unpack

Numbers = NDArray[np.int64]

_CHUNK: Final = 64  # samples that are found by one offset
_WIDE: Final = 0xFFFFFFFF
_MATRIX: Final = pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
_UNDETERMINED: Final = 0x55C4  # the language 'und'


@dataclass(frozen=True, slots=True)
class Pictures:
    """Samples in the order of decoding, one behind the other in the media."""

    entry: Box
    lengths: Numbers
    times: Numbers
    """When each is decoded and the last one ends, in ticks from 0."""
    shown: Numbers
    """When each is shown, in ticks from 0."""
    ticks_per_s: int
    syncs: Numbers
    """The samples, from 0, with which a player can begin."""


def movie(pictures: Pictures, start: int) -> Box:
    """The header of a file whose samples begin at `start`."""
    duration = int(pictures.times[-1])
    head = _timed(pictures.ticks_per_s, duration)
    fixed = pack(">IH10x", 1 << 16, 1 << 8) + _MATRIX + pack(">24xI", 2)
    return Box(b"moov", b"", [box(b"mvhd", head, fixed), _track(pictures, duration, start)])


def _track(pictures: Pictures, duration: int, start: int) -> Box:
    delay = int((pictures.times[:-1] - pictures.shown).max())
    enabled = 3  # and in the movie
    wide = duration > _WIDE
    ids = pack(">QQI4xQ" if wide else ">III4xI", 0, 0, 1, duration)
    sides = pack(">II", *_shown(pictures.entry))
    tkhd = box(b"tkhd", pack(">I", wide << 24 | enabled), ids, bytes(16), _MATRIX, sides)
    edit = pack(">QqI" if wide else ">IiI", duration, delay, 1 << 16)
    elst = box(b"elst", pack(">II", wide << 24, 1), edit)
    return Box(
        b"trak",
        b"",
        [tkhd, Box(b"edts", b"", [elst]), _media(pictures, duration, _table(pictures, delay, start))],
    )


def _shown(entry: Box) -> tuple[int, int]:
    """Width and height on a screen, in parts of 65536: a pixel need not be square (8.3.2)."""
    width, height = unpack("HH", entry.payload, 24)
    across, down = unpack("II", entry.only(b"pasp").payload) if entry.all(b"pasp") else (1, 1)
    return min((width * across << 16) // down, _WIDE), height << 16


def _media(pictures: Pictures, duration: int, table: Box) -> Box:
    mdhd = box(b"mdhd", _timed(pictures.ticks_per_s, duration), pack(">HH", _UNDETERMINED, 0))
    hdlr = box(b"hdlr", pack(">8x4s13x", b"vide"))
    dref = box(b"dref", pack(">II", 0, 1), pack(">I4sI", 12, b"url ", 1))
    minf = [box(b"vmhd", pack(">I8x", 1)), Box(b"dinf", b"", [dref]), table]
    return Box(b"mdia", b"", [mdhd, hdlr, Box(b"minf", b"", minf)])


def _timed(ticks_per_s: int, duration: int) -> bytes:
    wide = duration > _WIDE
    return pack(">IQQIQ" if wide else ">IIIII", wide << 24, 0, 0, ticks_per_s, duration)


def _table(pictures: Pictures, delay: int, start: int) -> Box:
    count = len(pictures.lengths)
    steps, composed = np.diff(pictures.times), pictures.shown + delay - pictures.times[:-1]
    chunks = _chunks(pictures.lengths) + start
    tables = [Box(b"stsd", pack(">II", 0, 1), [pictures.entry]), _runs(b"stts", steps)]
    if composed.any():
        tables.append(_runs(b"ctts", composed))
    if len(pictures.syncs) < count:
        tables.append(_listed(b"stss", pictures.syncs + 1))
    stsc = [(1, min(count, _CHUNK), 1)]
    if count > _CHUNK and count % _CHUNK:
        stsc.append((len(chunks), count % _CHUNK, 1))
    entries = b"".join(pack(">III", *one) for one in stsc)
    tables.append(box(b"stsc", pack(">II", 0, len(stsc)), entries))
    tables.append(box(b"stsz", pack(">III", 0, 0, count), pictures.lengths.astype(">u4").tobytes()))
    tables.append(_listed(b"co64", chunks, ">u8"))
    return Box(b"stbl", b"", tables)


def _chunks(lengths: Numbers) -> Numbers:
    """Where each chunk begins."""
    return (np.cumsum(lengths) - lengths)[::_CHUNK]


def _listed(kind: bytes, numbers: Numbers, width: str = ">u4") -> Box:
    return box(kind, pack(">II", 0, len(numbers)), numbers.astype(width).tobytes())


def _runs(kind: bytes, numbers: Numbers) -> Box:
    """Equal numbers in a row as one entry (8.6.1.2, 8.6.1.3)."""
    firsts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    counts = np.diff(firsts, append=len(numbers))
    entries = np.stack([counts, numbers[firsts]], axis=1).astype(">u4")
    return box(kind, pack(">II", 0, len(firsts)), entries.tobytes())
