"""Codecs by their sample descriptions, named as browsers ask for them (RFC 6381, ISO/IEC 14496-15 annex E)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.video.boxes import Box, Buffer, damaged, inside, name, unpack

_VISUAL: Final = 78  # bytes of a VisualSampleEntry before its boxes (14496-12 12.1.3)
_SOUND: Final = {0: 28, 1: 44, 2: 64}  # of an AudioSampleEntry; QuickTime has three versions
_CONFIGURATION: Final = 16 << 10  # parameter sets take a few hundred bytes

_VPS_SPS_PPS: Final = frozenset((32, 33, 34))

# Objects of MPEG-4 systems (14496-1 table 5); mp4ra.org lists them.
_OBJECTS: Final = {
    **dict.fromkeys(range(0x60, 0x66), "MPEG-2"),
    0x20: "MPEG-4 Visual",
    0x6A: "MPEG-1",
    0x6C: "JPEG",
}
_MPEG4_AUDIO: Final = 0x40

# Sample entries that a medical archive meets, for a sentence that helps.
_NAMES: Final = {
    b"jpeg": "Motion JPEG",
    b"mjpa": "Motion JPEG",
    b"mjpb": "Motion JPEG",
    b"mjp2": "Motion JPEG 2000",
    b"s263": "H.263",
    b"h263": "H.263",
    b"vc-1": "VC-1",
    b"encv": "encrypted",
    b"drmi": "encrypted",
    **dict.fromkeys((b"apco", b"apcs", b"apcn", b"apch", b"ap4h", b"ap4x"), "ProRes"),
    **dict.fromkeys(
        (b"m2v1", b"mpg2", b"mx5p", b"mx3p", b"hdv1", b"hdv2", b"hdv3", b"xdvc", b"xd5c"), "MPEG-2"
    ),
}
_SOUND_NAMES: Final = {
    b"Opus": ("Opus", "opus"),
    b"fLaC": ("FLAC", "flac"),
    b"ac-3": ("AC-3", "ac-3"),
    b"ec-3": ("E-AC-3", "ec-3"),
    b".mp3": ("MP3", "mp4a.6B"),
}


@dataclass(frozen=True, slots=True)
class Codec:
    """What a track holds; `parameter` is its place in `codecs=`, empty where it has none."""

    name: str
    parameter: str = ""
    profile: int = 0
    level: int = 0
    width: int = 0
    height: int = 0
    sample_rate: int = 0
    playable: bool = False


def video(entry: Box) -> Codec:
    """The codec of a VisualSampleEntry; browsers play H.264 and, some, HEVC."""
    width, height = unpack("HH", entry.payload, 24)
    if entry.type in {b"avc1", b"avc3"}:
        profile, flags, level = unpack("BBB", _configuration(entry, b"avcC"), 1)
        parameter = f"{name(entry.type)}.{profile:02x}{flags:02x}{level:02x}"
        return Codec("H.264", parameter, profile, level, width, height, playable=True)
    if entry.type in {b"hvc1", b"hev1"}:
        record = _configuration(entry, b"hvcC")
        profile, level = unpack("B", record, 1)[0] & 31, unpack("B", record, 12)[0]
        parameter = f"{name(entry.type)}.{_hevc(record)}"
        return Codec("HEVC", parameter, profile, level, width, height, playable=True)
    if entry.type == b"mp4v":
        kind = _object(entry, _VISUAL)[0]
        return Codec(_OBJECTS.get(kind, f"MPEG-4 object {kind:02X}"), width=width, height=height)
    return Codec(_NAMES.get(entry.type, f"'{name(entry.type)}'"), width=width, height=height)


def sound(entry: Box) -> Codec:
    """The codec of an AudioSampleEntry."""
    version, rate = unpack("H", entry.payload, 8)[0], unpack("I", entry.payload, 24)[0] >> 16
    if entry.type != b"mp4a":
        title, parameter = _SOUND_NAMES.get(entry.type, (f"'{name(entry.type)}'", ""))
        return Codec(title, parameter, sample_rate=rate)
    kind, specific = _object(entry, _SOUND.get(version, _SOUND[0]))
    if kind != _MPEG4_AUDIO:
        return Codec("MP3" if kind in {0x69, 0x6B} else f"MPEG-4 object {kind:02X}", f"mp4a.{kind:02X}")
    first, second = unpack("BB", specific)
    profile = first >> 3
    if profile == 31:  # escaped: six more bits (14496-3 1.6.2.1)
        profile = 32 + ((first & 7) << 3 | second >> 5)
    return Codec("AAC", f"mp4a.40.{profile}", profile, sample_rate=rate)


def retagged(entry: Box) -> Box:
    """`hev1` as `hvc1`, which alone Safari plays, where all parameter sets stand in the configuration."""
    if entry.type != b"hev1" or _VPS_SPS_PPS - _parameter_sets(_configuration(entry, b"hvcC")):
        return entry
    return Box(b"hvc1", entry.payload)


def _configuration(entry: Box, kind: bytes) -> Buffer:
    for child in inside(entry.payload, _VISUAL):
        if child.type == kind and len(child.payload) <= _CONFIGURATION:
            return child.payload
    raise damaged(f"its description of the codec has no '{name(kind)}'")


def _hevc(record: Buffer) -> str:
    """`1.6.L93.B0`: profile, compatibility flags from the last bit, tier and level, constraints."""
    first, compatibility = unpack("BI", record, 1)
    constraints, level = bytes(record[6:12]).rstrip(b"\0"), unpack("B", record, 12)[0]
    space = ("", "A", "B", "C")[first >> 6]
    reversed_flags = int(f"{compatibility:032b}"[::-1], 2)
    tier = "H" if first & 0x20 else "L"
    parts = [f"{space}{first & 31}", f"{reversed_flags:X}", f"{tier}{level}"]
    return ".".join([*parts, *(f"{byte:X}" for byte in constraints)])


def _parameter_sets(record: Buffer) -> set[int]:
    """The types of the NAL units that the configuration carries (14496-15 8.3.3.1)."""
    found, offset = set[int](), 23
    for _ in range(unpack("B", record, 22)[0]):
        kind, count = unpack("BH", record, offset)
        offset += 3
        for _ in range(count):
            offset += 2 + unpack("H", record, offset)[0]
        if count and offset <= len(record):
            found.add(kind & 0x3F)
    return found


def _object(entry: Box, fixed: int) -> tuple[int, Buffer]:
    """The object type of an `esds` and its DecoderSpecificInfo (14496-1 7.2.6.5); QuickTime hides it in `wave`."""
    children = inside(entry.payload, fixed)
    for wave in (child for child in children if child.type == b"wave"):
        children += inside(wave.payload)
    for child in children:
        if child.type == b"esds":
            return _decoder(child.payload[4:])
    raise damaged("its description of the codec has no 'esds'")


def _decoder(stream: Buffer) -> tuple[int, Buffer]:
    es = _descriptor(stream, 3)
    flags = unpack("B", es, 2)[0]
    offset = 3 + (2 if flags & 0x80 else 0)
    offset += 1 + unpack("B", es, offset)[0] if flags & 0x40 else 0
    decoder = _descriptor(es[offset + (2 if flags & 0x20 else 0) :], 4)
    kind = unpack("B", decoder)[0]
    return kind, _descriptor(decoder[13:], 5) if len(decoder) > 13 else b""


def _descriptor(buffer: Buffer, tag: int) -> Buffer:
    """The content of the descriptor that `buffer` begins with; its size has up to four bytes of seven bits."""
    if unpack("B", buffer)[0] != tag:
        raise damaged("an 'esds' descriptor is missing")
    length = 0
    for offset in range(1, 5):
        byte = unpack("B", buffer, offset)[0]
        length = length << 7 | byte & 0x7F
        if byte < 0x80:
            return buffer[offset + 1 : offset + 1 + length]
    raise damaged("the size of an 'esds' descriptor has no end")
