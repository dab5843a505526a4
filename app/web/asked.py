"""A request for a range, by its bytes: what makes it the same as another, but for the numbers of the range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.extent import Extents

if TYPE_CHECKING:
    from starlette.types import Scope

EXTENSION: Final = "reelweb.asked"
_LONGEST: Final = 8 << 10  # of bytes that are kept to know a request again
_DIGITS: Final = 18
_LINE: Final = b"\r\n"
_NAMES: Final = (b"\r\nR", b"\r\nr")
_SIGN: Final = b"ange: bytes="  # as all clients write it; a search for it costs nothing
_END: Final = b"\r\n\r\n"

Question = tuple[object, bytes, bytes]


@dataclass(slots=True)
class Asked:
    """Bytes `first` to `last` (to the end without one) of what `question` asks for, whatever that turns out to be."""

    question: Question
    first: int
    last: int | None
    since: int
    """How many changes the archive had seen when it was asked."""
    representation: Extents | None = None

    def bounds(self, length: int) -> tuple[int, int] | None:
        """From where up to where of so many bytes; None where that is no range that a 206 could state."""
        stop = length if self.last is None else min(self.last + 1, length)
        return (self.first, stop) if self.first < stop else None


def read(peer: object, data: bytes, since: int) -> Asked | None:
    """The request, if all of `data` is one, and one for a range; `peer` is what the connection adds to its bytes."""
    if len(data) > _LONGEST or not data.startswith(b"GET ") or data.find(_END) != len(data) - len(_END):
        return None
    before, _, field = data.partition(_SIGN)  # an expression would take longer than all else here
    numbers, _, after = field.partition(_LINE)
    first, dash, last = numbers.partition(b"-")
    if not before.endswith(_NAMES) or not dash or not _is_number(first) or (last and not _is_number(last)):
        return None
    return Asked((peer, before, after), int(first), int(last) if last else None, since)


def _is_number(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= _DIGITS


def represents(scope: Scope, extents: Extents) -> None:
    """Tell the server what this request is for a range of."""
    asked = scope.get("extensions", {}).get(EXTENSION)
    if asked:
        asked.representation = extents
