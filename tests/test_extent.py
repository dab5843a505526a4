"""Extents are one stream: every slice equals the slice of the joined bytes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.extent import Extent, Extents, joined

LENGTHS = st.lists(st.integers(0, 40), max_size=12)


def laid_out(lengths: list[int]) -> tuple[Extents, bytes, bytes]:
    """Extents of one object in reverse order with gaps, the object, and their bytes joined."""
    content = bytes(value % 251 for value in range(100 * len(lengths) + 1))
    extents = [Extent("key", 100 * (len(lengths) - n - 1) + 7, length) for n, length in enumerate(lengths)]
    return Extents(extents), content, b"".join(content[e.offset : e.offset + e.length] for e in extents)


def read(extents: Extents, content: bytes) -> bytes:
    return b"".join(content[e.offset : e.offset + e.length] for e in extents)


@given(LENGTHS, st.integers(-5, 500), st.integers(-5, 500))
def test_a_slice_holds_exactly_the_bytes_asked_for(lengths: list[int], start: int, stop: int) -> None:
    extents, content, whole = laid_out(lengths)
    assert extents.length == len(whole)
    part = extents.slice(start, stop)
    expected = whole[max(start, 0) : max(stop, 0)]
    assert read(part, content) == expected
    assert part.length == len(expected)


@given(LENGTHS, st.lists(st.integers(0, 500), max_size=5))
def test_slices_joined_are_the_whole_again(lengths: list[int], cuts: list[int]) -> None:
    extents, content, whole = laid_out(lengths)
    edges = [0, *sorted(min(cut, extents.length) for cut in cuts), extents.length]
    parts = [extents.slice(start, stop) for start, stop in pairwise(edges)]
    assert read(joined(parts), content) == whole


@given(LENGTHS, st.integers(0, 500), st.integers(1, 60))
def test_what_lies_in_one_extent_is_found_at_once(lengths: list[int], start: int, length: int) -> None:
    extents, _, whole = laid_out(lengths)
    if start + length > len(whole):
        return
    parts, found = list(extents.between(start, start + length)), extents.within(start, start + length)
    assert (found is not None) == (len(parts) == 1)
    if found:
        assert found[0].part(found[1], length) == parts[0]


def test_no_extents_are_an_empty_stream() -> None:
    empty = Extents([])
    assert empty.length == 0
    assert list(empty.slice(0, 10)) == []
