"""What of a stream is in memory, for who sends it at once: nothing waits, and what can be sent as it lies is not read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from app import units
from app.extent import Extent, Extents, Part, Prefixed, Units
from app.storage.protocol import Files, Piece, Slice, Storage
from app.storage.stream import PAGES
from app.units import Page, Run

_RANGE: Final = 1 << 20  # that is looked for at a time
_PLACES: Final = 8  # in which it may lie: more of them are quicker read together, and take their time
_RUN: Final = 256 << 10  # of units: what was read of it is still in the processor's cache when it is sent


class AtHand:
    """Finds what is in memory; to be used on one thread."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._buffer = memoryview(bytearray(3 * _RUN))

    def pieces(self, extents: Extents, start: int, stop: int) -> Iterable[Piece | None]:
        """These bytes in order, None where they have to be waited for; a view holds until the next piece is taken."""
        files = self._storage.files
        if files is None:
            return (None,)
        part, skip = extents.within(start, stop) or (None, 0)
        if isinstance(part, Extent):  # as most of what is asked for
            return (_slice(files, part.key, part.offset + skip, stop - start),)
        return self._pieces(files, extents, start, stop)

    def _pieces(self, files: Files, extents: Extents, start: int, stop: int) -> Iterator[Piece | None]:
        for begin in range(start, stop, _RANGE):
            for part in _few(extents, begin, min(stop, begin + _RANGE)):
                if isinstance(part, Prefixed):
                    yield from self._units(files, part)
                else:
                    yield _lies(files, part)

    def _units(self, files: Files, part: Prefixed) -> Iterator[Piece | None]:
        while part.length:
            number, length = units.page_of(part)
            page = _page(files, part.units, number)
            if page is None:
                yield None
                return
            stream = part.units.stream
            start, stop = page.lie(part.offset, length)
            # Seldom more is left out than served; to look for all at once costs less than for each.
            whole = _whole(files, stream, start, stop) if stop - start <= 2 * length else None
            for piece in page.cut(part.offset, length, _RUN):
                if isinstance(piece, bytes):
                    yield piece
                elif isinstance(piece, range) and whole:
                    yield Slice(whole.file, whole.offset + piece.start - start, len(piece))
                elif isinstance(piece, range):
                    yield from (_lies(files, one) for one in _few(stream, piece.start, piece.stop))
                else:
                    yield self._laid(files, page, piece, _few(stream, piece.start, piece.stop))
            part = part.part(length, part.length - length)

    def _laid(self, files: Files, page: Page, run: Run, parts: Iterable[Part | None]) -> Piece | None:
        at = 0
        for part in parts:
            if not isinstance(part, Extent) or not files.fill(
                self._buffer[at : at + part.length], part.key, part.offset
            ):
                return None
            at += part.length
        return page.laid(run, self._buffer[:at])


def _whole(files: Files, extents: Extents, start: int, stop: int) -> Slice | None:
    """These bytes, if they lie in one extent and are in memory."""
    part, skip = extents.within(start, stop) or (None, 0)
    return _slice(files, part.key, part.offset + skip, stop - start) if isinstance(part, Extent) else None


def _few(extents: Extents, start: int, stop: int) -> Sequence[Part | None]:
    """Where these bytes lie; None where that is in too many places."""
    part, skip = extents.within(start, stop) or (None, 0)
    if part:
        return (part.part(skip, stop - start),)
    parts = list(islice(extents.between(start, stop), _PLACES + 1))
    return parts if len(parts) <= _PLACES else (None,)


def _lies(files: Files, part: Part | None) -> Slice | None:
    return _slice(files, part.key, part.offset, part.length) if isinstance(part, Extent) else None


def _slice(files: Files, key: str, offset: int, length: int) -> Slice | None:
    file = files.at_hand(key, offset, length)
    return Slice(file, offset, length) if file else None


def _page(files: Files, table: Units, number: int) -> Page | None:
    rows = units.rows_of(table, number)
    if page := PAGES.get(rows):
        return page
    found = memoryview(bytearray(rows.length))
    return PAGES.put(rows, Page(table, number, found)) if files.fill(found, rows.key, rows.offset) else None
