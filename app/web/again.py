"""Range after range of one representation: what was decided for the first request holds for the next (RFC 9110 14).

A request is known again by its bytes, all but the numbers of its range: host, token and accepted types would be
judged as they were. What else the judgement rests on is the archive, and that tells of its changes. So a player's
next range costs a look into a table, and not a walk through the whole house.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Final

from app.extent import Extents
from app.index.changes import Changes
from app.kept import Kept
from app.storage.at_hand import AtHand
from app.storage.protocol import Storage
from app.storage.stream import unread
from app.web import asked, observe
from app.web.asked import Asked, Question
from app.web.extents import Header
from app.web.pour import Pour
from app.web.sendfile import Wire

if TYPE_CHECKING:
    from starlette.types import Scope

LASTS_S: Final = 10.0  # a connection that is cut so that nobody notices tells of no change
MOST: Final = 4096  # requests that are known again
PIECES: Final = 200_000  # of their representations together: a stream of many fragments is not shared
_OF_EACH: Final = frozenset({b"content-length", b"content-range", observe.ID})
_HEAD: Final = (
    b"HTTP/1.1 206 Partial Content\r\n%b%b%b: %b\r\n"
    b"content-length: %d\r\ncontent-range: bytes %d-%d/%d\r\n\r\n"
)
_MORE_THAN_A_HEAD: Final = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade"})


@dataclass(frozen=True, slots=True)
class Known:
    """What answers a question, whatever its range."""

    extents: Extents
    headers: tuple[Header, ...]
    lines: bytes
    """The same, as they are sent."""
    label: observe.Label
    since: int
    ends: float

    def head(self, start: int, stop: int, common: bytes, request_id: str) -> bytes:
        """The whole head of a range; `common` are the lines that the server adds to every answer."""
        of_each = observe.ID, request_id.encode(), stop - start, start, stop - 1, self.extents.length
        return _HEAD % (common, self.lines, *of_each)


def lines(headers: Iterable[Header]) -> bytes:
    """Header fields as they are sent."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])


class Again:
    """The requests that were answered lately; what one of them was answered with holds while nothing changes."""

    def __init__(self, changes: Changes, storage: Storage, stall_s: float) -> None:
        self._changes, self._storage, self._stall_s = changes, storage, stall_s
        self._known = Kept[Question, Known](PIECES, MOST)
        self._at_hand = AtHand(storage)
        self._fields: Sequence[Header] = ()
        self._lines = b""

    def asked(self, peer: object, data: bytes) -> Asked | None:
        """What `data` asks for, if it is a request that can be known again, now or the next time."""
        since = self._changes.count
        return None if since is None else asked.read(peer, data, since)

    def known(self, request: Asked) -> Known | None:
        """What answers it, if that is still true."""
        found = self._known.get(request.question)
        return found if found and found.since == request.since and monotonic() < found.ends else None

    def keep(self, scope: Scope, status: int, headers: Iterable[Header]) -> None:
        """This is how a request was answered."""
        request: Asked | None = scope["extensions"].get(asked.EXTENSION)
        if not request or request.representation is None or status != HTTPStatus.PARTIAL_CONTENT:
            return
        names = [name for name, _ in scope["headers"]]
        # Of two ranges the first one counts, and that need not be the one whose numbers are no part of the question.
        if not _MORE_THAN_A_HEAD.isdisjoint(names) or names.count(b"range") != 1:
            return
        lasting = tuple((name, value) for name, value in headers if name not in _OF_EACH)
        now = monotonic()
        self._known.forget(lambda one: one.ends < now)
        label = observe.Label.of(scope)
        known = Known(request.representation, lasting, lines(lasting), label, request.since, now + LASTS_S)
        self._known.put(request.question, known, 1 + request.representation.held)

    def common(self, fields: Sequence[Header]) -> bytes:
        """As lines, what the server adds to every answer: its date among them, for which it makes a new list."""
        if fields is not self._fields:
            self._fields, self._lines = fields, lines(fields)
        return self._lines

    def pour(self, known: Known, bounds: tuple[int, int], wire: Wire, head: bytes) -> Pour:
        """The answer for these bytes."""
        return Pour(wire, self._at_hand, known.extents, bounds, head)

    async def rest(self, pour: Pour) -> None:
        """Send what is left of it; raises what `Pour.rest` raises."""
        await pour.rest(partial(unread, self._storage), self._stall_s)
