"""Rows that weave two sources: every slice equals the slice of the joined bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app import woven
from app.extent import Extent, Extents
from app.woven import Known, Woven

PIECES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 200), st.booleans()), min_size=1, max_size=12)
STORED = {"rendition": bytes(range(256)), "stream": bytes(255 - value for value in range(256))}


def read(extents: Extents) -> bytes:
    return b"".join(STORED[one.key][one.offset : one.offset + one.length] for one in extents)


@given(PIECES, st.integers(-5, 400), st.integers(-5, 400), st.integers(0, 400), st.integers(0, 400))
def test_a_slice_holds_exactly_the_bytes_asked_for(
    pieces: list[tuple[int, int, bool]], start: int, stop: int, again: int, until: int
) -> None:
    """Pieces of no length among them; and a slice of a slice."""
    lengths, offsets, is_stream = (np.array(column) for column in zip(*pieces, strict=True))
    rows = woven.packed(lengths, offsets, is_stream)
    # The stream lies in two extents, as in two fragments of a DICOM file.
    two = Extents([Extent("stream", 0, 100), Extent("stream", 100, 156)])
    made = Woven(rows, {"rendition": Extents([Extent("rendition", 0, 256)]), "stream": two})
    whole = b"".join(STORED["stream" if odd else "rendition"][at : at + length] for length, at, odd in pieces)
    assert (made.length, made.count, read(made)) == (len(whole), len(pieces), whole)
    part = made.slice(start, stop)
    expected = whole[max(start, 0) : max(stop, 0)]
    assert (part.length, read(part)) == (len(expected), expected)
    assert read(part.slice(again, until)) == expected[again:until]


def test_places_beyond_the_largest_files_are_told() -> None:
    """Six bytes tell a place in a hundred terabytes."""
    far = (1 << 47) - 1
    rows = woven.packed(np.array([5, 7]), np.array([far, 0]), np.array([True, False]))
    sources = {"stream": Extents([Extent("stream", 0, 1 << 47)]), "rendition": Extents([Extent("own", 0, 9)])}
    assert list(Woven(rows, sources).slice(0, 1)) == [Extent("stream", far, 1)]


def test_rows_are_known_within_bounds() -> None:
    """What was asked for last stays; what is larger than all may be is not kept."""
    known = Known(limit=10)
    known.put("a", b"1234")
    known.put("b", b"1234")
    assert known.get("a") == b"1234"
    known.put("c", b"1234")
    assert (known.get("a"), known.get("b"), known.get("c")) == (b"1234", None, b"1234")
    known.put("a", b"123")
    known.put("d", bytes(11))
    assert [known.get(key) for key in "acd"] == [None] * 3
    known.put("e", bytes(10))
    assert known.get("e") == bytes(10)
