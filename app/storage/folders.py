"""Folders that survive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


class Folders:
    """Folders below a root; the entry of each in its parent is synced once, whoever made it."""

    def __init__(self, root: Path) -> None:
        self._durable = {str(root)}  # up to 65,536 strings, which are smaller than paths

    def make(self, folder: Path) -> None:
        """Make it and its parents; returns when all of them are durable."""
        if str(folder) in self._durable:
            return
        self.make(folder.parent)
        folder.mkdir(0o700, exist_ok=True)
        sync(folder.parent)
        self._durable.add(str(folder))


def sync(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
