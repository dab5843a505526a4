"""What became of everything that was met: counts and reasons, never names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_REASONS: Final = 200  # told apart; hostile files could make up more


class Ending(StrEnum):
    """How it ended with one file or member."""

    STORED = "stored"
    AGAIN = "there already"
    WARNED = "warned"
    REMEMBERED = "remembered"
    SKIPPED = "skipped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Result:
    """The ending, why it was one of the last three, and which instance it is where that was told."""

    ending: Ending
    why: str = ""
    sop_instance_uid: str = ""

    @property
    def is_stored(self) -> bool:
        """The archive has this very instance."""
        return self.ending in {Ending.STORED, Ending.AGAIN, Ending.REMEMBERED}


def refused(why: str) -> Result:
    """It could not be taken."""
    return Result(Ending.REFUSED, why)


@dataclass(slots=True)
class Tally:
    """Told of each result; tells the name of what was refused to whoever asked for it."""

    tell: Callable[[str, str], None] = lambda _name, _why: None
    advance: Callable[[int], None] = lambda _weight: None
    say: Callable[[str], None] = lambda _sentence: None
    endings: Counter[Ending] = field(default_factory=Counter)
    reasons: dict[Ending, Counter[str]] = field(default_factory=dict)
    weight: int = 0

    @property
    def met(self) -> int:
        """How many there were."""
        return self.endings.total()

    @property
    def refused(self) -> int:
        """How many were refused."""
        return self.endings[Ending.REFUSED]

    def add(self, name: str, weight: int, result: Result) -> None:
        """One more; `weight` is how many bytes of the files on disk it stood for."""
        self.endings[result.ending] += 1
        if result.why:
            reasons = self.reasons.setdefault(result.ending, Counter())
            reasons[result.why if len(reasons) < _REASONS or result.why in reasons else "other reasons"] += 1
        if result.ending is Ending.REFUSED:
            self.tell(name, result.why)
        self.pass_by(weight)

    def pass_by(self, weight: int) -> None:
        """So many more bytes are behind us."""
        self.weight += weight
        self.advance(weight)

    def summary(self) -> list[str]:
        """What became of all, one sentence a line."""
        count = self.endings
        there = count[Ending.AGAIN] + count[Ending.REMEMBERED]
        lines = [
            (
                f"{count[Ending.STORED]} stored, {there} there already, {count[Ending.SKIPPED]} skipped, "
                f"{count[Ending.REFUSED]} refused."
            )
        ]
        for ending in (Ending.SKIPPED, Ending.WARNED, Ending.REFUSED):
            for why, times in self.reasons.get(ending, Counter[str]()).most_common():
                lines.append(f"  {ending} {times}: {why}")
        return lines
