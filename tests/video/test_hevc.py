"""HEVC headers that lie: understood, or left to another, never an odd error."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.video import NeedsRemux, annexb, hevc
from app.video.nal import Role, Unit
from tests.video import bare

STREAM = "bframes=4:open-gop=1:keyint=8:min-keyint=8:b-adapt=0"
KINDS = [0, 1, 7, 9, 16, 19, 20, 21, 32, 33, 34, 35, 36, 39, 40, 48]


@given(st.data())
def test_hostile_units_are_left_to_another(data: st.DataObject) -> None:
    """Bits of any kind in any unit raise one error, if any."""
    source = bytearray(bare.encoded("hevc", STREAM))
    for _ in range(data.draw(st.integers(1, 20))):
        source[data.draw(st.integers(7, 2000))] = data.draw(st.integers(0, 255))
    hostile(bytes(source[: data.draw(st.integers(8, 4000))]))


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.binary(max_size=300)), max_size=8))
def test_noise_is_left_to_another(units: list[tuple[int, bytes]]) -> None:
    hostile(bare.stream([b"\x40\1", *(bytes([kind << 1, 1]) + noise for kind, noise in units)]))


def hostile(source: bytes) -> None:
    index = annexb.Index()
    with suppress(NeedsRemux):
        index.feed(source)
        annexb.planned(index.close(), bare.PACE)


def test_another_layer_is_carried_along() -> None:
    """A second view or a finer picture follows its base; players show the base."""
    assert hevc.Stream().take(Unit(4, 3, b"\x03\x01\x80")) is Role.FOLLOWS
    assert hevc.Stream().take(Unit(4, 3, b"\x02\x09\x80")) is Role.FOLLOWS


def test_fields_are_left_to_another() -> None:
    """Each picture is half of one that is shown."""
    source = bare.encoded("hevc", "bframes=0:interlace=tff")
    index = annexb.Index()
    with pytest.raises(NeedsRemux, match="single fields"):
        index.feed(source)
