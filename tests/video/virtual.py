"""What a viewer gets of a plan, and MP4 files taken apart and put together in ways that no muxer does."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

import av

from app.extent import Extent, Extents
from app.video import faststart
from app.woven import Woven

Packet = tuple[int, int | None, int | None, bool, bytes]


class Sparse:
    """A stream of any length that holds a few pieces of bytes, and zeros between; it counts its reads."""

    def __init__(self, pieces: Iterable[tuple[int, bytes]], length: int | None = None) -> None:
        self.pieces = list(pieces)
        self.length = (
            max((at + len(piece) for at, piece in self.pieces), default=0) if length is None else length
        )
        self.reads = 0

    async def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return self.now(offset, length)

    def now(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.length - offset))
        out = bytearray(length)
        for at, piece in self.pieces:
            start, stop = max(at, offset), min(at + len(piece), offset + length)
            if start < stop:
                out[start - offset : stop - offset] = piece[start - at : stop - at]
        return bytes(out)


class Fragmented(Sparse):
    """The stream of a DICOM file, by its fragments."""

    def __init__(self, path: Path, fragments: Iterable[tuple[int, int]], length: int) -> None:
        super().__init__([], length)
        self._file = path.read_bytes()
        self.extents = Extents(Extent("object", *fragment) for fragment in fragments).slice(0, length)

    def now(self, offset: int, length: int) -> bytes:
        taken = self.extents.slice(offset, offset + length)
        return b"".join(self._file[one.offset : one.offset + one.length] for one in taken)


class Virtual(io.RawIOBase):
    """The file of a plan, as a server would answer it: seekable, made of extents."""

    def __init__(self, plan: faststart.Plan, stream: Sparse) -> None:
        self._stored = {"rendition": plan.header}
        self._stream = stream
        self._position = 0
        self.extents = Extents(Extent(span.source, span.offset, span.length) for span in plan.layout)
        if plan.layout[0].source == "spans":
            own, stored = Extent("rendition", 0, len(plan.header)), Extent("stream", 0, stream.length)
            rows = plan.header[plan.layout[0].offset :]
            self.extents = Woven(rows, {"rendition": Extents([own]), "stream": Extents([stored])})

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = (0, self._position, self.extents.length)[whence] + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        stop = self.extents.length if size < 0 else self._position + size
        taken = self.range(self._position, stop)
        self._position += len(taken)
        return taken

    def range(self, start: int, stop: int) -> bytes:
        return b"".join(
            self._stored["rendition"][one.offset : one.offset + one.length]
            if one.key == "rendition"
            else self._stream.now(one.offset, one.length)
            for one in self.extents.slice(start, stop)
        )


async def virtual(stream: Sparse, longest: int = faststart.LONG) -> tuple[faststart.Plan, Virtual]:
    plan = await faststart.plan(stream.read, stream.length, longest)
    return plan, Virtual(plan, stream)


def packets(source: Any) -> list[Packet]:
    """Every packet, track by track: how tracks interleave follows from how the file lies."""
    with av.open(source, "r") as file:
        found = [
            (packet.stream_index, packet.pts, packet.dts, packet.is_keyframe, bytes(packet))
            for packet in file.demux()
            if packet.size
        ]
    return sorted(found, key=itemgetter(0))


def frames(source: Any) -> list[tuple[int | None, str]]:
    """Each picture's time and digest, and each piece of sound's."""
    with av.open(source, "r") as file:
        return [
            (frame.pts, hashlib.md5(frame.to_ndarray().tobytes()).hexdigest())
            for frame in file.decode()
            if isinstance(frame, av.VideoFrame | av.AudioFrame)
        ]


def box(kind: bytes, *pieces: bytes, wide: bool = False) -> bytes:
    """A box; `wide` writes its size in 64 bits."""
    payload = b"".join(pieces)
    if wide:
        return struct.pack(">I4sQ", 1, kind, 16 + len(payload)) + payload
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def boxes(buffer: bytes) -> list[tuple[bytes, bytes]]:
    """Types and payloads of boxes in a row."""
    found, at = [], 0
    while at < len(buffer):
        size, kind = struct.unpack_from(">I4s", buffer, at)
        found.append((kind, buffer[at + 8 : at + size]))
        at += size
    return found


CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
Edit = Callable[[bytes, bytes], bytes | None]


def edited(buffer: bytes, edit: Edit) -> bytes:
    """The boxes again, each replaced by what `edit` says of its type and payload, if it says something."""
    out = []
    for kind, payload in boxes(buffer):
        inner = edited(payload, edit) if kind in CONTAINERS else payload
        replaced = edit(kind, inner)
        out.append(box(kind, inner) if replaced is None else replaced)
    return b"".join(out)


def shifted(moov: bytes, move: Callable[[int], int], kind: bytes = b"stco") -> bytes:
    """A movie header whose chunk offsets (of 32 bits) are moved, written as `kind`."""

    def edit(found: bytes, payload: bytes) -> bytes | None:
        if found != b"stco":
            return None
        count = struct.unpack_from(">I", payload, 4)[0]
        offsets = [move(offset) for offset in struct.unpack_from(f">{count}I", payload, 8)]
        return box(kind, payload[:8], struct.pack(f">{count}{'Q' if kind == b'co64' else 'I'}", *offsets))

    return edited(moov, edit)


def parts(source: bytes) -> tuple[bytes, bytes, int]:
    """The movie header (with its own), the media data, and where that began, of a file with moov last."""
    at, found = 0, dict[bytes, tuple[int, bytes]]()
    for kind, payload in boxes(source):
        found[kind] = (at + 8, payload)
        at += 8 + len(payload)
    return box(b"moov", found[b"moov"][1]), found[b"mdat"][1], found[b"mdat"][0]
