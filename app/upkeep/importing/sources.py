"""Files and folders, walked in the order in which a disk likes to read them, in constant memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from app.upkeep.importing.items import Item, Trouble, of_file, shown, why

_BLOCK: Final = 4096  # entries sorted at once
_OWN: Final = "Nothing is imported from the archive's own folder, nor from that of moved files."

Place = tuple[int, int]
Found = Item | Trouble


def places(folders: Sequence[Path]) -> frozenset[Place]:
    """Where these folders are, by device and inode: an archive is not imported into itself."""
    found = (folder.stat() for folder in folders if folder.exists())
    return frozenset((one.st_dev, one.st_ino) for one in found)


def walk(paths: Sequence[str], own: frozenset[Place]) -> Iterator[Found]:
    """Every regular file at or below these paths. Links to files are followed, links to folders below are not."""
    for path in paths:
        try:
            found = os.stat(path)
        except OSError as error:
            yield Trouble(shown(path), why(error))
            continue
        if (found.st_dev, found.st_ino) in own:
            yield Trouble(shown(path), _OWN)
        elif stat.S_ISDIR(found.st_mode):
            yield from _below(path, own)
        elif stat.S_ISREG(found.st_mode):
            yield of_file(path, found, is_named=True)
        else:
            yield Trouble(shown(path), "It is neither a file nor a folder.")


def census(paths: Sequence[str], own: frozenset[Place]) -> Iterator[int]:
    """The sizes of the same files, to tell how long it will take."""
    return (one.weight for one in walk(paths, own))


def _below(top: str, own: frozenset[Place]) -> Iterator[Found]:
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                while block := sorted(islice(entries, _BLOCK), key=os.DirEntry.inode):
                    for entry in block:
                        if entry.is_dir(follow_symlinks=False):
                            inner = entry.stat(follow_symlinks=False)
                            if (inner.st_dev, inner.st_ino) not in own:
                                folders.append(entry.path)
                        else:
                            yield from _entry(entry)
        except OSError as error:
            yield Trouble(shown(folder), why(error))


def _entry(entry: os.DirEntry[str]) -> Iterator[Found]:
    try:
        found = entry.stat()
    except FileNotFoundError:
        if entry.is_symlink():
            yield Trouble(shown(entry.path), "It is a link to nowhere.")
    except OSError as error:
        yield Trouble(shown(entry.path), why(error))
    else:
        if stat.S_ISREG(found.st_mode):
            yield of_file(entry.path, found)
