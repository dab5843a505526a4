"""NAL units are found between start codes, however the stream is cut into pieces (H.264 annex B)."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.video.nal import HEAD, Splitter, Unit, sei_types

ZEROS_AND_ONES = st.lists(st.sampled_from([b"\0", b"\0\0", b"\1", b"\0\0\1", b"\0\0\0\1", b"\2"])).map(
    b"".join
)
LONG = st.builds(
    lambda parts: b"\0\0\1" + b"".join(parts),
    st.lists(
        st.sampled_from([b"\0\0\1", b"\0" * 5000, b"\7" * (HEAD - 1), b"\7" * (HEAD + 3), b"\0\7"]),
        max_size=6,
    ),
)


def by_hand(stream: bytes) -> list[Unit]:
    """The units, by what annex B says and nothing clever."""
    found, begins = list[Unit](), [at + 3 for at in range(len(stream)) if stream[at : at + 3] == b"\0\0\1"]
    for begin, end in pairwise([*begins, len(stream) + 3]):
        unit = stream[begin : end - 3].rstrip(b"\0")
        if unit:
            found.append(Unit(begin, len(unit), unit[:HEAD]))
    return found


def split(stream: bytes, cuts: list[int]) -> list[Unit]:
    splitter, found = Splitter(), list[Unit]()
    for start, stop in pairwise([0, *cuts, len(stream)]):
        found += splitter.feed(stream[start:stop])
    return [*found, *splitter.close()]


@given(st.one_of(st.binary(), ZEROS_AND_ONES))
def test_units_are_the_same_for_every_cut(stream: bytes) -> None:
    """In two at every byte, and byte for byte."""
    expected = by_hand(stream)
    for cut in range(len(stream) + 1):
        assert split(stream, [cut]) == expected
    assert split(stream, list(range(len(stream)))) == expected


@given(LONG, st.data())
def test_long_units_and_long_runs_of_zeros(stream: bytes, data: st.DataObject) -> None:
    """Beginnings are kept and ends found, whichever pieces they lie in."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    assert split(stream, cuts) == by_hand(stream)


def test_an_endless_unit_takes_no_memory() -> None:
    splitter, piece = Splitter(), bytes(range(1, 256)) * 1000
    tracemalloc.start()
    try:
        assert not list(splitter.feed(b"\0\0\1"))
        for _ in range(100):
            assert not list(splitter.feed(piece))
        assert tracemalloc.get_traced_memory()[1] < 4 * len(piece)
    finally:
        tracemalloc.stop()
    (unit,) = splitter.close()
    assert (unit.offset, unit.length, len(unit.head)) == (3, 100 * len(piece), HEAD)


@given(st.binary(max_size=100))
def test_any_sei_has_kinds(payload: bytes) -> None:
    assert len(list(sei_types(payload))) <= len(payload)


def test_kinds_of_sei() -> None:
    """A kind and a size may each take several bytes (7.3.2.3.1)."""
    long = b"\xff\x05\xff\x2d" + b"\7" * 300
    assert list(sei_types(b"\6\1\x80" + long + b"\1\2\0\0\x80")) == [6, 260, 1]
