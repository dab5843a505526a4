"""Elements written byte by byte, right or wrong, which no library would write."""

from __future__ import annotations

import struct

from app.dicom import elements, tags

UNDEFINED = 0xFFFFFFFF


def explicit(tag: str, vr: str, value: bytes, length: int | None = None) -> bytes:
    """An element in Explicit VR Little Endian; `length` may lie."""
    size = len(value) if length is None else length
    if elements.layout_of(vr) == elements.LONG:
        return tags.key_of(tag) + vr.encode() + struct.pack("<HI", 0, size) + value
    return tags.key_of(tag) + vr.encode() + struct.pack("<H", size) + value


def implicit(tag: str, value: bytes, length: int | None = None) -> bytes:
    """An element in Implicit VR Little Endian, an item or a delimiter."""
    return tags.key_of(tag) + struct.pack("<I", len(value) if length is None else length) + value


def big(tag: str, vr: str, value: bytes, length: int | None = None) -> bytes:
    """An element in Explicit VR Big Endian, its value as it is; without a VR an item or a delimiter."""
    size = len(value) if length is None else length
    key = struct.pack(">HH", int(tag[:4], 16), int(tag[4:], 16))
    if not vr:
        return key + struct.pack(">I", size) + value
    if elements.layout_of(vr) == elements.LONG:
        return key + vr.encode() + struct.pack(">HI", 0, size) + value
    return key + vr.encode() + struct.pack(">H", size) + value


def item(*inside: bytes) -> bytes:
    """An item of defined length."""
    return implicit("FFFEE000", b"".join(inside))


ITEM_END = implicit("FFFEE00D", b"")
SEQUENCE_END = implicit("FFFEE0DD", b"")
