"""What upkeep finds and how far it is: lines and a bar for whoever started it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from app.dicom import uids


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; never an attribute of a patient."""

    what: str
    key: str
    sop_instance_uid: str = ""
    repaired: bool = False

    def __str__(self) -> str:
        uid = self.sop_instance_uid and uids.told(self.sop_instance_uid)
        words = [self.what, self.key, uid, "repaired" if self.repaired else ""]
        return " ".join(filter(None, words))


@dataclass(slots=True)
class Report:
    """What was looked at, and what was found on the way."""

    tell: Callable[[Finding], None] = lambda _: None
    advance: Callable[[int, int | None], None] = lambda _done, _total: None
    looked_at: int = 0
    found: Counter[str] = field(default_factory=Counter)
    open: int = 0

    def add(self, finding: Finding) -> None:
        """Count and tell one."""
        self.found[finding.what] += 1
        self.open += not finding.repaired
        self.tell(finding)

    def done(self, count: int, total: int | None = None) -> None:
        """So many more are looked at, of so many."""
        self.looked_at += count
        self.advance(self.looked_at, total)
