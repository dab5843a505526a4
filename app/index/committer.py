"""Group commit: one task drains what piled up while the last transaction ran, and stores it in one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
import structlog

from app.dicom import uids
from app.dicom.scanner import Scan
from app.errors import FailureReason, Refused, Unavailable
from app.extent import Stored
from app.index.connection import Raced, is_away
from app.index.growing import Growing
from app.index.instances import Lost, Outcome, store
from app.index.journal import Journal, Record
from app.index.pool import Knobs, OwnConnection
from app.index.rows import Row, row

log = structlog.get_logger()

_LARGE = 64 << 10  # bytes of JSON from which a thread compresses
_PATIENCE = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)  # seconds before a batch is tried again


class _Waiting:
    __slots__ = ("future", "row")

    def __init__(self, row: Row, future: asyncio.Future[Outcome]) -> None:
        self.row, self.future = row, future


class Committer:
    """The only writer of instances in this process."""

    def __init__(self, own: OwnConnection, knobs: Knobs, journal: Journal) -> None:
        self._own, self._knobs, self._journal, self._growing = own, knobs, journal, Growing()
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(maxsize=4 * knobs.batch_rows)
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    async def add(self, scan: Scan, stored: Stored) -> Outcome:
        """Store one instance; returns when it is committed.

        Refused: this instance is the database's poison. Unavailable: it is not known whether it was committed,
        so the object stays and the sweeper decides by the pending row. Cancelling does not take it back.
        """
        if len(scan.json) < _LARGE:
            made = row(scan, stored)
        else:
            made = await asyncio.to_thread(row, scan, stored)
        if self._is_closing:
            raise Unavailable("The server is stopping.")
        waiting = _Waiting(made, asyncio.get_running_loop().create_future())
        await self._queue.put(waiting)
        return await waiting.future

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._work(), name="committer")

    async def close(self) -> None:
        """Stop; who still waits is told that it is not known."""
        self._is_closing = True
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        while not self._queue.empty():
            _fail([self._queue.get_nowait()], Unavailable("The server is stopping."))
            await asyncio.sleep(0)  # who waits for room comes in

    async def _work(self) -> None:
        later: list[_Waiting] = []
        while True:
            batch, later = self._drain(later or [await self._queue.get()])
            try:
                await self._store(batch)
            except asyncio.CancelledError:
                _fail(batch + later, Unavailable("The server is stopping."))
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the next batch has its chance
                why = type(error).__name__  # no traceback: it may quote a value
                log.error("index.commit_failed", rows=len(batch), why=why)  # noqa: TRY400
                _fail(batch, Unavailable("The index failed."))

    def _drain(self, batch: list[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
        """What waits, up to a bound; a second instance of the same UID waits for the next round."""
        while len(batch) < self._knobs.batch_rows and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        chosen: dict[str, _Waiting] = {}
        later, size = [], 0
        for waiting in batch:
            uid = waiting.row.sop_instance_uid
            size += waiting.row.weight
            if uid in chosen or (chosen and size > self._knobs.batch_bytes):
                later.append(waiting)
            else:
                chosen[uid] = waiting
        return list(chosen.values()), later

    async def _store(self, batch: list[_Waiting]) -> None:
        """Try the whole batch, again where that helps, else each row alone."""
        for wait_s in _PATIENCE:
            if wait_s:
                await asyncio.sleep(wait_s)
            try:
                async with self._own.use() as connection:
                    rows = [one.row for one in batch]
                    outcomes, records = await store(
                        connection, rows, self._journal, self._growing, replaces=self._knobs.replaces
                    )
            except (Raced, asyncpg.TransactionRollbackError) as error:
                log.info("index.batch_again", rows=len(batch), why=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - judged below
                if not is_away(error):
                    await self._isolate(batch, error)
                    return
                log.warning("index.away", why=type(error).__name__)
            else:
                await self._tell(batch, outcomes, records)
                return
        _fail(batch, Unavailable("The database does not answer."))

    async def _tell(
        self, batch: Sequence[_Waiting], outcomes: dict[str, Outcome], records: Sequence[Record]
    ) -> None:
        """Answer once the storage knows; what comes meanwhile is the next batch."""
        try:
            await self._journal.keep(records)
        except Exception as error:  # noqa: BLE001 - it is in the table: the sweeper keeps it later
            log.warning("index.record_not_kept", rows=len(batch), why=type(error).__name__)
            _fail(batch, Unavailable("The storage did not take the record of it."))
        else:
            _resolve(batch, outcomes)

    async def _isolate(self, batch: list[_Waiting], error: Exception) -> None:
        """A poison row fails alone; its text may quote a value, so only its kind is told."""
        if len(batch) > 1:
            for waiting in batch:
                await self._store([waiting])
            return
        uid = uids.told(batch[0].row.sop_instance_uid)
        log.error("index.refused", sop_instance_uid=uid, why=type(error).__name__)
        _fail(batch, Refused("The index cannot hold this instance.", FailureReason.PROCESSING_FAILURE))


def _resolve(batch: Sequence[_Waiting], outcomes: dict[str, Outcome]) -> None:
    for waiting in batch:
        outcome = outcomes[waiting.row.sop_instance_uid]
        if outcome is Outcome.LOST:
            _fail([waiting], Lost())
        elif not waiting.future.done():
            waiting.future.set_result(outcome)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.future.done():
            waiting.future.set_exception(error)
