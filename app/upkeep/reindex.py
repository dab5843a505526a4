"""The whole index from storage alone: what was acknowledged, and nothing else (docs/durability.md)."""

from __future__ import annotations

import asyncio
from typing import Final

from app.errors import NotFound, ReelwebError, Refused
from app.index import ledger, renewal, rows
from app.index.journal import Acknowledged
from app.index.ledger import Ledger
from app.index.rows import Row
from app.tools import Tools
from app.upkeep import objects
from app.upkeep.findings import Finding, Report
from app.upkeep.objects import Different, Pace

_NAME: Final = "reindex"
_PAGE: Final = 64


class NotEmpty(ReelwebError):
    """There is an index already."""


async def from_storage(tools: Tools, report: Report) -> None:
    """Fill an empty index; one that was cut short goes on where it stood.

    Nobody may store meanwhile: until it ends no server opens this index.
    """
    async with ledger.opened(tools.index) as book:
        position = await book.where(_NAME)
        if position is None and not await book.is_empty():
            raise NotEmpty(
                "The index is not empty: reindex makes one from nothing; see `reelweb verify --repair`."
            )
        await book.stand(_NAME, position or "")
        journal = await objects.tell_journal(tools, book)
        for key in journal.damaged:
            report.add(Finding("damaged record", key))
        await _fill(tools, book, position or "", report)
        await _tidy(tools, book, report)
        await book.end(_NAME)


async def _fill(tools: Tools, book: Ledger, position: str, report: Report) -> None:
    total, _ = await book.count()
    pace = Pace()
    while page := await book.page(position, _PAGE):
        found = await asyncio.gather(*(_row(tools, one, pace, report) for one in page))
        distinct: dict[str, Row] = {}
        for row in filter(None, found):
            if distinct.setdefault(row.sop_instance_uid, row) is not row:
                report.add(Finding("duplicate", row.key, row.sop_instance_uid))
        position = page[-1].stored.key
        for row in await book.restore(list(distinct.values()), _NAME, position):
            report.add(Finding("duplicate", row.key, row.sop_instance_uid))
        report.done(len(page), total)


async def _row(tools: Tools, one: Acknowledged, pace: Pace, report: Report) -> Row | None:
    """The row of an object, as it was; none where the object cannot be read as an instance any more."""
    async with pace.gate:
        try:
            scan, is_same = await objects.scan(tools, one.stored, pace)
        except (NotFound, Refused, Different) as error:
            report.add(Finding(objects.why(error), one.stored.key))
            return None
        if not is_same:  # it can still be shown, and verify tells of it until it is mended
            report.add(Finding("different", one.stored.key, scan.head.sop_instance_uid))
        return await asyncio.to_thread(rows.row, scan, one.stored, one.at)


async def _tidy(tools: Tools, book: Ledger, report: Report) -> None:
    """What was removed shall go, renditions are made again, and what nobody acknowledged is told."""
    await book.remove_told()
    await book.remove([entry.key async for entry in tools.storage.list("renditions/")])
    await objects.list_all(tools, book, "objects/")
    for stranger in await book.strangers():
        report.add(Finding("never acknowledged", stranger.key))


async def outdated(tools: Tools, report: Report, pace: Pace) -> None:
    """Scan again what an older scanner saw, while others serve; cut short it goes on with what is left."""
    after = 0
    while page := await renewal.page(tools.index, after):
        for located in page:
            stored = renewal.stored(located)
            try:
                scan, is_same = await objects.scan(tools, stored, pace)
            except (NotFound, Refused, Different) as error:
                report.add(Finding(objects.why(error), located.key, located.sop_instance_uid))
                continue
            if not is_same:
                report.add(Finding("different", located.key, located.sop_instance_uid))
                continue
            row = await asyncio.to_thread(rows.row, scan, stored, located.stored_at)
            await renewal.renew(tools.index, row)
        after = page[-1].instance_id
        report.done(len(page))
