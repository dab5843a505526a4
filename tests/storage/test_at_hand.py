"""What is in memory is found piece by piece, as it is served; what is not, or is there no more, is never made up."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.extent import Extent, Extents
from app.storage import keys
from app.storage.at_hand import AtHand
from app.storage.local import LocalStorage
from app.storage.protocol import Piece, Slice, put
from app.storage.stream import read_all
from app.units import LONG
from tests.storage.test_stream import whole as whole_of
from tests.storage.test_units import made

ROWS = st.lists(
    st.tuples(
        st.sampled_from([3, 4, 4, 4, 12, 700]), st.sampled_from([1, 900, 9000, LONG - 1, LONG, 3 * LONG])
    ),
    min_size=1,
    max_size=30,
)


def at_hand(storage: LocalStorage, extents: Extents, start: int, stop: int) -> bytes | None:
    """As a socket would have them, each before the next is asked for; None where some have to be waited for."""
    return sent(AtHand(storage).pieces(extents, start, stop))


def sent(pieces: Iterable[Piece | None]) -> bytes | None:
    found = []
    for piece in pieces:
        if piece is None:
            return None
        found.append(whole_of(piece))
    return b"".join(found)


@given(
    rows=ROWS,
    times=st.sampled_from([1, 1, 20]),
    fragment=st.sampled_from([1 << 30, 1 << 30, 100_000]),
    data=st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
async def test_a_range_of_units_is_that_slice_of_the_whole(
    local: LocalStorage, rows: list[tuple[int, int]], times: int, fragment: int, data: st.DataObject
) -> None:
    """Whether they are long or short, lie apart, and where ever a range begins and ends, within a length too."""
    extents, whole = await made(local, rows * times, fragment=fragment)
    assert await read_all(local, extents) == whole  # so that it is open
    for _ in range(10):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
        assert at_hand(local, extents, start, stop) == (whole[start:stop] if local.files else None)


async def test_long_units_are_not_read(local: LocalStorage) -> None:
    """And short ones come many at a time."""
    extents, whole = await made(local, [(4, LONG), *[(4, 900)] * 100, (4, 2 * LONG)])
    await read_all(local, extents)
    found = list(AtHand(local).pieces(extents, 7, len(whole)))
    if not local.files:  # its file system does not tell
        assert found == [None]
        return
    assert [len(piece or b"") for piece in found] == [4, LONG, 100 * 904 + 4, 2 * LONG]
    assert [isinstance(piece, Slice) for piece in found] == [False, True, False, True]


async def test_nobody_waits_for_a_file_that_is_not_open(local: LocalStorage, tmp_path: Path) -> None:
    stored = await put(local, keys.new(), bytes(100_000))
    plain = Extents([Extent(stored.key, 0, stored.size)])
    units, _ = await made(local, [(4, 900), (4, LONG)])
    for extents in (plain, units):
        assert at_hand(local, extents, 0, extents.length) is None


@pytest.mark.parametrize("length", [900, LONG], ids=["short", "long"])
async def test_what_was_cut_off_is_not_at_hand(local: LocalStorage, length: int) -> None:
    """What is left of it still is."""
    extents, whole = await made(local, [(4, length)] * 40)
    await read_all(local, extents)
    half = len(whole) // 2
    (path,) = [
        path for path in local._root.rglob("*") if path.is_file() and path.stat().st_size == len(whole) - 7
    ]
    os.truncate(path, half + 2 * length)
    assert at_hand(local, extents, 0, half) == (whole[:half] if local.files else None)
    assert at_hand(local, extents, 0, len(whole)) is None


async def test_very_many_pieces_are_read_together(local: LocalStorage) -> None:
    """Each by itself would cost more; whoever reads them joins them."""
    stored = await put(local, keys.new(), os.urandom(100_000))
    await local.read(stored.key, 0, 1)
    few, many = (
        Extents([Extent(stored.key, 2 * at * 1000, 1000) for at in range(count)]) for count in (8, 9)
    )
    assert at_hand(local, few, 0, few.length) == (await read_all(local, few) if local.files else None)
    assert at_hand(local, many, 0, many.length) is None
