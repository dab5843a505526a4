"""A DICOM file described in one pass, in whatever chunks it comes (PS3.10 7, PS3.18 F).

Told every byte once, the scanner keeps none: what it says of the instance is enough to serve it.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import orjson

from app.dicom import frame_index, tags, transfer_syntax, uids
from app.dicom.dataset import HEADER, IDENTITY, Walker
from app.dicom.elements import LONG, layout_of
from app.dicom.scan import Bulk, Head, Limits, Pixels, Scan
from app.dicom.unpadded import Stream
from app.errors import FailureReason, Refused

__all__ = ["SCANNER_VERSION", "Bulk", "Head", "Limits", "Pixels", "Scan", "Scanner"]

SCANNER_VERSION: Final = 1

_PREAMBLE: Final = 132
_WINDOW: Final = 64 << 10
_SORTED_UP_TO: Final = 8 << 20  # of JSON; a longer data set out of order is left as it came
_TRANSFER_SYNTAX_KEY: Final = b"\x02\x00\x10\x00"
_FIRST_OF_META: Final = b"\x02\x00\x00\x00UL\x04\x00"
_meta_header: Final = Struct("<4s2sH").unpack_from
_long_length: Final = Struct("<I").unpack_from
_TRUNCATED: Final = "The file is truncated: it ends inside an element or a sequence."


class Scanner:
    """Feed it chunks of any size, then close it; `Refused` may come from both."""

    def __init__(self, limits: Limits = Limits(), wanted: frozenset[str] = frozenset()) -> None:  # noqa: B008
        self.head: Head | None = None
        self.transfer_syntax_uid: str | None = None
        self.dataset_offset: int | None = None
        self._limits, self._wanted = limits, wanted
        self._run = self._preamble
        self._need = _PREAMBLE
        self._position = 0  # of the first byte that is not yet dealt with
        self._skip = 0
        self._skipped = 0
        self._pending = bytearray()
        self._walker: Walker | None = None
        self._stream: Stream | None = None
        self._syntax = ""

    @property
    def passing(self) -> bool:
        """Only bulk data go by: chunks need not be small."""
        return self._skip > 0

    def feed(self, chunk: bytes | memoryview) -> None:
        """The file's next bytes; they are not kept."""
        if isinstance(chunk, bytes) and not self._pending:
            self._take(chunk)
            return
        view = memoryview(chunk).cast("B")
        at = 0
        while at < len(view):
            if self._skip:
                at += self._pass(view[at : at + self._skip])
            elif self._pending:
                at = self._complete(view, at)
            else:
                at += self._parse(bytes(view[at : at + _WINDOW]), 0)

    def _take(self, b: bytes) -> None:
        """Bytes at hand, in which elements and bulk data take turns."""
        at, view = 0, memoryview(b)
        while at < len(b):
            at = self._parse(b, at) if not self._skip else at + self._pass(view[at : at + self._skip])

    def _pass(self, view: memoryview) -> int:
        length = len(view)
        self._skip -= length
        self._skipped += length
        self._position += length
        if self._walker is not None and self._walker.tap is not None:
            self._walker.tap(view)
        return length

    def _parse(self, b: bytes, at: int) -> int:
        """Read from b[at:]; says up to where it was taken, the beginning of an element kept for later."""
        stopped = self._run(b, at, self._position - at)
        self._position += stopped - at
        if self._position - self._skipped > self._limits.header_bytes:
            raise _too_much(f"The header is longer than {self._limits.header_bytes} bytes.")
        if self._skip:
            return stopped
        self._pending += memoryview(b)[stopped:]
        return len(b)

    def _complete(self, view: memoryview, at: int) -> int:
        """Gather an element that came in pieces: exactly what it needs, so that nothing is read twice."""
        until = at + self._need - len(self._pending)
        self._pending += view[at:until]
        if len(self._pending) >= self._need:
            gathered = bytes(self._pending)
            self._pending.clear()
            self._take(gathered)
        return min(until, len(view))

    # --- PS3.10 7.1: preamble, prefix, file meta information ----------------------------------------------

    def _preamble(self, b: bytes, p: int, base: int) -> int:
        if len(b) - p < _PREAMBLE:
            return p
        self._run = self._meta
        if b[p + 128 : p + 132] == b"DICM":
            return self._meta(b, p + _PREAMBLE, base)
        if b.startswith(_FIRST_OF_META, p):  # some files lack the preamble, but have the file meta
            return self._meta(b, p, base)
        raise Refused("This is no DICOM file: the prefix DICM is missing after the preamble.")

    def _meta(self, b: bytes, p: int, base: int) -> int:
        n = len(b)
        while n - p >= HEADER:
            key, vr, length = _meta_header(b, p)
            v = p + 8
            if key[:2] != b"\x02\x00":
                return self._begin_dataset(b, p, base)
            if not vr.isupper():  # Implicit VR is met here, too
                length = _long_length(b, p + 4)[0]
            elif layout_of(vr.decode("latin-1")) == LONG:
                if n - p < 12:
                    self._need = 12
                    return p
                length, v = _long_length(b, p + 8)[0], p + 12
            if base + v + length > _PREAMBLE + self._limits.meta_bytes:
                raise _too_much("The file meta information is too long.")
            if v + length > n:
                self._need = v + length - p
                return p
            if key == _TRANSFER_SYNTAX_KEY:
                self._syntax = uids.normalised(b[v : v + length])
            p = v + length
        self._need = HEADER
        return p

    def _begin_dataset(self, b: bytes, p: int, base: int) -> int:
        """The group after 0002 begins the data set, whatever (0002,0000) said."""
        syntax = self._syntax
        if not uids.is_acceptable(syntax):
            raise Refused("The file meta information names no valid Transfer Syntax UID.")
        if not transfer_syntax.supported(syntax):
            raise Refused(
                f"Transfer syntax {syntax} is not supported.", FailureReason.TRANSFER_SYNTAX_NOT_SUPPORTED
            )
        self.transfer_syntax_uid, self.dataset_offset = syntax, base + p
        self._walker = Walker(self._limits, self._wanted)
        self._run = self._dataset
        return self._dataset(b, p, base)

    # --- the data set -------------------------------------------------------------------------------------

    def _dataset(self, b: bytes, p: int, base: int) -> int:
        walker = self._walker
        assert walker is not None
        stopped = walker.run(b, p, base)
        self._need, self._skip, walker.skip = walker.need, walker.skip, 0
        if self.head is None:
            self.head = self._identity(walker.known)
        if (
            walker.encapsulated is not None
            and self._stream is None
            and transfer_syntax.is_video(self._syntax)
        ):
            self._stream = walker.encapsulated.sink = Stream()
        return stopped

    def _identity(self, known: dict[str, bytes]) -> Head | None:
        if not all(tag in known for tag in IDENTITY):
            return None
        return Head(
            sop_class_uid=uids.normalised(known[tags.SOP_CLASS_UID]),
            sop_instance_uid=uids.normalised(known[tags.SOP_INSTANCE_UID]),
            study_instance_uid=uids.normalised(known[tags.STUDY_INSTANCE_UID]),
            series_instance_uid=uids.normalised(known[tags.SERIES_INSTANCE_UID]),
            transfer_syntax_uid=self._syntax,
        )

    def close(self) -> Scan:
        """The file is over: what it is, or why it cannot be kept."""
        walker = self._walker
        if walker is None:
            raise Refused(
                "The file meta information is truncated."
                if self._position
                else "This is no DICOM file: it is shorter than a preamble."
            )
        # Fewer bytes than an element's header, all of them NUL: a writer's padding.
        padding = len(self._pending) < HEADER and not any(self._pending)
        if self._skip or not walker.is_between_elements or not padding:
            raise Refused(_TRUNCATED)
        if self.head is None:
            missing = next(name for tag, name in IDENTITY.items() if tag not in walker.known)
            raise Refused(f"The {missing} is missing.")
        assert self.dataset_offset is not None
        return Scan(
            head=self.head,
            json=_ascending(walker.json()) if walker.is_disordered else walker.json(),
            fields=walker.fields,
            bulk=tuple(walker.bulk.values()),
            pixels=self._pixels(walker),
            dataset_offset=self.dataset_offset,
            size=self._position + len(self._pending),
        )

    def _pixels(self, walker: Walker) -> Pixels | None:
        if walker.encapsulated is not None:
            return frame_index.encapsulated(walker.encapsulated, walker.known, self._syntax, self._stream)
        if walker.native is not None:
            return frame_index.native(walker.native, walker.known)
        return None


def _ascending(json: bytes) -> bytes:
    """In the order of tags; of an element that is there twice the last one counts."""
    if len(json) > _SORTED_UP_TO:
        return json
    return orjson.dumps(orjson.loads(json), option=orjson.OPT_SORT_KEYS)


def _too_much(sentence: str) -> Refused:
    return Refused(sentence, FailureReason.OUT_OF_RESOURCES)
