"""How much of a disk is left, and the mark below which nothing more is taken."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from app.errors import NoRoom


@dataclass(frozen=True, slots=True)
class Room:
    """`spare` bytes of a disk stay free: the database and the system live there, too."""

    spare: int = 0

    def check(self, folder: Path | str, wanted: int) -> None:
        """NoRoom when `wanted` bytes more would reach the mark; a call of microseconds."""
        self.judge(self.free(folder), wanted)

    def free(self, folder: Path | str) -> int | None:
        """What is free where the folder lies; None where nobody asks for it, or it cannot be told."""
        if not self.spare:
            return None
        try:
            found = os.statvfs(folder)
        except OSError:
            return None  # whoever writes there will hear of it
        return found.f_bavail * found.f_frsize

    def judge(self, free: int | None, wanted: int) -> None:
        """NoRoom when `wanted` bytes of what is free would reach the mark."""
        if free is not None and free < self.spare + wanted:
            raise NoRoom("The disk has less room left than REELWEB_LOW_DISK keeps free.")
