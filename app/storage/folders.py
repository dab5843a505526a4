"""Folders that survive a power cut."""

from __future__ import annotations

import os
from contextlib import suppress


class Folders:
    """Folders below a root; the entry of each in its parent is synced once, whoever made it."""

    def __init__(self, root: str) -> None:
        self._durable = {root}  # up to 65,536 of them

    def make(self, folder: str) -> None:
        """Make it and its parents; returns when all of them are durable."""
        if folder in self._durable:
            return
        parent = os.path.dirname(folder)
        self.make(parent)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        sync(parent)
        self._durable.add(folder)


def sync(folder: str) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
