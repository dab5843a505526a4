"""What happens to a file that is stored: nothing, unless its owner wants it removed or moved."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

from app.upkeep.importing.items import Item, look

Aside = Callable[[Item], None]


def leave(item: Item) -> None:
    """It stays where it is."""


def remove(item: Item) -> None:
    """It goes, if it is still what was read."""
    if _is_same(item):
        os.unlink(item.path)


def moved_to(folder: Path) -> Aside:
    """It goes into this folder, below the path it had; nothing there is overwritten."""

    def move(item: Item) -> None:
        if not _is_same(item):
            return
        wanted = folder / os.path.abspath(item.path).lstrip("/")
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in count():
            place = wanted.with_name(f"{wanted.name}.{number}") if number else wanted
            try:
                _place(item, place)
            except FileExistsError:
                continue
            return

    return move


def _is_same(item: Item) -> bool:
    return not os.path.islink(item.path) and look(os.stat(item.path)) == item.seen


def _place(item: Item, place: Path) -> None:
    if os.stat(place.parent).st_dev == item.seen[0]:
        os.link(item.path, place)
    else:
        with open(item.path, "rb") as source, open(place, "xb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        shutil.copystat(item.path, place)
    os.unlink(item.path)
