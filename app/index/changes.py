"""Whether what was found is still true: every process hears of each change that could make it otherwise (LISTEN).

Storing more changes nothing of what was found. What does (an instance that goes or is renewed, a rendition that
is made anew or goes) is told by the rows' own triggers, in `migrations/0004_changes.sql`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from app.errors import Unavailable
from app.index.connection import translated
from app.index.pool import OwnConnection

log = structlog.get_logger()

_CHANNEL: Final = "archive_changed"
_PAUSE_S: Final = 1.0


class Changes:
    """Counts them, over a connection of its own; as long as nobody can tell of them nothing is certain."""

    def __init__(self, own: OwnConnection) -> None:
        self._own = own
        self._count = 0
        self._hears = False
        self._next = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    @property
    def count(self) -> int | None:
        """What was found while it was the same is still true; None: that is not known of anything."""
        return self._count if self._hears else None

    def happened(self, *_: object) -> None:
        """There was one: who makes it himself tells at once, before the database tells all."""
        self._count += 1
        heard, self._next = self._next, asyncio.Event()
        heard.set()

    @property
    def next(self) -> asyncio.Event:
        """Set when there is one; to be taken before looking."""
        return self._next

    def start(self) -> None:
        """Begin to listen."""
        self._listening = asyncio.create_task(self._listen(), name="changes")

    async def close(self) -> None:
        """Stop."""
        if self._listening:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    async def _listen(self) -> None:
        while True:
            try:
                await self._until_lost()
            except Unavailable as error:
                log.warning("index.changes_unheard", why=str(error))
            await asyncio.sleep(_PAUSE_S)

    async def _until_lost(self) -> None:
        lost = asyncio.Event()
        with translated():
            async with self._own.use() as connection:
                connection.add_termination_listener(lambda _: lost.set())
                await connection.add_listener(_CHANNEL, self.happened)
                self.happened()  # whatever came before was not heard
                self._hears = True
                try:
                    await lost.wait()
                finally:
                    self._hears = False
