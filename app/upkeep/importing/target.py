"""Where instances go: this archive or another server (two implementations), and how long one that is away is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from app.errors import ReelwebError
from app.upkeep.importing.items import Reading
from app.upkeep.importing.tally import Result


class Away(ReelwebError):
    """Nothing can be stored just now, however often it was tried."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much goes at once."""

    requests: int = 8
    instances: int = 1
    """In one request."""
    size: int = 1
    """Of one request, unless a single instance is longer."""


class Target(Protocol):
    """Takes instances and tells what became of each."""

    bounds: Bounds

    async def has(self, sop_instance_uids: Sequence[str]) -> set[str]:
        """Those that it still has, as far as it can tell."""

    async def send(self, readings: Sequence[Reading]) -> list[Result]:
        """A result for each, in this order; Away when it was tried in vain."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Pauses between attempts, each twice as long; a wish to stop ends them."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    attempts: int = 8
    first_s: float = 0.5
    longest_s: float = 30
    obeyed_s: float = 300
    """The longest pause that a server may ask for."""

    async def again(self, attempt: int, told_s: float | None = None) -> bool:
        """Whether to try again after this attempt, which was the first at 1; waits before it says so."""
        if attempt >= self.attempts or self.stop.is_set():
            return False
        pause_s = min(self.first_s * 2 ** (attempt - 1), self.longest_s)
        if told_s is not None:
            pause_s = min(max(told_s, 0.0), self.obeyed_s)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), pause_s)
        return not self.stop.is_set()
