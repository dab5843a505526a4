"""Keep one instance: scanned while it streams, object first, row second (PS3.18 10.5, PS3.4 B)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from app.dicom import attributes, uids
from app.dicom.scanner import Head, Scan, Scanner
from app.errors import FailureReason, NoRoom, ReelwebError, Refused, Unavailable, WarningReason
from app.extent import Stored
from app.index import removal
from app.index.instances import Lost
from app.storage.protocol import Upload
from app.tools import Tools

log = structlog.get_logger("reelweb.store")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one instance; `head` is known unless the refusal came before it could be read."""

    head: Head | None
    failure: Refused | None = None
    warning: WarningReason | None = None
    transient: bool = False  # it would work later: the database or the storage was away
    again: bool = False  # the very same was stored already


async def instance(
    tools: Tools,
    chunks: AsyncIterator[bytes | memoryview],
    study: str | None = None,
    expected: int | None = None,
) -> Outcome:
    """Keep the instance that `chunks` bring, at most `expected` bytes if that is known, in `study` if one is named.

    A refusal is an outcome, so that it never ends its neighbours; what the source of the chunks raises
    (a client that is gone, a body that is broken) goes through, and nothing is kept.
    """
    scanner = Scanner(tools.limits, attributes.STORED)
    try:
        key = await tools.index.pending.take()
        scan, stored = await _upload(tools, key, scanner, chunks, study, expected=expected)
        return await _commit(tools, scan, stored)
    except Refused as refusal:
        return refused(scanner.head, refusal)
    except Unavailable as error:
        return Outcome(scanner.head, Refused(str(error), FailureReason.OUT_OF_RESOURCES), transient=True)


async def remove(tools: Tools, study: str, series: str | None = None, instance: str | None = None) -> None:
    """Remove what lies below an address; NotFound when nothing does. Objects go later, so readers may end."""
    count = await removal.remove(tools.index, study, series, instance)
    log.info(
        "removed",
        study_instance_uid=uids.told(study),
        series_instance_uid=series and uids.told(series),
        sop_instance_uid=instance and uids.told(instance),
        instances=count,
    )


async def _upload(
    tools: Tools,
    key: str,
    scanner: Scanner,
    chunks: AsyncIterator[bytes | memoryview],
    study: str | None,
    *,
    expected: int | None,
) -> tuple[Scan, Stored]:
    """The object durable under `key`, and what the scanner saw of it; else neither object nor pending row.

    Where the storage cannot say whether there is an object, the row stays and the sweeper judges.
    """
    size = 0
    upload = tools.storage.upload(key, expected)
    try:
        async with upload:
            async for chunk in chunks:
                await _see(scanner, chunk, upload)
                _judge(scanner.head, study)
                size += len(chunk)
                _bound(size, tools.max_instance_bytes)
                await upload.write(chunk)
            with unforeseen():
                scan = await asyncio.to_thread(scanner.close) if scanner.is_large else scanner.close()
            _judge(scan.head, study)
    except BaseException:
        if not upload.may_remain:
            await asyncio.shield(tools.index.pending.untake(key))
        raise
    return scan, upload.stored


async def _see(scanner: Scanner, chunk: bytes | memoryview, upload: Upload) -> None:
    """Show a chunk to the scanner, and tell the upload where the data set begins once that is known."""
    is_told = scanner.dataset_offset is not None
    with unforeseen():
        for _ in scanner.steps(chunk):
            await asyncio.sleep(0)  # no header, however hostile, holds the event loop
    if not is_told and scanner.dataset_offset is not None and scanner.transfer_syntax_uid is not None:
        upload.split(scanner.dataset_offset, scanner.transfer_syntax_uid.encode() + b"\0")


@contextmanager
def unforeseen() -> Iterator[None]:
    """A fault of ours costs the instance that met it, not its neighbours."""
    try:
        yield
    except ReelwebError:
        raise
    except Exception as error:
        log.error("failed", error=type(error).__name__)  # noqa: TRY400 - a text may quote a value
        raise Refused(
            "The server failed to process the instance.", FailureReason.PROCESSING_FAILURE
        ) from error


def _bound(size: int, most: int | None) -> None:
    if most is not None and size > most:
        raise Refused("The instance is larger than this server takes.", FailureReason.OUT_OF_RESOURCES)


def _judge(head: Head | None, study: str | None) -> None:
    if head and study is not None and head.study_instance_uid != study:
        raise Refused(
            "The instance belongs to another study than the one named.", FailureReason.STUDY_MISMATCH
        )


async def _commit(tools: Tools, scan: Scan, stored: Stored) -> Outcome:
    try:
        added = await tools.index.committer.add(scan, stored)
    except Lost:
        await tools.storage.delete(stored.key)
        raise
    if added == "stored":
        return Outcome(scan.head)
    await _forget(tools, stored.key)
    if added == "same":
        return Outcome(scan.head, again=True)
    if tools.on_conflict == "keep":
        return Outcome(scan.head, warning=WarningReason.ELEMENTS_DISCARDED)
    return refused(
        scan.head,
        Refused(
            "Another instance is stored under this SOP Instance UID.", FailureReason.DUPLICATE_SOP_INSTANCE
        ),
    )


async def _forget(tools: Tools, key: str) -> None:
    """Remove the loser of a race, object first: until its pending row goes, the sweeper would find it."""
    await tools.storage.delete(key)
    await tools.index.pending.drop([key])


def refused(head: Head | None, refusal: Refused) -> Outcome:
    """A refusal as an outcome, with a line in the log."""
    log.info(
        "refused",
        reason=f"{refusal.reason:04X}",
        why=str(refusal),
        sop_instance_uid=uids.told(head.sop_instance_uid) if head else None,
    )
    return Outcome(head, refusal, transient=isinstance(refusal, NoRoom))
