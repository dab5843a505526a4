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

    def check(self, folder: Path, wanted: int) -> None:
        """NoRoom when `wanted` bytes more would reach the mark; a call of microseconds."""
        if not self.spare:
            return
        try:
            found = os.statvfs(folder)
        except OSError:
            return  # whoever writes there will hear of it
        if found.f_bavail * found.f_frsize < self.spare + wanted:
            raise NoRoom("The disk has less room left than REELWEB_LOW_DISK keeps free.")
