"""What of a stream is in memory, for who sends it at once: nothing waits, and what can be sent as it lies is not read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from app import units
from app.extent import Extent, Extents, Prefixed, Units
from app.storage.protocol import Files, Piece, Slice, Storage
from app.storage.stream import PAGES
from app.units import Page, Run

_PLACES: Final = 8  # in which what is asked for may lie; more of them are quicker read together
_RUN: Final = 256 << 10  # of units: what was read of it is still in the processor's cache when it is sent
_APART: Final = (
    24 << 10
)  # units as long as this on average cost less sent one by one than read and laid together


class AtHand:
    """Finds what is in memory; to be used on one thread."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._buffer = memoryview(bytearray(3 * _RUN))

    def pieces(self, extents: Extents, start: int, stop: int) -> Iterator[Piece | None]:
        """These bytes in order, None where they have to be waited for; a view holds until the next piece is taken."""
        files, parts = self._storage.files, list(islice(extents.between(start, stop), _PLACES + 1))
        if files is None or len(parts) > _PLACES:
            yield None
            return
        for part in parts:
            if isinstance(part, Prefixed):
                yield from self._units(files, part)
            else:
                yield _slice(files, part)

    def _units(self, files: Files, part: Prefixed) -> Iterator[Piece | None]:
        while part.length:
            number, length = units.page_of(part)
            page = _page(files, part.units, number)
            if page is None:
                yield None
                return
            for run in page.runs(part.offset, length, _RUN):
                extents = [
                    one for one in part.units.stream.between(run.start, run.stop) if isinstance(one, Extent)
                ]
                if len(extents) == 1 and run.length >= _APART * run.count:
                    yield from _apart(files, page, run, extents[0])
                else:
                    yield self._laid(files, page, run, extents)
            part = part.part(length, part.length - length)

    def _laid(self, files: Files, page: Page, run: Run, extents: list[Extent]) -> Piece | None:
        at = 0
        for extent in extents:
            if not files.fill(self._buffer[at : at + extent.length], extent.key, extent.offset):
                return None
            at += extent.length
        return page.laid(run, self._buffer[:at])


def _apart(files: Files, page: Page, run: Run, extent: Extent) -> Iterator[Piece | None]:
    file = files.at_hand(extent.key, extent.offset, extent.length)
    if file is None:
        yield None
        return
    for prefix, start, stop in page.apart(run):
        if prefix:
            yield prefix
        if start < stop:
            yield Slice(file, extent.offset + start - run.start, stop - start)


def _slice(files: Files, extent: Extent) -> Slice | None:
    file = files.at_hand(extent.key, extent.offset, extent.length)
    return Slice(file, extent.offset, extent.length) if file else None


def _page(files: Files, table: Units, number: int) -> Page | None:
    rows = units.rows_of(table, number)
    if page := PAGES.get(rows):
        return page
    found = memoryview(bytearray(rows.length))
    return PAGES.put(rows, Page(table, number, found)) if files.fill(found, rows.key, rows.offset) else None
