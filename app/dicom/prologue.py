"""What stands before the data set: preamble, prefix and file meta information (PS3.10 7.1).

A file that lacks them is told apart by its first element, which must be of group 0008 in one of three encodings.
"""

from __future__ import annotations

from struct import Struct, pack
from typing import Final

from app.dicom import tags, transfer_syntax, uids
from app.dicom.elements import LONG, VRS, layout_of
from app.dicom.scan import Limits
from app.errors import FailureReason, Refused

PREAMBLE: Final = 132
_HEADER: Final = 8
_WINDOW: Final = 4 << 10
_TRANSFER_SYNTAX: Final = b"\x02\x00\x10\x00"
_SOP_CLASS: Final = b"\x02\x00\x02\x00"
_GROUP_LENGTH: Final = b"\x02\x00\x00\x00"
_FIRST_OF_META: Final = b"\x02\x00\x00\x00UL\x04\x00"
_VERSION: Final = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
_LONGEST_FIRST: Final = 1 << 10  # of a first element in Implicit VR: a group length, a character set, a UID
_header: Final = Struct("<4s2sH").unpack_from
_long_length: Final = Struct("<I").unpack_from


class Prologue:
    """Takes the file's first bytes, until it knows where the data set begins and how it is encoded."""

    def __init__(self, limits: Limits) -> None:
        self.syntax = ""
        self.offset: int | None = None
        self.sop_class_uid = ""
        self.is_bare = False  # no file meta named the syntax: the first element did
        self._most = PREAMBLE + limits.meta_bytes
        self._held = bytearray()
        self._at = 0
        self._has_begun = False
        self._elements: list[bytes] = []

    def take(self, view: memoryview) -> tuple[bytes, int] | None:
        """The next bytes; at the end the data set's first ones of earlier chunks, and where it goes on in `view`."""
        before = len(self._held)
        for start in range(0, len(view), _WINDOW):
            self._held += view[start : start + _WINDOW]
            if self._is_over():
                assert self.offset is not None
                early = bytes(self._held[self.offset : before])
                self._held = bytearray()
                return early, max(self.offset - before, 0)
        return None

    def refusal(self) -> Refused:
        """Why a file that ends here is none."""
        if self._has_begun:
            return Refused("The file meta information is truncated.")
        return Refused("This is no DICOM file: it is shorter than a preamble.")

    def _is_over(self) -> bool:
        b = self._held
        if not self._has_begun:
            if len(b) < PREAMBLE:
                return False
            self._has_begun = True
            if b[128:132] == b"DICM":
                self._at = PREAMBLE
            elif not b.startswith(_FIRST_OF_META):  # some files lack the preamble, but have the file meta
                return self._begin_without_meta(0)
        while len(b) - self._at >= _HEADER:
            if b[self._at : self._at + 2] != b"\x02\x00":
                return self._begin()
            if not self._element():
                return False
        return False

    def _element(self) -> bool:
        """Read one element of group 0002; not yet, if it is not there as a whole."""
        b, p = self._held, self._at
        key, vr, length = _header(b, p)
        v, has_vr = p + 8, vr.isupper()
        if not has_vr:  # Implicit VR is met here, too
            length = _long_length(b, p + 4)[0]
        elif layout_of(vr.decode("latin-1")) == LONG:
            if len(b) - p < 12:
                return False
            length, v = _long_length(b, p + 8)[0], p + 12
        if v + length > self._most:
            raise Refused("The file meta information is too long.", FailureReason.OUT_OF_RESOURCES)
        if v + length > len(b):
            return False
        if key == _TRANSFER_SYNTAX:
            self.syntax = uids.normalised(bytes(b[v : v + length]))
        elif has_vr and key != _GROUP_LENGTH:
            if key == _SOP_CLASS:
                self.sop_class_uid = uids.normalised(bytes(b[v : v + length]))
            self._elements.append(bytes(b[p : v + length]))
        self._at = v + length
        return True

    def _begin(self) -> bool:
        """The group after 0002 begins the data set, whatever (0002,0000) said."""
        if self._at == PREAMBLE:
            return self._begin_without_meta(PREAMBLE)
        if not uids.is_acceptable(self.syntax):
            raise Refused("The file meta information names no valid Transfer Syntax UID.")
        self.offset = self._at
        return True

    def _begin_without_meta(self, at: int) -> bool:
        told = told_apart(bytes(self._held[at : at + 12]))
        if told is None:
            if at:
                raise Refused("The file meta information names no valid Transfer Syntax UID.")
            raise Refused("This is no DICOM file: the prefix DICM is missing after the preamble.")
        self.syntax, self.offset, self.is_bare = told, at, True
        return True

    def written(self, syntax: str) -> bytes:
        """A prologue for the same data set in another syntax: an empty preamble, and the file meta that came."""
        uid = syntax.encode() + bytes(len(syntax) % 2)
        named = _TRANSFER_SYNTAX + b"UI" + pack("<H", len(uid)) + uid
        elements = sorted([*(self._elements or [_VERSION]), named], key=_order)
        meta = b"".join(elements)
        return bytes(128) + b"DICM" + _FIRST_OF_META + pack("<I", len(meta)) + meta


def _order(element: bytes) -> bytes:
    return element[3:1:-1]


def is_begun_by(b: bytes) -> bool:
    """Whether a file with these first bytes claims to be DICOM, well-formed or not."""
    if len(b) < PREAMBLE:
        return False
    return b[128:132] == b"DICM" or b.startswith(_FIRST_OF_META) or told_apart(b[:12]) is not None


def told_apart(b: bytes) -> str | None:
    """The syntax of a data set that begins so, or None when it is no data set that we could keep."""
    vr = b[4:6].decode("latin-1")
    if b.startswith(b"\x08\x00") and vr in VRS:
        return transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN
    if b.startswith(b"\x00\x08") and vr in VRS:
        return transfer_syntax.EXPLICIT_VR_BIG_ENDIAN
    tag = tags.hex_of(b[:4])
    known = tag.endswith("0000") or tags.vr_of(tag) is not None
    if tag.startswith("0008") and known and _long_length(b, 4)[0] <= _LONGEST_FIRST:
        return transfer_syntax.IMPLICIT_VR_LITTLE_ENDIAN
    return None
