"""The same object as Explicit VR Little Endian, not deflated, so that its bytes can be served as they lie (PS3.5 A.5).

The normalised object of a deflated or big endian one is a DICOM file: an empty preamble, the prefix, the file meta
that came with group length and transfer syntax written anew, and the data set inflated or byte-swapped, element by
element, otherwise unchanged (group lengths, order and undefined lengths stay). Extents of a `Scan` that is
`normalised` are offsets in it, and the ordinary scanner says the same of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from app.dicom import transfer_syntax
from app.dicom.byte_order import Swapper
from app.dicom.prologue import Prologue
from app.dicom.scan import Limits
from app.errors import FailureReason, Refused

_PIECE: Final = 64 << 10
_INPUT: Final = 4 << 10
_FREE: Final = 16 << 20  # bytes that may come out of a few: blank images deflate by a thousand


class Converter(Protocol):
    """Makes a data set's normalised bytes from its stored ones."""

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """The next bytes in, pieces of at most 64 KiB out."""
        ...

    def close(self) -> bytes:
        """The data set is over: what is left of it."""
        ...


class Inflater:
    """A deflated data set, inflated within bounds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        self._taken = self._made = 0

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """The next bytes; what follows the stream's end is padding."""
        view = memoryview(chunk)
        for start in range(0, len(view), _INPUT):
            left: bytes | memoryview = view[start : start + _INPUT]
            self._taken += len(left)
            while not self._stream.eof:
                made = self._inflate(left)
                self._bound(len(made))
                if made:
                    yield made
                left = self._stream.unconsumed_tail
                if not left and len(made) < _PIECE:
                    break

    def _inflate(self, data: bytes | memoryview) -> bytes:
        try:
            return self._stream.decompress(data, _PIECE)
        except zlib.error as error:
            raise Refused("The deflated data set is damaged.") from error

    def _bound(self, length: int) -> None:
        self._made += length
        most = min(self._limits.inflated_bytes, _FREE + self._taken * self._limits.inflation_ratio)
        if self._made > most:
            raise Refused("The deflated data set inflates to too much.", FailureReason.OUT_OF_RESOURCES)

    def close(self) -> bytes:
        """The stream must have ended."""
        if not self._stream.eof:
            raise Refused("The deflated data set is truncated.")
        return b""


def converter(syntax: str, limits: Limits) -> Converter:
    """What makes the data set of this syntax fit to be served."""
    return Inflater(limits) if transfer_syntax.is_deflated(syntax) else Swapper(limits)


class Normaliser:
    """Makes the normalised object of a stored one; feed it the stored bytes and write what it gives, in order.

    Raises `Refused` where the scanner does. Memory does not grow with the object; a piece has at most 64 KiB, and
    512 KiB when it is the file meta.
    """

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._limits = limits
        self._prologue = Prologue(limits)
        self._converter: Converter | None = None

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """The next stored bytes; all of the iterator must be taken."""
        view = memoryview(chunk)
        if self._converter is None:
            begun = self._prologue.take(view)
            if begun is None:
                return
            early, at = begun
            yield self._begin()
            yield from self._convert(early)
            view = view[at:]
        yield from self._convert(view)

    def _begin(self) -> bytes:
        syntax = self._prologue.syntax
        if transfer_syntax.supported(syntax):
            raise Refused(f"Transfer syntax {syntax} needs no normalised object.")
        self._converter = converter(syntax, self._limits)
        return self._prologue.written(transfer_syntax.normalised(syntax))

    def _convert(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        assert self._converter is not None
        return self._converter.feed(chunk)

    def close(self) -> bytes:
        """The stored object is over: the normalised one's last bytes."""
        if self._converter is None:
            raise self._prologue.refusal()
        return self._converter.close()
