"""How much room a disk has for uploads: what is free, less what stays free for records, the database and the system."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from app.errors import NoRoom

_SMALL: int = 20  # of a small disk only this part of it is kept free


@dataclass(frozen=True, slots=True)
class Room:
    """`reserve` bytes stay free, or a twentieth where the whole file system is small."""

    reserve: int = 0

    def left(self, folder: Path) -> int:
        """Bytes that uploads may still take; none or less when the disk is as full as it may be."""
        at = os.statvfs(folder)
        return at.f_bavail * at.f_frsize - min(self.reserve, at.f_blocks * at.f_frsize // _SMALL)

    def check(self, folder: Path, wanted: int) -> None:
        """NoRoom when so many bytes more are too many; a call of microseconds."""
        if self.left(folder) <= wanted:
            raise NoRoom("The disk has no room left for what came.")
