"""Codecs are named as browsers ask for them, and `hev1` becomes `hvc1` where that is true."""

from __future__ import annotations

import struct

import pytest

from app.video import codecs
from app.video.boxes import Box
from tests.video.virtual import box

VPS, SPS, PPS = 32, 33, 34


def hvcc(
    profile: int, compatibility: int, constraints: bytes, level: int, sets: tuple[int, ...] = (VPS, SPS, PPS)
) -> bytes:
    """An HEVCDecoderConfigurationRecord (14496-15 8.3.3.1)."""
    record = struct.pack(">BBI6sB9xB", 1, profile, compatibility, constraints, level, len(sets))
    return record + b"".join(struct.pack(">BHH4s", 0x80 | kind, 1, 4, b"NALU") for kind in sets)


def visual(kind: bytes, *children: bytes) -> Box:
    return Box(kind, bytes(24) + struct.pack(">HH", 640, 480) + bytes(50) + b"".join(children))


@pytest.mark.parametrize(
    ("record", "parameter"),
    [
        (hvcc(1, 0x60000000, b"\xb0\0\0\0\0\0", 93), "hvc1.1.6.L93.B0"),
        (hvcc(2, 0x20000000, b"\xb0\0\0\0\0\0", 120), "hvc1.2.4.L120.B0"),
        (hvcc(0x21, 0x60000000, b"\0" * 6, 153), "hvc1.1.6.H153"),
        (hvcc(0x44, 0x08000000, b"\x9d\x08\0\x01\0\0", 150), "hvc1.A4.10.L150.9D.8.0.1"),
    ],
)
def test_hevc_is_named_by_annex_e(record: bytes, parameter: str) -> None:
    """Profile space and number, reversed compatibility flags, tier and level, constraints without last zeros."""
    found = codecs.video(visual(b"hvc1", box(b"hvcC", record)))
    assert (found.name, found.parameter, found.width, found.height) == ("HEVC", parameter, 640, 480)


@pytest.mark.parametrize(
    ("sets", "tag"),
    [((VPS, SPS, PPS), b"hvc1"), ((VPS, SPS), b"hev1"), ((), b"hev1"), ((PPS, SPS, VPS, 39), b"hvc1")],
)
def test_retagged_only_with_all_parameter_sets(sets: tuple[int, ...], tag: bytes) -> None:
    """Parameter sets among the pictures stay `hev1`: `hvc1` would be a lie."""
    entry = visual(b"hev1", box(b"hvcC", hvcc(1, 0x60000000, b"\x90" + bytes(5), 93, sets)))
    made = codecs.retagged(entry)
    assert (made.type, made.payload) == (tag, entry.payload)


def test_h264_is_named_with_profile_and_level() -> None:
    """High at level 4.1."""
    found = codecs.video(visual(b"avc1", box(b"pasp", bytes(8)), box(b"avcC", bytes([1, 100, 0, 41]))))
    assert (found.parameter, found.profile, found.level, found.playable) == ("avc1.640029", 100, 41, True)


def descriptor(tag: int, content: bytes) -> bytes:
    """A descriptor whose size is spelled in four bytes, as encoders do."""
    return bytes([tag, 0x80, 0x80, 0x80, len(content)]) + content


def esds(kind: int, specific: bytes = b"", flags: int = 0, optional: bytes = b"") -> bytes:
    decoder = descriptor(4, bytes([kind]) + bytes(12) + (descriptor(5, specific) if specific else b""))
    return box(b"esds", bytes(4), descriptor(3, b"\0\1" + bytes([flags]) + optional + decoder))


def audio(kind: bytes, version: int, *children: bytes) -> Box:
    extra = {0: 0, 1: 16, 2: 36}[version]
    fixed = struct.pack(">8xH14xI", version, 48000 << 16) + bytes(extra)
    return Box(kind, fixed + b"".join(children))


@pytest.mark.parametrize(
    ("entry", "parameter"),
    [
        (audio(b"mp4a", 0, esds(0x40, b"\x11\x90")), "mp4a.40.2"),
        (
            audio(b"mp4a", 1, box(b"wave", box(b"frma", b"mp4a"), esds(0x40, b"\x11\x90"), bytes(8))),
            "mp4a.40.2",
        ),
        (audio(b"mp4a", 2, esds(0x40, b"\x2b\x11")), "mp4a.40.5"),
        (audio(b"mp4a", 0, esds(0x40, b"\xf9\x40")), "mp4a.40.42"),
        (audio(b"mp4a", 0, esds(0x40, b"\x11\x90", 0xE0, b"\0\1\2ab\0\1")), "mp4a.40.2"),
        (audio(b"mp4a", 0, esds(0x6B)), "mp4a.6B"),
        (audio(b"Opus", 0), "opus"),
        (audio(b"sowt", 1), ""),
    ],
    ids=["aac", "quicktime", "version 2", "escaped", "optional fields", "mp3", "opus", "pcm"],
)
def test_sound_is_named(entry: Box, parameter: str) -> None:
    """AAC by its object type, wherever the camera put it."""
    assert codecs.sound(entry).parameter == parameter


@pytest.mark.parametrize(("kind", "title"), [(0x61, "MPEG-2"), (0x6A, "MPEG-1"), (0x20, "MPEG-4 Visual")])
def test_mp4v_says_what_it_is(kind: int, title: str) -> None:
    """One tag holds many codecs; the reason given to a viewer names the real one."""
    found = codecs.video(visual(b"mp4v", esds(kind)))
    assert (found.name, found.playable) == (title, False)
