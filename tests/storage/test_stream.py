import asyncio
import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import NotFound, Unavailable
from app.extent import Extent, Extents
from app.storage import keys
from app.storage.local import LocalStorage
from app.storage.protocol import Piece, Slice, Storage, put
from app.storage.stream import stream, unread

A, B = "objects/aa/aa/a", "objects/bb/bb/b"
DATA = {A: os.urandom(8_000_000), B: os.urandom(100_000)}


@pytest.fixture
async def filled(storage: Storage) -> Storage:
    for key, data in DATA.items():
        await put(storage, key, data)
    return storage


async def read(storage: Storage, extents: Extents) -> bytes:
    return b"".join([bytes(piece) async for piece in stream(storage, extents)])


def bytes_of(extents: Extents) -> bytes:
    return b"".join(DATA[at.key][at.offset : at.offset + at.length] for at in extents)


async def sent(storage: Storage, extents: Extents) -> bytes:
    """As a server that can send files has them."""
    if storage.files is None:
        return await read(storage, extents)
    pieces = unread(storage, extents)
    return b"".join([whole(piece) async for piece in pieces])


def whole(piece: Piece) -> bytes:
    if isinstance(piece, Slice):
        return os.pread(piece.file.fileno(), piece.length, piece.offset)
    return bytes(piece)


any_extent = st.one_of(
    st.builds(Extent, st.just(A), st.integers(0, 2_000_000), st.integers(0, 1_000_000)),
    st.builds(Extent, st.just(A), st.integers(0, 9000), st.integers(0, 5000)),
    st.builds(Extent, st.just(B), st.integers(0, 50_000), st.integers(0, 50_000)),
)
fragments = st.builds(
    lambda start, sizes: [
        Extent(A, start + sum(g + n for g, n in sizes[:i]) + g, n) for i, (g, n) in enumerate(sizes)
    ],
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 30_000)), max_size=30),
)


@given(
    extents=st.one_of(st.lists(any_extent, max_size=8), fragments),
    cut=st.tuples(st.integers(0), st.integers(0)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_range_of_the_stream_is_that_slice_of_the_whole(
    filled: Storage, extents: list[Extent], cut: tuple[int, int]
) -> None:
    """Whatever lies where, in whatever order and however short."""
    expected = bytes_of(Extents(extents))
    start, stop = sorted(at % (len(expected) + 1) for at in cut)
    for had in (read, sent):
        assert await had(filled, Extents(extents)) == expected
        assert await had(filled, Extents(extents).slice(start, stop)) == expected[start:stop]


async def test_pieces_grow_while_they_are_taken_at_once(filled: Storage) -> None:
    filled.pieces.most = min(filled.pieces.most, 2 << 20)
    sizes = [len(piece) async for piece in stream(filled, Extents([Extent(A, 0, 8_000_000)]))]
    smallest, largest = filled.pieces.smallest, filled.pieces.largest
    assert sizes[0] == smallest
    assert max(sizes) == largest
    assert sum(sizes) == 8_000_000


async def test_a_viewer_that_waits_is_given_small_pieces(filled: Storage) -> None:
    filled.pieces.most = min(filled.pieces.most, 1 << 20)
    sizes: list[int] = []
    async for piece in stream(filled, Extents([Extent(A, 0, 8_000_000)])):
        if len(piece) == filled.pieces.largest and filled.pieces.largest not in sizes:
            await asyncio.sleep(0.02)
            waited = len(sizes)
        sizes.append(len(piece))
    # what was asked for ahead had its length already
    if not filled.pieces.ahead:
        small = filled.pieces.smallest // 2
        assert sizes[waited + 1 : waited + 3] == [small, small]
    assert filled.pieces.largest in sizes[waited + 1 :]  # it reads at once again


async def test_what_many_streams_hold_is_bounded(filled: Storage) -> None:
    """Each has less of it, the more there are; who is alone has large pieces again."""
    filled.pieces.most, filled.pieces.together = 1 << 20, 4 << 20
    extents = Extents([Extent(A, 0, 8_000_000)])
    many = [stream(filled, extents) for _ in range(20)]
    for _ in range(12):
        held = sum([len(await anext(pieces)) for pieces in many])
        assert held <= max(filled.pieces.together, len(many) * filled.pieces.smallest)
    for pieces in many:
        await pieces.aclose()
    assert filled.pieces.largest == 1 << 20
    # Short ones are read also where they lie in memory.
    short = Extents([Extent(A, at, 4000) for at in range(0, 3_000_000, 4001)])
    others = [unread(filled, short) for _ in range(20)]
    sizes = [len(await anext(pieces)) for pieces in others]
    assert sizes[-1] <= max(filled.pieces.together // len(others), filled.pieces.smallest) < sizes[0]
    for other in others:
        await other.aclose()
    assert filled.pieces.largest == 1 << 20
    assert max([len(piece) async for piece in stream(filled, extents)]) == 1 << 20


async def test_a_short_range_is_one_piece(filled: Storage) -> None:
    """A viewer's seek costs one read."""
    for length in (1, 200_000, filled.pieces.largest):
        sizes = [len(piece) async for piece in stream(filled, Extents([Extent(A, 5, length)]))]
        assert sizes == [length]


async def test_what_is_in_memory_is_not_read(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long extents that are there; what is short, or on the disk, is read as ever."""
    if not local.files:  # its file system does not tell
        assert not local._nowait
        return
    for key, data in DATA.items():
        await put(local, key, data)
    extents = Extents([Extent(A, 5, 3_000_000), Extent(B, 0, 2000), Extent(B, 3000, 2000)])
    kinds = [type(piece) async for piece in unread(local, extents)]
    assert set(kinds[:-1]) == {Slice}
    assert kinds[-1] is memoryview
    preadv = os.preadv

    def cold(descriptor: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags and offset >= 1_200_000:
            raise BlockingIOError(errno.EAGAIN, "cold")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", cold)
    pieces = [piece async for piece in unread(local, extents)]
    assert {type(piece) for piece in pieces[:2]} == {Slice, memoryview}
    assert all(len(piece) <= local.pieces.largest for piece in pieces if isinstance(piece, memoryview))
    assert b"".join(map(whole, pieces)) == bytes_of(extents)


async def test_fragments_are_read_together(filled: Storage) -> None:
    """Hundreds of small fragments with item headers between cost a few reads, not hundreds."""
    extents = Extents(Extent(A, 8 + 4104 * number, 4096) for number in range(700))
    pieces = [bytes(piece) async for piece in stream(filled, extents)]
    assert len(pieces) < 16
    assert b"".join(pieces) == bytes_of(extents)


async def test_a_read_never_exceeds_a_piece(filled: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    real = filled.read

    async def counted(key: str, offset: int, length: int) -> memoryview:
        lengths.append(length)
        return await real(key, offset, length)

    monkeypatch.setattr(filled, "read", counted)
    await read(filled, Extents(Extent(A, 5000 * number, 4000) for number in range(600)))
    assert max(lengths) <= filled.pieces.largest
    assert sum(lengths) < 3_100_000


async def test_an_object_that_vanishes_ends_the_stream_with_an_error(storage: Storage) -> None:
    first, second = keys.new(), keys.new()
    await put(storage, first, bytes(1000))
    pieces = stream(storage, Extents([Extent(first, 0, 1000), Extent(second, 0, 1000)]))
    assert len(await anext(pieces)) == 1000
    with pytest.raises(NotFound):
        await anext(pieces)


async def test_what_was_asked_for_ahead_is_dropped_with_the_stream(
    filled: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A viewer that goes leaves no read behind."""
    pieces = stream(filled, Extents([Extent(A, 0, 8_000_000)]))
    for _ in range(2):
        await anext(pieces)
    await pieces.aclose()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_object_that_shrank_ends_the_stream_with_an_error(
    local: LocalStorage, tmp_path: Path
) -> None:
    """Never with bytes that are wrong or missing."""
    key = keys.new()
    await put(local, key, bytes(1_000_000))
    pieces = stream(local, Extents([Extent(key, 0, 1_000_000)]))
    await anext(pieces)
    os.truncate(tmp_path / "root" / key, 100_000)
    with pytest.raises(Unavailable):
        await anext(pieces)
