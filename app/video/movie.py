"""The movie header (`moov`): its tracks, and what of it a player needs (ISO/IEC 14496-12 8)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from app.video import Unplayable, codecs
from app.video.boxes import Box, Buffer, box, damaged, inside, joined, unpack
from app.video.codecs import Codec

_TRACKS: Final = 64
_DESCRIPTIONS: Final = 16
_BLOCK: Final = 1 << 16  # entries of a table taken at a time, so that hostile ones cost no memory
_VIDEO: Final = b"vide"
_SOUND: Final = b"soun"

# What goes into the served header. All else stays where it is stored: names, places and remarks (udta,
# meta, uuid, vendors' boxes), references to tracks that are left out, movie fragments' defaults.
_KEPT: Final = {
    b"moov": frozenset((b"mvhd", b"trak")),
    b"trak": frozenset((b"tkhd", b"edts", b"mdia")),
    b"mdia": frozenset((b"mdhd", b"hdlr", b"minf", b"elng")),
    b"minf": frozenset((b"vmhd", b"smhd", b"dinf", b"stbl")),
    b"stbl": frozenset(
        b"stsd stts ctts cslg stss stps stsc stsz stz2 stco co64 sdtp sbgp sgpd padb stdp stsh subs".split()
    ),
}


@dataclass(frozen=True, slots=True)
class Track:
    """A track that is served: its boxes, its codec and its table of chunk offsets."""

    box: Box
    table: Box
    codec: Codec
    is_video: bool
    samples: int
    ticks: int
    ticks_per_s: int

    @property
    def sample_table(self) -> Box:
        """The tables of its samples."""
        return self.box.only(b"mdia").only(b"minf").only(b"stbl")


@dataclass(frozen=True, slots=True)
class Description:
    """What a video is, by its movie header."""

    codec: Codec
    samples: int
    duration_s: Fraction
    samples_per_s: Fraction
    sound: Codec | None


def tracks(payload: Buffer) -> tuple[Box, list[Track]]:
    """The movie header without what no player needs, and its tracks; Unplayable says what is missing."""
    moov = _tree(b"moov", payload)
    found = [track for trak in _traks(moov) if (track := _track(trak)) is not None]
    playable = [track for track in found if track.is_video and track.codec.playable]
    if not playable:
        _explain(found)
    if not any(track.samples for track in playable):
        raise Unplayable("The video's MP4 holds no pictures.")
    served = [track for track in found if track.codec.playable or not track.is_video]
    moov.children = [*moov.all(b"mvhd"), *(track.box for track in served)]
    moov.only(b"mvhd")
    return moov, served


def describe(payload: Buffer) -> Description:
    """What the video of this movie header is: codec, pictures, duration and rate; its first sound."""
    found = tracks(payload)[1]
    shown = next(track for track in found if track.is_video and track.samples)
    duration = Fraction(shown.ticks, shown.ticks_per_s)
    rate = shown.samples / duration if duration else Fraction(0)
    heard = next((track.codec for track in found if not track.is_video), None)
    return Description(shown.codec, shown.samples, duration, rate, heard)


def _explain(found: list[Track]) -> None:
    for track in found:
        if track.is_video and track.codec.name == "encrypted":
            raise Unplayable("The video is encrypted.")
        if track.is_video:
            raise Unplayable(f"The video's codec is {track.codec.name}, which no browser plays.")
    raise Unplayable("The MP4 has no video track.")


def _tree(kind: bytes, payload: Buffer) -> Box:
    """A container and the containers in it, down to the sample tables."""
    children = inside(payload)
    if any(child.type == b"cmov" for child in children):
        raise Unplayable("The video's movie header is compressed (QuickTime cmov), which is not read.")
    kept = [child for child in children if child.type in _KEPT[kind]]
    tree = [_tree(child.type, child.payload) if child.type in _KEPT else child for child in kept]
    return Box(kind, b"", tree)


def _traks(moov: Box) -> list[Box]:
    found = moov.all(b"trak")
    if len(found) > _TRACKS:
        raise Unplayable(f"The video's MP4 has more than {_TRACKS} tracks.")
    return found


def _track(trak: Box) -> Track | None:
    """A track of pictures or sound; None for time codes, captions and telemetry, which browsers do not show."""
    mdia = trak.only(b"mdia")
    handler = mdia.only(b"hdlr")
    kind = bytes(handler.payload[8:12])
    if kind not in {_VIDEO, _SOUND}:
        return None
    handler.payload = struct.pack(">8x4s13x", kind)  # its name may be anybody's
    minf = mdia.only(b"minf")
    stbl = minf.only(b"stbl")
    _keep_inside(minf)
    offsets = stbl.all(b"stco") + stbl.all(b"co64")
    if len(offsets) != 1:
        raise damaged("a track has no single table of chunk offsets")
    media = mdia.only(b"mdhd").payload
    ticks_per_s = unpack("I", media, 20 if unpack("B", media)[0] == 1 else 12)[0]
    codec = _described(stbl.only(b"stsd"), is_video=kind == _VIDEO)
    ticks = _ticks(stbl.only(b"stts").payload)
    if not ticks_per_s:
        raise damaged("a track's clock stands still")
    return Track(trak, offsets[0], codec, kind == _VIDEO, _samples(stbl), ticks, ticks_per_s)


def _described(stsd: Box, *, is_video: bool) -> Codec:
    """The codec of a track. One that changes on the way plays only where each of its codecs does."""
    entries = inside(stsd.payload, 8)
    if not 0 < len(entries) <= _DESCRIPTIONS:
        raise damaged("a track has no or too many descriptions of its codec")
    if not is_video:
        return _heard(entries[0])
    entries = [codecs.retagged(entry) for entry in entries]
    stsd.payload = bytes(stsd.payload[:8]) + joined(entries)
    found = [codecs.video(entry) for entry in entries]
    return next((codec for codec in found if not codec.playable), found[0])


def _heard(entry: Box) -> Codec:
    """Sound that we cannot name is no reason to hide the pictures."""
    try:
        return codecs.sound(entry)
    except Unplayable:
        return Codec("unknown")


def _keep_inside(minf: Box) -> None:
    """References to this very file, and said so; QuickTime's may hold a path of the disk it was made on."""
    drefs = [child for dinf in minf.all(b"dinf") for child in inside(dinf.payload) if child.type == b"dref"]
    entries = [entry for dref in drefs for entry in inside(dref.payload, 8)]
    if not all(unpack("I", entry.payload)[0] & 1 for entry in entries):
        raise Unplayable("The video's pictures or sound lie in another file.")
    count = max(1, len(entries))
    here = joined([box(b"url ", struct.pack(">I", 1))] * count)
    dinf = box(b"dinf", joined([box(b"dref", struct.pack(">II", 0, count), here)]))
    others = [child for child in minf.children if child.type not in {b"dinf", b"stbl"}]
    minf.children = [*others, dinf, minf.only(b"stbl")]


def _samples(stbl: Box) -> int:
    sizes = stbl.all(b"stsz") + stbl.all(b"stz2")
    if len(sizes) != 1:
        raise damaged("a track has no single table of sample sizes")
    return unpack("I", sizes[0].payload, 8)[0]


def _ticks(payload: Buffer) -> int:
    """The duration that the table of decoding times adds up to (8.6.1.2)."""
    count = unpack("I", payload, 4)[0]
    if 8 + 8 * count > len(payload):
        raise damaged("a table is longer than its box")
    ticks = 0.0  # exact below 2^53, where real durations lie
    for start in range(0, count, _BLOCK):
        pairs = np.frombuffer(payload, ">u4", 2 * min(_BLOCK, count - start), 8 + 8 * start).astype(
            np.float64
        )
        ticks += float(np.dot(pairs[::2], pairs[1::2]))
    return int(ticks)
