"""Bits of a NAL unit, as H.264 and HEVC write their syntax elements (H.264 7.2 and 9.1, H.265 9.2)."""

from __future__ import annotations

from typing import Final

from app.video import NeedsRemux

Buffer = bytes | bytearray | memoryview

DAMAGED: Final = "The video's stream has a header that is cut off or damaged."
_LONGEST: Final = 32  # zeros before the one of an exp-Golomb code; no element is wider


class Bits:
    """Reads from the first bit on; what ends before it is read cannot be followed."""

    __slots__ = ("_left", "_value")

    def __init__(self, unit: Buffer) -> None:
        """The payload of a NAL unit behind its header, or its beginning."""
        payload = bytes(unit).replace(b"\0\0\3", b"\0\0")  # emulation prevention (7.4.1.1)
        self._value = int.from_bytes(payload, "big")
        self._left = 8 * len(payload)

    def u(self, count: int) -> int:
        """An unsigned number of so many bits."""
        if count > self._left:
            raise NeedsRemux(DAMAGED)
        self._left -= count
        found = self._value >> self._left
        self._value ^= found << self._left
        return found

    def flag(self) -> bool:
        """One bit."""
        return bool(self.u(1))

    def skip(self, count: int) -> None:
        """Bits that tell nothing here."""
        self.u(count)

    def ue(self) -> int:
        """An unsigned exp-Golomb number: as many bits behind its first one as there are zeros before it."""
        zeros = self._left - self._value.bit_length()
        if zeros > _LONGEST:
            raise NeedsRemux(DAMAGED)
        return self.u(2 * zeros + 1) - 1

    def se(self) -> int:
        """A signed exp-Golomb number."""
        code = self.ue()
        return (code + 1) >> 1 if code & 1 else -(code >> 1)


def within(value: int, most: int) -> int:
    """The value, where it is one that the standard allows."""
    if value > most:
        raise NeedsRemux(DAMAGED)
    return value
