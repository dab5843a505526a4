"""The import itself: files are found, looked at, sent, several at once, and each is settled exactly once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final

from app.errors import Unavailable
from app.upkeep.importing import archives, dicomdir, kinds
from app.upkeep.importing.aside import Aside, leave
from app.upkeep.importing.done import Done
from app.upkeep.importing.items import Archive, Item, Reading, Trouble, Unreadable, why
from app.upkeep.importing.kinds import Kind
from app.upkeep.importing.sources import Found
from app.upkeep.importing.tally import Ending, Result, Tally, refused
from app.upkeep.importing.target import Away, Target

_PAGE: Final = 256
_NO_DICOM: Final = "This is no DICOM file."


class Import:
    """One import; `run` may be called again and again, as a drop folder does."""

    def __init__(
        self,
        target: Target,
        done: Done,
        tally: Tally,
        stop: asyncio.Event,
        *,
        aside: Aside = leave,
        again: bool = False,
    ) -> None:
        self._target, self._done, self._tally, self._stop = target, done, tally, stop
        self._aside, self._again = aside, again
        self._queue: asyncio.Queue[Item] = asyncio.Queue(target.bounds.requests * target.bounds.instances)
        self._later: deque[tuple[Item, Kind, bytes]] = deque()
        self._away: Away | None = None

    async def run(self, found: Iterator[Found]) -> None:
        """Import what is found, archives after the files beside them; Away when the target takes nothing."""
        self._away = None
        try:
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(self._work()) for _ in range(self._target.bounds.requests)]
                await self._all(found)
                for worker in workers:
                    worker.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # a worker's: it ends all of them
        finally:
            await asyncio.to_thread(self._done.flush)
        if self._away is not None:
            raise self._away

    async def _all(self, found: Iterator[Found]) -> None:
        await self._feed(found, _PAGE)
        await self._queue.join()
        while self._later and not self._is_over():
            await self._expand(*self._later.popleft())
            await self._queue.join()
        self._later.clear()

    def _is_over(self) -> bool:
        return self._away is not None or self._stop.is_set()

    # --- what is found ------------------------------------------------------------------------------------

    async def _feed(self, found: Iterator[Found], page_size: int, archive: Archive | None = None) -> None:
        while not self._is_over() and (
            page := await asyncio.to_thread(lambda: list(islice(found, page_size)))
        ):
            known = await self._known([one.mark for one in page if isinstance(one, Item)])
            for one in page:
                if self._is_over():
                    return
                if isinstance(one, Trouble):
                    self._tally.add(one.name, one.weight, refused(one.why))
                    if archive is not None:
                        archive.left_out += 1
                elif one.mark in known:
                    self._tally.add(one.name, one.weight, Result(Ending.REMEMBERED))
                    await self._put_aside(one)
                else:
                    await self._queue_up(one)

    async def _queue_up(self, item: Item) -> None:
        if item.archive is not None:
            item.archive.begin()
        await self._queue.put(item)
        if item.archive is not None and item.is_live:
            await item.archive.settled()

    async def _known(self, marks: list[bytes]) -> set[bytes]:
        """Those of an earlier import that the target still has."""
        if self._again or not marks:
            return set()
        done = await asyncio.to_thread(self._done.known, marks)
        if not done:
            return set()
        try:
            there = await self._target.has(list(done.values()))
        except Unavailable:
            return set()  # who sends it again is told the same again
        return {mark for mark, uid in done.items() if uid in there}

    # --- archives and DICOMDIRs ---------------------------------------------------------------------------

    async def _expand(self, item: Item, kind: Kind, first: bytes) -> None:
        before, met, archive = self._tally.weight, self._tally.met, Archive()
        try:
            await self._go_through(
                _members(item, kind, first, archive), archive, 1 if kind is not Kind.ZIP else _PAGE
            )
        except archives.NotATar:
            self._tally.add(item.name, item.weight, _other(item))
            return
        except (Unreadable, OSError) as error:
            archive.left_out += 1
            told = why(error) if isinstance(error, OSError) else str(error)
            self._tally.add(item.name, 0, refused(told))
        if kind is Kind.DIRECTORY:
            self._tally.pass_by(item.weight)
            return
        if self._tally.met == met and kind is Kind.PACKED:  # zeros look like a tar file's end
            self._tally.add(item.name, 0, _other(item))
        self._tally.pass_by(max(item.weight - (self._tally.weight - before), 0))
        if not archive.left_out and not self._is_over():
            await self._put_aside(item)

    async def _go_through(
        self, opened: AbstractContextManager[Iterator[Found]], archive: Archive, page_size: int
    ) -> None:
        found = await asyncio.to_thread(opened.__enter__)
        failure: Exception | None = None
        try:
            try:
                await self._feed(found, page_size, archive)
            except (Unreadable, OSError) as error:
                failure = error
            await archive.settled()  # until then its members are read
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)
        if failure is not None:
            raise failure

    # --- workers ------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        bounds, spare = self._target.bounds, list[Reading]()
        while True:
            batch, size = spare, sum(one.item.size for one in spare)
            spare = []
            while not batch or (not self._queue.empty() and len(batch) < bounds.instances):
                item = await self._queue.get()
                reading = await self._begin(item)
                if reading is None:
                    continue
                if batch and size + item.size > bounds.size:
                    spare = [reading]
                    break
                batch.append(reading)
                size += item.size
            await self._send(batch)

    async def _begin(self, item: Item) -> Reading | None:
        """A DICOM file, its first piece read; what is none is settled here."""
        if self._is_over():
            self._drop(item)
            return None
        try:
            reading = await Reading.begin(item)
        except Unreadable as error:
            await self._settle(item, refused(str(error)))
            return None
        kind = kinds.kind(reading.first, item.last_name)
        if kind is Kind.DICOM:
            return reading
        await reading.close()
        if kind is Kind.OTHER:
            await self._settle(item, _other(item))
        elif item.archive is None:
            self._later.append((item, kind, reading.first[:512]))
            self._drop(item)
        else:
            nested = "a DICOMDIR" if kind is Kind.DIRECTORY else "an archive in an archive"
            await self._settle(item, Result(Ending.SKIPPED, nested))
        return None

    async def _send(self, batch: list[Reading]) -> None:
        try:
            results = await self._target.send(batch)
        except Away as error:
            self._away = error
            for reading in batch:
                self._drop(reading.item)
            return
        except Exception as error:  # noqa: BLE001 - the top of a worker: the next one has its chance
            results = [refused(f"It failed ({type(error).__name__}).")] * len(
                batch
            )  # a text may quote a value
        finally:
            for reading in batch:
                await reading.close()
        for reading, result in zip(batch, results, strict=True):
            await self._settle(reading.item, result)

    async def _settle(self, item: Item, result: Result) -> None:
        self._tally.add(item.name, item.weight, result)
        if result.is_stored:
            if result.sop_instance_uid and self._done.add(item.mark, result.sop_instance_uid):
                await asyncio.to_thread(self._done.flush)
            await self._put_aside(item)
        elif item.archive is not None:
            item.archive.left_out += 1
        self._drop(item)

    def _drop(self, item: Item) -> None:
        """The queue is rid of it."""
        self._queue.task_done()
        if item.archive is not None:
            item.archive.end()

    async def _put_aside(self, item: Item) -> None:
        if item.member or self._aside is leave:
            return
        try:
            await asyncio.to_thread(self._aside, item)
        except OSError as error:
            self._tally.add(item.name, 0, refused(f"It is stored and could not be put aside. {why(error)}"))


def _members(
    item: Item, kind: Kind, first: bytes, archive: Archive
) -> AbstractContextManager[Iterator[Found]]:
    if kind is Kind.ZIP:
        return archives.zipped(item, archive)
    if kind is not Kind.DIRECTORY:
        return archives.tarred(item, archive, first)
    names: Callable[[Item], Iterator[Found]] = dicomdir.named if item.is_named else dicomdir.missing
    return nullcontext(names(item))


def _other(item: Item) -> Result:
    """What is not DICOM is passed by, unless somebody asked for it or its name says that it should be."""
    if item.is_named or kinds.claims(item.last_name):
        return refused(_NO_DICOM)
    return Result(Ending.SKIPPED, "not DICOM")
