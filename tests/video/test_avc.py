"""H.264's three ways to tell the order of pictures, and headers that lie: understood exactly, or left to another."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.video import NeedsRemux, annexb, avc
from app.video.nal import Unit
from tests.video import bare
from tests.video.bits import Header, fields, packed, rewritten, se, ue

PLAIN = "cabac=0:8x8dct=0:ref=1:weightp=0:weightb=0:b-adapt=0:direct=spatial:profile=main"


async def same_pictures(folder: Path, original: bytes, crafted: bytes) -> None:
    """The crafted stream shows what the original shows, and its MP4 shows that in time."""
    shown = bare.pictures(original, "h264")
    assert bare.pictures(crafted, "h264") == shown
    async with bare.served(folder, crafted) as served:
        found = bare.timed(await served.whole(), "mp4")
    assert [digest for _, digest in found] == shown
    assert [time for time, _ in found] == pytest.approx([number / bare.FPS for number in range(len(shown))])


async def test_order_by_differences_from_nothing(tmp_path: Path) -> None:
    """Type 1 without a cycle: each slice carries its picture's count itself (8.2.1.2)."""
    source = bare.encoded("h264", f"{PLAIN}:bframes=2")
    order = ue(1) + "0" + se(0) + se(0) + ue(0)

    def edit(header: Header) -> tuple[int, str, str]:
        count = header.lsb - (64 if header.lsb > 32 else 0)
        return header.frame_num, se(count), header.rest

    await same_pictures(tmp_path, source, rewritten(source, order, edit))


async def test_order_by_a_cycle(tmp_path: Path) -> None:
    """Type 1 with a cycle of two, and pictures that nothing refers to half a step before (8.2.1.2)."""
    source = bare.encoded("h264", f"{PLAIN}:bframes=1:b-pyramid=none")
    order = ue(1) + "1" + se(-2) + se(1) + ue(2) + se(4) + se(4)
    await same_pictures(tmp_path, source, rewritten(source, order, lambda one: (one.frame_num, "", one.rest)))


async def test_order_of_decoding(tmp_path: Path) -> None:
    """Type 2, where frame numbers begin again on the way (8.2.1.3)."""
    source = bare.encoded("h264", f"{PLAIN}:bframes=0:keyint=60:min-keyint=60", frames=50)
    await same_pictures(tmp_path, source, source)


async def test_a_picture_that_forgets_all_before_it(tmp_path: Path) -> None:
    """Operation 5 begins a new count as an IDR picture does (8.2.1, 7.4.3)."""
    source = bare.encoded("h264", f"{PLAIN}:bframes=0:keyint=60:min-keyint=60")

    def edit(header: Header) -> tuple[int, str, str]:
        if header.index == 9:
            assert header.rest[:3] == "000"  # as many references as usual, in their order, marked as usual
            return header.frame_num, "", f"001{ue(5)}{ue(0)}{header.rest[3:]}"
        return header.frame_num - (9 if header.index > 9 else 0), "", header.rest

    await same_pictures(tmp_path, source, rewritten(source, ue(2), edit))


async def test_two_fields_are_one_picture(tmp_path: Path) -> None:
    """Coded apart, delimiters between them, shown in another order than decoded: one sample for both (14496-15 5.3.2)."""
    source = fields(
        [(40, 0, 0, True), (80, 1, 8, True), (60, 2, 4, False), (120, 2, 16, True), (100, 3, 12, False)]
    )
    shown = bare.pictures(source, "h264")
    assert len(set(shown)) == 5
    async with bare.served(tmp_path, source) as served:
        found = bare.timed(await served.whole(), "mp4")
    assert [digest for _, digest in found] == shown
    assert [time for time, _ in found] == pytest.approx([number / bare.FPS for number in range(5)])


def described(kind: int, bits: str) -> Unit:
    content = packed(0x60 | kind, bits)
    return Unit(4, len(content), content)


# Baseline, level 3: numbers of four bits, order type 2, 176 x 144.
SEQUENCE = f"{0x42001E:024b}" + ue(0) + ue(0) + ue(2) + ue(1) + "0" + ue(10) + ue(8)
PARAMETERS = ue(0) + ue(0) + "00"


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        ([(7, SEQUENCE + "1100"), (8, PARAMETERS + ue(1))], "in groups"),
        ([(7, SEQUENCE[:24] + ue(40))], "damaged"),
        ([(7, f"{0x42001E:024b}" + ue(0) + ue(0) + ue(3))], "damaged"),
        ([(7, SEQUENCE[:24] + ue(0) + ue(0) + ue(2) + ue(1) + "0" + ue(5000) + ue(8) + "1100")], "no size"),
        ([(8, PARAMETERS + ue(0) * 3 + "000" + se(0) * 3 + "000")], "without its parameter sets"),
    ],
    ids=["groups", "number", "type", "size", "alone"],
)
def test_what_is_not_proven_is_left_to_another(units: list[tuple[int, str]], reason: str) -> None:
    slice_bits = ue(0) + ue(7) + ue(0) + "0000" + "1" + "0" * 40
    with pytest.raises(NeedsRemux, match=reason):
        taken([*units, (1, slice_bits)])


def test_fields_that_do_not_belong_together() -> None:
    """One of them is referred to and the other is not."""
    source = fields([(40, 0, 0, True), (80, 1, 8, True)])
    units = bare.nals(source)
    units[-1] = bytes([units[-1][0] & 0x1F]) + units[-1][1:]
    with pytest.raises(NeedsRemux, match="belong together"):
        annexb.Index().feed(bare.stream([*units, b"\x0a"]))


def taken(units: list[tuple[int, str]]) -> avc.Stream:
    stream = avc.Stream()
    for kind, bits in units:
        stream.take(described(kind, bits))
    return stream


def test_the_usability_information_is_read() -> None:
    """Behind everything that may stand before it."""
    usual = (
        "1" + f"{255:08b}{40:016b}{33:016b}" + "11" + "1" + "101" + "0" + "1" + "0" * 24 + "1" + ue(1) + ue(2)
    )
    sequence = SEQUENCE + "110" + "1" + usual + "1" + f"{1001:032b}{48000:032b}" + "1"
    parameters = PARAMETERS + ue(0) * 3 + "000" + se(0) * 3 + "000"
    stream = taken([(7, sequence), (8, parameters), (5, ue(0) + ue(7) + ue(0) + "0000" + ue(0) + "0" * 40)])
    assert stream.rate == Fraction(24000, 1001)
    entry = b"".join(stream.entry().write())
    assert b"pasp\0\0\0\x28\0\0\0\x21" in entry
    assert entry[8 + 24 : 8 + 28] == b"\0\xb0\0\x90"


@given(st.data())
def test_hostile_units_are_left_to_another(data: st.DataObject) -> None:
    """Bits of any kind in any unit raise one error, if any."""
    source = bytearray(bare.encoded("h264", f"{PLAIN}:bframes=2"))
    for _ in range(data.draw(st.integers(1, 20))):
        source[data.draw(st.integers(0, 2000))] = data.draw(st.integers(0, 255))
    hostile(bytes(source[: data.draw(st.integers(5, 4000))]))


@given(st.lists(st.tuples(st.sampled_from([1, 5, 6, 7, 8, 9, 14, 20]), st.binary(max_size=300)), max_size=8))
def test_noise_is_left_to_another(units: list[tuple[int, bytes]]) -> None:
    hostile(bare.stream([bytes([0x60 | kind]) + noise for kind, noise in units]))


def hostile(source: bytes) -> None:
    index = annexb.Index()
    with suppress(NeedsRemux):
        index.feed(source)
        annexb.planned(index.close(), bare.PACE)
