"""Lookup tables: their descriptor, plain and segmented data (PS3.3 C.11.1.1, C.7.6.3.1.5, C.7.9.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.errors import NotAcceptable
from app.pixels.elements import Elements

MAX_ENTRIES = 65536


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table; `entries` are 16-bit little endian values of `bits` significant bits."""

    first: int
    bits: int
    entries: bytes

    @property
    def values(self) -> npt.NDArray[np.uint16]:
        """The entries as an array."""
        return np.frombuffer(self.entries, "<u2")

    def look_up(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint16]:
        """Values below the first mapped one take the first entry, values above the last take the last."""
        entries = self.values
        index = np.clip(np.asarray(values, np.float64) - self.first + 0.5, 0, len(entries) - 1)
        return entries[index.astype(np.intp)]

    def bytes8(self) -> npt.NDArray[np.uint8]:
        """The entries for a display of 8 bits."""
        values = self.values
        # Some writers put 8-bit values under a descriptor of 16 bits; shifting would leave black.
        if self.bits <= 8 or (self.bits == 16 and values.max(initial=0) <= 0xFF):
            return values.astype(np.uint8)
        return (values >> (self.bits - 8)).astype(np.uint8)


def read(
    elements: Elements, descriptor: str, data: str, segmented: str = "", *, signed: bool = False
) -> Table | None:
    """The table under these tags; None when there is none or its bulk value is yet to be fetched."""
    numbers = elements.numbers(descriptor)
    if len(numbers) < 3:
        return None
    entries = int(numbers[0]) & 0xFFFF or MAX_ENTRIES  # a descriptor of VR SS makes large counts negative
    first = int(numbers[1])
    if signed and elements.vr(descriptor) != "SS" and first >= 0x8000:
        first -= 0x10000  # C.7.6.3.1.5: the second value is signed when the pixels are
    if segmented and data not in elements:
        words = _words(elements, segmented, 0)
        values = None if words is None else expand_segments(words, entries)
    else:
        values = _words(elements, data, entries)
    if values is None:
        return None
    if len(values) < entries:
        raise NotAcceptable(
            f"A lookup table holds {len(values)} entries where its descriptor tells {entries}."
        )
    bits = int(numbers[2]) if 1 <= numbers[2] <= 16 else 16
    highest = int(values[:entries].max())
    return Table(first, max(bits, highest.bit_length()), values[:entries].tobytes())


def _words(elements: Elements, tag: str, entries: int) -> npt.NDArray[np.uint16] | None:
    """LUT Data as words: US and SS stand under Value, OW is binary; 8-bit entries may be packed two a word."""
    numbers = elements.values(tag)
    if numbers:
        whole = [value if isinstance(value, int) else 0 for value in numbers[: 4 * MAX_ENTRIES]]
        return (np.array(whole, np.int64) & 0xFFFF).astype("<u2")
    data = elements.binary(tag)
    if data is None:
        return None
    if entries and len(data) in {entries, entries + entries % 2}:
        return np.frombuffer(data, np.uint8).astype("<u2")
    return np.frombuffer(data, "<u2", len(data) // 2)


def expand_segments(words: npt.NDArray[np.uint16], entries: int) -> npt.NDArray[np.uint16]:
    """A segmented palette as a plain one; an indirect segment repeats earlier ones (C.7.9.2.3)."""
    made = _Segments(words.astype(np.int64), entries)
    made.run(0, len(words))
    if made.total < entries:
        raise NotAcceptable(
            f"A segmented palette makes {made.total} entries where its descriptor tells {entries}."
        )
    return np.concatenate(made.parts)[:entries].astype("<u2")


class _Segments:
    def __init__(self, words: npt.NDArray[np.int64], entries: int) -> None:
        self._words = words
        self._entries = entries
        self.parts: list[npt.NDArray[np.int64]] = []
        self.total = 0

    def run(self, at: int, segments: int, *, nested: bool = False) -> None:
        """Expand so many segments from a position on, or until enough entries are made."""
        words = self._words
        while segments > 0 and self.total < self._entries and at + 2 <= len(words):
            code, length = int(words[at]), int(words[at + 1])
            if code == 0:
                self._add(words[at + 2 : at + 2 + length])
                at += 2 + length
            elif code == 1 and self.total and at + 3 <= len(words):
                self._add(self._line(int(words[at + 2]), length))
                at += 3
            elif code == 2 and not nested and at + 4 <= len(words):
                offset = int(words[at + 2]) | int(words[at + 3]) << 16  # in bytes
                self.run(offset // 2, length, nested=True)
                at += 4
            else:
                raise NotAcceptable("A segmented palette holds a segment that PS3.3 C.7.9.2 does not know.")
            segments -= 1

    def _add(self, part: npt.NDArray[np.int64]) -> None:
        if len(part):
            self.parts.append(part)
            self.total += len(part)

    def _line(self, end: int, length: int) -> npt.NDArray[np.int64]:
        """From the last entry, itself not repeated, to the end in equal steps (C.7.9.2.2)."""
        start = int(self.parts[-1][-1])
        steps = np.arange(1, length + 1) / max(length, 1)
        return np.rint(start + (end - start) * steps).astype(np.int64)
