"""A data set's bytes, in whatever chunks they come, given to the walker in steps that are short for any bytes.

What is hostile costs a walker the most where elements are small, so a step is bounded by their number too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from app.dicom.dataset import Walker
from app.dicom.nesting import HEADER
from app.dicom.scan import Limits
from app.errors import FailureReason, Refused

_WINDOW: Final = 4 << 10  # holds at most 512 elements
_PIECE: Final = 64 << 10
_STEP: Final = 400  # elements, at up to 8 µs each; what follows them is at most one window and one value
_BYTES_OF_WORK: Final = 4  # 16 bytes of a value count as an element: eight odd numbers, at 2 µs each


class Reader:
    """Counts positions, gathers what came in pieces, lets bulk data pass."""

    def __init__(self, walker: Walker, position: int, limits: Limits) -> None:
        self._walker, self._limits = walker, limits
        self._position = position  # of the first byte that is not yet dealt with
        self._start = position
        self._need = HEADER
        self._skip = 0
        self._skipped = 0
        self._pending = bytearray()
        self._work = 0

    @property
    def is_passing(self) -> bool:
        """Only bulk data go by."""
        return self._skip > 0

    def finish(self) -> bool:
        """Nothing more comes; true when the data set may end here, but for a few NULs of padding."""
        padding = len(self._pending) < HEADER and not any(self._pending)
        if self._skip or not padding:
            return False
        while not self._walker.is_between_elements:
            self._walker.run(b"", 0, self._position, 0)  # sequences whose length is used up
            if self._walker.need:
                return self._walker.is_between_elements
        return True

    def steps(self, chunk: bytes | memoryview) -> Iterator[None]:
        """Take the next bytes; stops now and then, so that others may run."""
        view = memoryview(chunk)
        at = 0
        while at < len(view):
            if self._skip:
                at += self._pass(view[at : at + self._skip])
            elif self._pending:
                at = yield from self._complete(view, at)
            elif isinstance(chunk, bytes):
                at = yield from self._take(chunk, at)
            else:
                piece = bytes(view[at : at + _PIECE])
                at += yield from self._take(piece, 0)

    def _pass(self, view: memoryview) -> int:
        length = len(view)
        self._skip -= length
        self._skipped += length
        self._position += length
        if self._walker.tap is not None:
            self._walker.tap(view)
        return length

    def _take(self, b: bytes, at: int) -> Generator[None, None, int]:
        """Read elements from b[at:], up to the next bulk data; says where it stopped."""
        walker = self._walker
        while True:
            before = walker.elements
            stopped = walker.run(b, at, self._position - at, at + _WINDOW)
            self._position += stopped - at
            self._work += walker.elements - before + (stopped - at >> _BYTES_OF_WORK) + walker.effort
            walker.effort = 0
            at = stopped
            self._bound()
            if self._work >= _STEP:
                self._work = 0
                yield
            if walker.skip:
                self._skip, walker.skip = walker.skip, 0
                return at
            if walker.need:
                self._need = walker.need
                self._pending += memoryview(b)[at:]
                return len(b)

    def _complete(self, view: memoryview, at: int) -> Generator[None, None, int]:
        """Gather an element that came in pieces: exactly what it needs, so that nothing is read twice."""
        until = at + self._need - len(self._pending)
        self._pending += view[at:until]
        if len(self._pending) < self._need:
            return len(view)
        gathered = bytes(self._pending)
        self._pending.clear()
        taken = yield from self._take(gathered, 0)
        assert taken == len(gathered)
        return until

    def _bound(self) -> None:
        limits = self._limits
        if self._position - self._skipped > limits.header_bytes:
            raise _too_much(f"The header is longer than {limits.header_bytes} bytes.")
        if len(self._walker.out) > limits.json_bytes:
            raise _too_much(f"The description of the data set is longer than {limits.json_bytes} bytes.")


def _too_much(sentence: str) -> Refused:
    return Refused(sentence, FailureReason.OUT_OF_RESOURCES)
