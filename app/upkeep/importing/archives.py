"""The members of zip and tar files, streamed: nothing is written to a disk, no name of a member leads anywhere.

An archive in an archive stays closed. What a hostile one can cost is bounded: its directory and each header in
memory, what it expands to in bytes (`Room`).
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from tarfile import InvalidHeaderError, TruncatedHeaderError  # type: ignore[attr-defined] # typeshed lacks them
from typing import BinaryIO, Final, Self, cast

from app.errors import ReelwebError
from app.upkeep.importing import kinds
from app.upkeep.importing.items import (
    PIECE,
    Archive,
    Extent,
    Item,
    Pieces,
    Source,
    Trouble,
    Unreadable,
    marked_member,
    read,
    shown,
)
from app.upkeep.importing.sources import Found
from app.upkeep.importing.unpacked import DAMAGED, Forward, Room, opened

_HELD: Final = 2 << 20  # a member of a compressed tar up to this size is held, so that others go on meanwhile
_DIRECTORY: Final = 32 << 20  # of a zip file: some 300,000 members
_METHODS: Final = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


@contextmanager
def _judged() -> Iterator[None]:
    """Strangers' bytes make zipfile and tarfile raise whatever there is."""
    try:
        yield
    except (ReelwebError, OSError):
        raise
    except Exception as error:
        raise Unreadable(DAMAGED) from error


class NotATar(ReelwebError):
    """It is compressed, and what comes out is no tar file."""


class _Zip:
    """What zipfile reads from: it takes the whole directory in one read, which is bounded here."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.tell, self.seek, self.seekable = raw.tell, raw.seek, raw.seekable

    def read(self, size: int = -1) -> bytes:
        found = self._raw.read(size if 0 <= size <= _DIRECTORY else _DIRECTORY + 1)
        if len(found) > _DIRECTORY:
            raise Unreadable("The archive's directory is too long.")
        return found


class _Member:
    """One member of a zip file that is open, decompressed as it is read."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, room: Room) -> None:
        self.is_over = False
        self._archive, self._info, self._room = archive, info, room
        self._left = info.file_size
        self._file: zipfile.ZipExtFile | None = None

    def next(self) -> bytes:
        with _judged():
            if self._file is None:
                self._file = cast("zipfile.ZipExtFile", self._archive.open(self._info))
            piece = self._file.read(PIECE)
            if len(piece) < PIECE:  # the end, where zipfile compares the checksum
                piece += self._file.read(1)
        self._left -= len(piece)
        self._room.take(len(piece))
        if self._left <= 0 or not piece:
            if self._left:
                raise Unreadable(DAMAGED)
            self.is_over = True
            self.close()
        return piece

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextmanager
def zipped(item: Item, archive: Archive) -> Iterator[Iterator[Found]]:
    """The members of a zip file; they can be read until the block ends."""
    with opened(item.path, item.seen) as raw:
        with _judged():
            inside = zipfile.ZipFile(cast("BinaryIO", _Zip(raw)))
        room = Room(item.size)
        with inside:
            yield (
                _zip_member(item, archive, inside, info, room)
                for info in inside.infolist()
                if not info.filename.endswith("/")
            )


def _zip_member(
    item: Item, archive: Archive, inside: zipfile.ZipFile, info: zipfile.ZipInfo, room: Room
) -> Found:
    name = shown(f"{item.path}: {info.filename}")
    if info.flag_bits & 1:
        return Trouble(name, "It is encrypted.", info.compress_size)
    if info.compress_type not in _METHODS:
        return Trouble(name, "It is compressed in a way that is not read.", info.compress_size)

    def pieces() -> Pieces:
        return read(_Member(inside, info, room))

    mark = marked_member(item, info.header_offset, info.filename)
    return Item(item.path, info.filename, mark, info.file_size, info.compress_size, pieces, archive=archive)


class _Packed:
    """A long member of a compressed tar file: read where the archive stands, else from its beginning."""

    def __init__(self, live: Forward | None, anew: Callable[[], Forward], offset: int, size: int) -> None:
        self.is_over = False
        self._from, self._anew, self._offset, self._left = live, anew, offset, size
        self._own: Forward | None = None

    def next(self) -> bytes:
        if self._from is None:
            self._from = self._own = self._anew()
            self._from.seek(self._offset)
        piece = self._from.take(min(PIECE, self._left))
        self._left -= len(piece)
        if not piece and self._left:
            raise Unreadable(DAMAGED)
        if not self._left:
            self.is_over = True
            self.close()
        return piece

    def close(self) -> None:
        if self._own is not None:
            self._own.close()


@contextmanager
def tarred(item: Item, archive: Archive, first: bytes) -> Iterator[Iterator[Found]]:
    """The members of a tar file, for the time of the block."""
    packing = kinds.packing(first)
    room = Room(item.size)

    def anew() -> Forward:
        return Forward(opened(item.path, item.seen), packing, room)

    with closing(anew()) as forward:
        yield _tar_members(item, archive, _tar(forward), forward, anew)


def _tar_members(
    item: Item, archive: Archive, inside: tarfile.TarFile, forward: Forward, anew: Callable[[], Forward]
) -> Iterator[Found]:
    done = 0
    while (info := _next(inside, forward)) is not None:
        if info.sparse is not None:
            yield Trouble(shown(f"{item.path}: {info.name}"), "Sparse members are not read.")
        elif info.isreg():
            source = _source(item, info, forward, anew)
            consumed = forward.consumed if forward.is_packed else info.offset_data + info.size
            weight, done = consumed - done, consumed
            is_live = forward.is_packed and info.size > _HELD
            yield _tar_member(item, archive, info, weight, source, is_live=is_live)


class _Info(tarfile.TarInfo):
    """A header; tarfile takes one that is damaged for the end of the archive, and says nothing."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """The next one."""
        try:
            return super().fromtarfile(tarfile)
        except (InvalidHeaderError, TruncatedHeaderError) as error:
            if tarfile.offset:
                raise Unreadable(DAMAGED) from error
            raise


def _tar(forward: Forward) -> tarfile.TarFile:
    try:
        with _judged():
            return tarfile.TarFile(fileobj=cast("BinaryIO", forward), tarinfo=_Info, errors="surrogateescape")
    except Unreadable as error:
        if isinstance(error.__cause__, tarfile.ReadError):
            raise NotATar("It is no tar file.") from error
        raise


def _next(inside: tarfile.TarFile, forward: Forward) -> tarfile.TarInfo | None:
    forward.budget = Forward.HEADERS
    with _judged():
        info = inside.next()
    inside.members.clear()  # type: ignore[attr-defined] # typeshed lacks it; tarfile would keep them all
    if info is None:
        forward.finish()
    elif info.size < 0:
        raise Unreadable(DAMAGED)
    return info


def _source(
    item: Item, info: tarfile.TarInfo, forward: Forward, anew: Callable[[], Forward]
) -> Callable[[], Source]:
    """How the member is read."""
    offset, size = info.offset_data, info.size
    if not forward.is_packed:
        return lambda: Extent(item.path, offset, size, item.seen)
    live = [forward]

    def packed() -> Source:
        return _Packed(live.pop() if live else None, anew, offset, size)

    forward.seek(offset)
    if size > _HELD:
        return packed
    held = forward.take(size)
    if len(held) < size:
        raise Unreadable(DAMAGED)
    return lambda: _Held(held)


class _Held:
    """A short member of a compressed tar file, in memory."""

    def __init__(self, held: bytes) -> None:
        self.is_over, self._held = False, held

    def next(self) -> bytes:
        self.is_over = True
        return self._held

    def close(self) -> None:
        self.is_over = True


def _tar_member(
    item: Item,
    archive: Archive,
    info: tarfile.TarInfo,
    weight: int,
    source: Callable[[], Source],
    *,
    is_live: bool,
) -> Item:
    return Item(
        item.path,
        info.name,
        marked_member(item, info.offset, info.name),
        info.size,
        weight,
        lambda: read(source()),
        archive=archive,
        is_live=is_live,
    )
