"""Every row against its object, every object against its digests, the journal and the listing against both.

It runs while others serve: what changed since it was looked at is looked at again before it is told.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Literal

from app.dicom import uids
from app.errors import NotFound, Refused
from app.extent import Stored
from app.index import checking, ledger, removal, rows, sweeping
from app.index.journal import Acknowledged
from app.index.ledger import Ledger
from app.index.located import Located
from app.tools import Tools
from app.upkeep import objects
from app.upkeep.findings import Finding, Report
from app.upkeep.objects import Different, Pace

_NAME: Final = "verify"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What to do, and how gently."""

    repair: bool = False
    quick: bool = False
    """Lengths only, no digests."""
    rate: float | None = None
    unacknowledged: Literal["keep", "adopt", "drop"] = "keep"
    """What becomes of objects that are no instances and were never told of as removed."""


async def run(tools: Tools, wishes: Wishes, report: Report) -> None:
    """Look at everything; one that was cut short goes on with the instance where it stood."""
    async with ledger.opened(tools.index) as book:
        position = int(await book.where(_NAME) or 0)
        began = await book.now()
        await _instances(tools, book, position, wishes, report)
        await _studies(tools, book, wishes, report)
        await _renditions(tools, book, wishes, report)
        await _journal(tools, book, wishes, report)
        untold = await book.untold(began)
        for uid, stored in untold:
            report.add(Finding("not in the journal", stored.key, uid, wishes.repair))
        if wishes.repair and untold:
            await book.note(untold)
        await book.end(_NAME)


async def _instances(tools: Tools, book: Ledger, position: int, wishes: Wishes, report: Report) -> None:
    count, size = await checking.left(tools.index, position)
    pace = Pace(wishes.rate)
    total = count if wishes.quick else size
    while page := await checking.instances(tools.index, position):
        await asyncio.gather(*(_instance(tools, one, wishes, pace, report) for one in page))
        position = page[-1].instance_id
        await book.stand(_NAME, str(position))
        report.done(len(page) if wishes.quick else sum(one.size for one in page), total)


async def _instance(tools: Tools, one: Located, wishes: Wishes, pace: Pace, report: Report) -> None:
    stored = Stored(one.key, one.size, one.prefix_sha256, one.dataset_sha256)
    try:
        async with pace.gate:
            if wishes.quick:
                await objects.check_length(tools, stored)
            else:
                await objects.check(tools, stored, one.dataset_offset, one.transfer_syntax_uid, pace)
    except (NotFound, Different) as error:
        if await checking.stands(tools.index, one):
            report.add(Finding(objects.why(error), one.key, one.sop_instance_uid))


async def _studies(tools: Tools, book: Ledger, wishes: Wishes, report: Report) -> None:
    after = 0
    while (found := await checking.miscounted(tools.index, after)) is not None:
        for study in found:
            if wishes.repair:
                await removal.recount(book.connection, study)
            report.add(Finding("miscounted", uids.told(study), repaired=wishes.repair))
        after += checking.STUDIES_AT_ONCE


async def _renditions(tools: Tools, book: Ledger, wishes: Wishes, report: Report) -> None:
    """One that is gone is forgotten, and made again when it is asked for."""
    after = 0
    while page := await checking.renditions(tools.index, after):
        for made in page:
            try:
                is_there = await tools.storage.size(made.key) == made.size
            except NotFound:
                is_there = False
            if not is_there:
                if wishes.repair:
                    await sweeping.forget_rendition(book.connection, made.id)
                report.add(Finding("missing rendition", made.key, repaired=wishes.repair))
        after = page[-1].id


async def _journal(tools: Tools, book: Ledger, wishes: Wishes, report: Report) -> None:
    journal = await objects.tell_journal(tools, book)
    for key in journal.damaged:
        report.add(Finding("damaged record", key))
    for uid, key in await book.undead():
        if wishes.repair:
            await book.bury(uid)
        report.add(Finding("undead", key, uid, wishes.repair))
    for one in await book.lost():
        report.add(Finding("no row", one.stored.key, repaired=wishes.repair and await _row(tools, book, one)))
    for prefix in ("objects/", "renditions/"):
        await objects.list_all(tools, book, prefix)
    for stranger in await book.strangers():
        await _stranger(tools, book, stranger, wishes, report)


async def _row(tools: Tools, book: Ledger, one: Acknowledged) -> bool:
    """Give an acknowledged object its row again; False where it cannot be read, or its UID has another."""
    try:
        scan, is_same = await objects.scan(tools, one.stored, Pace())
    except (NotFound, Refused, Different):
        return False
    return is_same and not await book.restore([rows.row(scan, one.stored, one.at)])


async def _stranger(
    tools: Tools, book: Ledger, stranger: ledger.Stranger, wishes: Wishes, report: Report
) -> None:
    """An object that nothing points at.

    What was removed, and what can be made again, is handed to the sweeper. What nobody acknowledged stays unless
    it is wished otherwise: should the journal have lost a record, it is all there is.
    """
    try:
        await tools.storage.size(stranger.key)
    except NotFound:
        return  # it came and went while we looked
    if not stranger.is_removed and not stranger.key.startswith("renditions/"):
        await _unacknowledged(tools, book, stranger, wishes, report)
        return
    if wishes.repair:
        await book.remove([stranger.key])
    report.add(Finding("left over", stranger.key, repaired=wishes.repair))


async def _unacknowledged(
    tools: Tools, book: Ledger, stranger: ledger.Stranger, wishes: Wishes, report: Report
) -> None:
    """An upload that was never answered, whose pending row is lost as well: with its database, for example."""
    uid, repaired = "", wishes.unacknowledged == "drop"
    if repaired:
        await book.remove([stranger.key])
    elif wishes.unacknowledged == "adopt":
        try:
            scan, stored = await objects.look(tools, stranger.key, stranger.size, Pace(wishes.rate))
        except (NotFound, Refused) as error:
            report.add(Finding(objects.why(error), stranger.key))
            return
        uid = scan.head.sop_instance_uid
        repaired = await book.adopt(await asyncio.to_thread(rows.row, scan, stored))
    report.add(Finding("never acknowledged", stranger.key, uid, repaired))
