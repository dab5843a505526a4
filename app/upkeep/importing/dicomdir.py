"""The files that a DICOMDIR names (PS3.3 F, PS3.10 8.6), read in passing: however long it is, nothing of it is held."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from struct import Struct
from typing import BinaryIO, Final

from app.dicom.elements import LONG, VRS, layout_of
from app.upkeep.importing.items import Item, Trouble, Unreadable, of_file, shown, why
from app.upkeep.importing.kinds import DICOMDIR
from app.upkeep.importing.sources import Found
from app.upkeep.importing.unpacked import opened

_UNDEFINED: Final = 0xFFFFFFFF
_FILE_ID: Final = b"\x04\x00\x00\x15"
_IN_USE: Final = b"\x04\x00\x10\x14"
_LONGEST: Final = 1 << 10  # of a File ID: eight components of eight characters
_MISSING: Final = "A DICOMDIR names it, and it is not there."
_ODD: Final = "The DICOMDIR cannot be read to its end."
_tag_and_vr: Final = Struct("<4s2sH").unpack
_length: Final = Struct("<I").unpack


def named(item: Item) -> Iterator[Found]:
    """Every file that it names, as somebody asked for it."""
    folder = os.path.dirname(item.path) or "."
    names = lru_cache(maxsize=8)(_names)
    try:
        with opened(item.path, item.seen) as raw:
            for components in file_ids(raw):
                path = _found(folder, components, names)
                if path is None:
                    yield Trouble(shown(os.path.join(folder, *components)), _MISSING)
                else:
                    yield of_file(path, os.stat(path), is_named=True)
    except Unreadable as error:
        yield Trouble(item.name, str(error))
    except OSError as error:
        yield Trouble(item.name, why(error))


def missing(item: Item) -> Iterator[Trouble]:
    """What it names and is not there; the others are met by who walks its folder."""
    return (one for one in named(item) if isinstance(one, Trouble))


def file_ids(raw: BinaryIO) -> Iterator[tuple[str, ...]]:
    """The components of each File ID of a record that is in use.

    A DICOMDIR is Explicit VR Little Endian. Sequences and items are entered, whatever their lengths say, so
    its elements are one flat row.
    """
    raw.seek(132)
    in_use = True
    while len(header := raw.read(8)) == 8:
        tag, vr, length = _tag_and_vr(header)
        if tag[:2] == b"\xfe\xff":
            in_use = True
            continue
        if vr.decode("latin-1") not in VRS:
            raise Unreadable(_ODD)
        if layout_of(vr.decode("latin-1")) == LONG:
            length = _length(raw.read(4).ljust(4, b"\0"))[0]
        if vr == b"SQ":
            continue
        if length == _UNDEFINED:
            raise Unreadable(_ODD)
        if tag == _IN_USE and length == 2:
            in_use = raw.read(2) != b"\0\0"
        elif tag == _FILE_ID and length <= _LONGEST:
            components = tuple(raw.read(length).decode("latin-1").rstrip(" \0").split("\\"))
            if in_use and any(components) and components[-1].upper() != DICOMDIR:  # not in circles
                yield components
        else:
            raw.seek(length, os.SEEK_CUR)


def _found(folder: str, components: tuple[str, ...], names: Callable[[str], dict[str, str]]) -> str | None:
    """The file: below the DICOMDIR's folder, in whatever case the medium's file system writes names."""
    path = folder
    for one in components:
        if one in {"", ".", ".."} or "/" in one or "\0" in one:
            return None
        inner = os.path.join(path, one)
        if not os.path.lexists(inner):
            other = names(path).get(one.lower())
            if other is None:
                return None
            inner = os.path.join(path, other)
        path = inner
    inside = os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))
    return path if inside and os.path.isfile(path) else None


def _names(folder: str) -> dict[str, str]:
    """A folder's names by how a DICOMDIR may write them; ISO 9660 adds a version, some systems a dot."""
    try:
        return {name.partition(";")[0].rstrip(".").lower(): name for name in os.listdir(folder)}
    except OSError:
        return {}
