"""Into this archive, through the act that STOW-RS uses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from app import store
from app.index import checking
from app.tools import Tools
from app.upkeep.importing.items import Reading, Unreadable
from app.upkeep.importing.tally import Ending, Result, refused
from app.upkeep.importing.target import Away, Bounds, Patience


class Local:
    """The tools' own archive."""

    def __init__(self, tools: Tools, bounds: Bounds, patience: Patience) -> None:
        self.bounds = bounds
        self._tools, self._patience = tools, patience

    async def has(self, sop_instance_uids: Sequence[str]) -> set[str]:
        """Asked of the index: what was deleted since is imported again."""
        return await checking.stored(self._tools.index, sop_instance_uids)

    async def send(self, readings: Sequence[Reading]) -> list[Result]:
        """Each through the store act."""
        return [await self._store(one) for one in readings]

    async def _store(self, reading: Reading) -> Result:
        attempt = 0
        while True:
            attempt += 1
            try:
                async with aclosing(reading.chunks()) as chunks:
                    outcome = await store.instance(self._tools, chunks, expected=reading.item.size)
            except Unreadable as error:
                return refused(str(error))
            if not outcome.transient:
                return _result(outcome)
            if not await self._patience.again(attempt):
                raise Away(str(outcome.failure))


def _result(outcome: store.Outcome) -> Result:
    if outcome.failure is not None:
        return refused(str(outcome.failure))
    assert outcome.head is not None
    if outcome.warning is not None:
        return Result(Ending.WARNED, "Another instance was kept under its SOP Instance UID.")
    ending = Ending.AGAIN if outcome.again else Ending.STORED
    return Result(ending, sop_instance_uid=outcome.head.sop_instance_uid)
