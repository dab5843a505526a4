"""A DICOM file described in one pass, in whatever chunks it comes (PS3.10 7, PS3.18 F).

Told every byte once, the scanner keeps none: what it says of the instance is enough to serve it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from app.dicom import frame_index, normalise, sop_class, tags, transfer_syntax, uids
from app.dicom.dataset import IDENTITY, Walker
from app.dicom.normalise import Converter
from app.dicom.prologue import Prologue
from app.dicom.reader import Reader
from app.dicom.scan import Bulk, Head, Limits, Pixels, Scan
from app.dicom.unpadded import Stream
from app.errors import FailureReason, Refused

__all__ = ["SCANNER_VERSION", "Bulk", "Head", "Limits", "Pixels", "Scan", "Scanner"]

SCANNER_VERSION: Final = 3

_QUICKLY_CLOSED: Final = 16 << 10  # fragments
_GROUP_OF_META: Final = b"\x02\x00"
_TRUNCATED: Final = "The file is truncated: it ends inside an element or a sequence."


class Scanner:
    """Feed it chunks of any size, then close it; `Refused` may come from both.

    On an event loop, `for _ in scanner.steps(chunk): await asyncio.sleep(0)` keeps each turn within
    milliseconds for any bytes; `feed` takes all the steps at once.
    """

    def __init__(self, limits: Limits = Limits(), wanted: frozenset[str] = frozenset()) -> None:  # noqa: B008 - frozen
        self.head: Head | None = None
        self.transfer_syntax_uid: str | None = None
        self.dataset_offset: int | None = None
        self._limits = limits
        self._prologue = Prologue(limits)
        self._walker = Walker(limits, wanted)
        self._reader: Reader | None = None
        self._converter: Converter | None = None
        self._first = b""  # of a converted data set
        self._stream: Stream | None = None
        self._size = 0

    @property
    def passing(self) -> bool:
        """Only bulk data go by."""
        return self._reader is not None and self._reader.is_passing

    @property
    def is_large(self) -> bool:
        """Closing may take longer than a turn of an event loop: there are very many fragments."""
        found = self._walker.encapsulated
        return found is not None and len(found.extents) > 2 * _QUICKLY_CLOSED

    def feed(self, chunk: bytes | memoryview) -> None:
        """The file's next bytes; they are not kept."""
        for _ in self.steps(chunk):
            pass

    def steps(self, chunk: bytes | memoryview) -> Iterator[None]:
        """The file's next bytes, taken in steps of a few milliseconds; the iterator must be used up."""
        self._size += len(chunk)
        if self._reader is None:
            begun = self._prologue.take(memoryview(chunk).cast("B"))
            if begun is None:
                return
            self._begin()
            early, at = begun
            yield from self._read(early)
            chunk = chunk[at:] if at < len(chunk) else b""
        yield from self._read(chunk)

    def _begin(self) -> None:
        """The data set begins: read as it lies, or converted first."""
        prologue, position = self._prologue, self._prologue.offset
        assert position is not None
        syntax = prologue.syntax
        if not transfer_syntax.supported(syntax):
            if not self._limits.normalise:
                raise Refused(
                    f"Transfer syntax {syntax} is not supported.", FailureReason.TRANSFER_SYNTAX_NOT_SUPPORTED
                )
            self._converter = normalise.converter(syntax, self._limits)
            position = len(prologue.written(transfer_syntax.normalised(syntax)))
        if transfer_syntax.is_video(syntax):
            self._stream = self._walker.sink = Stream()
        self.transfer_syntax_uid, self.dataset_offset = syntax, prologue.offset
        self._reader = Reader(self._walker, position, self._limits)

    def _read(self, chunk: bytes | memoryview) -> Iterator[None]:
        if self._converter is None:
            yield from self._walk(chunk)
            return
        for piece in self._converter.feed(chunk):
            self._judge(piece)
            yield from self._walk(piece)
            yield

    def _judge(self, piece: bytes) -> None:
        """In little endian, group 0002 at the front of a data set could not be told from the file meta before it."""
        if len(self._first) < len(_GROUP_OF_META):
            self._first += piece[: len(_GROUP_OF_META) - len(self._first)]
            if self._first == _GROUP_OF_META:
                raise Refused("The data set begins with an element of the File Meta Information.")

    def _walk(self, chunk: bytes | memoryview) -> Iterator[None]:
        assert self._reader is not None
        for _ in self._reader.steps(chunk):
            self._look()
            yield
        self._look()

    def _look(self) -> None:
        """Take note of what the walker has met."""
        walker = self._walker
        if self.head is None:
            self.head = self._identity(walker.known)
        if walker.encapsulated is not None and self._prologue.is_bare:
            raise Refused("Encapsulated Pixel Data need a transfer syntax, and no file meta names one.")

    def _identity(self, known: dict[str, bytes]) -> Head | None:
        if not all(tag in known for tag in IDENTITY):
            return None
        return Head(
            sop_class_uid=uids.normalised(known[tags.SOP_CLASS_UID]),
            sop_instance_uid=uids.normalised(known[tags.SOP_INSTANCE_UID]),
            study_instance_uid=uids.normalised(known[tags.STUDY_INSTANCE_UID]),
            series_instance_uid=uids.normalised(known[tags.SERIES_INSTANCE_UID]),
            transfer_syntax_uid=self._prologue.syntax,
        )

    def close(self) -> Scan:
        """The file is over: what it is, or why it cannot be kept. In a thread, when it `is_large`."""
        walker = self._walker
        if self._reader is None:
            raise self._prologue.refusal()
        if self._converter is not None:
            for _ in self._walk(self._converter.close()):
                pass
        if not self._reader.finish():
            raise Refused(_TRUNCATED)
        if self.head is None:
            self._mind_class()
            missing = next(name for tag, name in IDENTITY.items() if tag not in walker.known)
            raise Refused(f"The {missing} is missing.")
        assert self.dataset_offset is not None
        return Scan(
            head=self.head,
            json=walker.json(),
            fields=walker.fields,
            bulk=tuple(walker.bulk.values()),
            pixels=self._pixels(walker),
            dataset_offset=self.dataset_offset,
            size=self._size,
            normalised=self._converter is not None,
        )

    def _mind_class(self) -> None:
        """A DICOMDIR has file meta like any other file, and nothing that an instance needs."""
        if self._prologue.sop_class_uid == sop_class.MEDIA_STORAGE_DIRECTORY:
            raise Refused(
                "A DICOMDIR tells which files there are and is no instance.",
                FailureReason.SOP_CLASS_NOT_SUPPORTED,
            )

    def _pixels(self, walker: Walker) -> Pixels | None:
        if walker.encapsulated is not None:
            return frame_index.encapsulated(
                walker.encapsulated, walker.known, self._prologue.syntax, self._stream
            )
        if walker.native is not None:
            return frame_index.native(walker.native, walker.known)
        return None
