"""Units served behind their lengths are those bytes, read in few reads, wherever they lie."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import units
from app.extent import Extent, Extents, joined
from app.storage import keys
from app.storage.protocol import Storage, put
from app.storage.stream import read_all, stream

GAPS = st.sampled_from([3, 4, 4, 4, 4, 5, 12, 700, 20_000])
ROWS = st.lists(st.tuples(GAPS, st.integers(1, 300)), min_size=1, max_size=40)


async def made(
    storage: Storage, rows: list[tuple[int, int]], opening: bytes = b"opening", fragment: int = 1 << 30
) -> tuple[Extents, bytes]:
    """Units with so many bytes before each, in an object of fragments, and what is to be served of them."""
    gaps, lengths = (np.array(column, np.uint32) for column in zip(*rows, strict=True))
    ends = list(accumulate(gap + length for gap, length in rows))
    content = np.random.default_rng(1).integers(0, 256, ends[-1], np.uint8).tobytes()
    stored = await put(storage, keys.new(), content)
    table = await put(storage, keys.rendition(), b"".join(units.table(opening, gaps, lengths)))
    parts = [
        Extent(stored.key, start, min(fragment, len(content) - start))
        for start in range(0, len(content), fragment)
    ]

    async def read(extents: Extents) -> bytes:
        return await read_all(storage, extents)

    opened = await units.opened(read, Extents([Extent(table.key, 0, table.size)]), Extents(parts))
    served = b"".join(
        length.to_bytes(4, "big") + content[end - length : end]
        for (_, length), end in zip(rows, ends, strict=True)
    )
    return opened, opening + served


@given(
    rows=ROWS,
    times=st.sampled_from([1, 1, 1, 30]),
    fragment=st.sampled_from([1 << 30, 1000, 7]),
    data=st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
async def test_a_range_is_that_slice_of_the_whole(
    local: Storage, rows: list[tuple[int, int]], times: int, fragment: int, data: st.DataObject
) -> None:
    """Also within lengths, over pages, and joined with other extents."""
    extents, whole = await made(local, rows * times, fragment=fragment)
    assert extents.length == len(whole)
    assert await read_all(local, extents) == whole
    for _ in range(10):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
        assert await read_all(local, extents.slice(start, stop)) == whole[start:stop]
    cut = data.draw(st.integers(0, len(whole)))
    twice = joined([extents.slice(cut, len(whole)), extents])
    assert await read_all(local, twice.slice(1, twice.length)) == (whole[cut:] + whole)[1:]


async def test_they_come_from_a_bucket_as_well(storage: Storage) -> None:
    """Where buffers may not be written to."""
    extents, whole = await made(storage, [(4, 90_000), (3, 2000), (4, 400_000)] * 8)
    assert await read_all(storage, extents) == whole
    assert await read_all(storage, extents.slice(90_000, 91_000)) == whole[90_000:91_000]


async def test_they_cannot_be_sent_as_they_lie(local: Storage) -> None:
    """Whoever takes them for extents is stopped; what comes before them is one."""
    extents, _ = await made(local, [(4, 100)] * 3)
    assert [part.length for part in extents.slice(0, 7)] == [7]
    assert [part.length for part in extents.parts()] == [7, 312]
    with pytest.raises(AssertionError):
        list(extents)


async def test_few_reads_are_enough(local: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large read for many units, and none that holds much more than is served."""
    extents, whole = await made(local, [(4, 3000)] * 2000, b"")
    reads, real = list[int](), local.read

    async def counted(key: str, offset: int, length: int) -> memoryview:
        reads.append(length)
        return await real(key, offset, length)

    monkeypatch.setattr(local, "read", counted)
    sizes = [len(piece) async for piece in stream(local, extents)]
    assert len(sizes) < len(whole) / local.pieces.largest + 16
    assert max(sizes) == local.pieces.largest
    assert len(reads) <= len(sizes) + 4
    assert max(reads) <= local.pieces.largest + 4


async def test_what_is_left_out_does_not_swell_reads(local: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    extents, whole = await made(local, [(20_000, 30)] * 400 + [(4, 3_000), (5_000_000, 10)], b"")
    lengths, real = list[int](), local.read

    async def counted(key: str, offset: int, length: int) -> memoryview:
        lengths.append(length)
        return await real(key, offset, length)

    monkeypatch.setattr(local, "read", counted)
    assert await read_all(local, extents) == whole
    assert max(lengths) <= 3 * local.pieces.largest


def test_a_table_is_small(tmp_path: Path) -> None:
    """Eight bytes for a unit, and little more."""
    numbers = np.full(100_000, 4, np.uint32)
    assert sum(map(len, units.table(b"", numbers, numbers))) < 8.1 * 100_000
