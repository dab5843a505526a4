"""What every storage can do: take an object durably, give ranges of it back (two implementations)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from app.extent import Stored

SHORTER: Final = "A stored object is shorter than it was."


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object as a listing shows it."""

    key: str
    size: int


@dataclass(slots=True)
class Pieces:
    """How a storage is best read, in bytes: in pieces from `smallest` to `most`, perhaps with one asked for ahead.

    What all streams of a process hold is bounded by `together`: of many at a time each has smaller pieces.
    """

    smallest: int
    most: int
    together: int
    ahead: bool
    streams: int = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """One more stream, while the block lasts."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    @property
    def largest(self) -> int:
        """Of the pieces of each stream, now."""
        share = self.together // ((2 if self.ahead else 1) * max(self.streams, 1))
        return max(self.smallest, min(self.most, share))


class File(Protocol):
    """An open file; it stays open while somebody holds it."""

    def fileno(self) -> int:
        """Its descriptor."""


@dataclass(slots=True)  # one for each piece of each answer: frozen it takes three times as long to make
class Slice:
    """Bytes of an open file that are in memory already: the kernel can send them without our seeing them."""

    file: File
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, cut: slice) -> Slice:
        start, stop, _ = cut.indices(self.length)
        return Slice(self.file, self.offset + start, stop - start)


Piece = bytes | memoryview | Slice


class Files(Protocol):
    """Where objects are files, and can be asked what of them is in memory."""

    def at_hand(self, key: str, offset: int, length: int) -> File | None:
        """The file, when it is open already and all of these bytes are in memory."""

    def fill(self, buffer: memoryview, key: str, offset: int) -> bool:
        """Whether the file is open already and the buffer was filled with bytes that were all in memory."""

    async def slice(self, key: str, offset: int, length: int) -> Slice | None:
        """These bytes, when all are in memory; None where they have to be read; `NotFound`, else `Unavailable`."""


class Upload(AbstractAsyncContextManager["Upload"], Protocol):
    """An object on its way in; nobody sees it before the block that writes it has ended."""

    async def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes, unchanged afterwards; waits while the storage is slower than the sender."""

    def split(self, offset: int, seed: bytes) -> None:
        """Hash the data set apart: from `offset`, its digest begun with `seed`.

        To be told before the first mebibyte is written. Untold, the whole object is the data set.
        """

    @property
    def may_remain(self) -> bool:
        """After a block that failed: the object may be there all the same, or come to be, and nobody knows."""

    @property
    def stored(self) -> Stored:
        """Size and digests, once the block has ended: the object is durable."""


class Storage(Protocol):
    """Objects never change: written once, read in ranges, deleted."""

    @property
    def pieces(self) -> Pieces:
        """How it is best read."""

    @property
    def files(self) -> Files | None:
        """How bytes are sent unread, if they can be."""

    def upload(self, key: str, expected: int | None = None) -> Upload:
        """Durable when the block ends; when it raises or is cancelled, nothing is left unless it `may_remain`.

        `expected` is the most bytes that may come, if that is known. Raises `Refused` (out of resources)
        when the object cannot be written, `Unavailable` when the storage does not answer.
        """

    async def admit(self) -> None:
        """Raise `NoRoom` when nothing more would be taken; a bucket has room."""

    async def read(self, key: str, offset: int, length: int) -> memoryview:
        """Exactly these bytes in one buffer, so the caller bounds `length`; `NotFound`, else `Unavailable`."""

    async def size(self, key: str) -> int:
        """The object's length; `NotFound` when there is none."""

    async def delete(self, key: str) -> None:
        """Remove the object; one that is already gone is no error."""

    def list(self, prefix: str) -> AsyncIterator[Entry]:
        """Every object whose key starts so; what comes or goes meanwhile may be missing."""

    async def sweep(self, age_s: float) -> int:
        """Remove what uploads that died left unseen, nothing written to within `age_s`; how many."""

    async def check(self) -> str:
        """What is wrong although it can be read, if anything is; raises `Unavailable` when it does not answer."""


async def put(storage: Storage, key: str, data: bytes | memoryview) -> Stored:
    """Store what is already in memory; `dataset_sha256` is the hash of all of it."""
    async with storage.upload(key, len(data)) as upload:
        await upload.write(data)
    return upload.stored
