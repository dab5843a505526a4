"""A range on its way to the socket: what is in memory at once and without a task, the rest at the client's pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from app.errors import Unavailable
from app.extent import Extents
from app.storage.at_hand import AtHand
from app.storage.protocol import SHORTER, Piece
from app.web.sendfile import TURN, Wire

AT_ONCE: Final = 4 << 20  # bytes, then it is somebody else's turn

Read = Callable[[Extents], AsyncGenerator[Piece, None]]


class Pour:
    """The bytes within `bounds` of `extents`, behind their head; that is sent when the first of them are there."""

    __slots__ = ("_at", "_at_hand", "_extents", "_head", "_start", "_stop", "_wire")

    def __init__(
        self, wire: Wire, at_hand: AtHand, extents: Extents, bounds: tuple[int, int], head: bytes
    ) -> None:
        self._wire, self._at_hand, self._extents, self._head = wire, at_hand, extents, head
        self._start, self._stop = bounds
        self._at = self._start

    @property
    def size(self) -> int:
        """How many bytes were sent."""
        return self._at - self._start

    @property
    def has_begun(self) -> bool:
        """The head was sent."""
        return not self._head

    @property
    def is_over(self) -> bool:
        """All was sent."""
        return self._at == self._stop

    def turn(self, most: int = AT_ONCE) -> bool:
        """Give the kernel what it takes of what is in memory; False where the next bytes have to be waited for."""
        ends = min(self._stop, self._at + most)
        while self._at < ends and not self._wire.is_held:
            for piece in self._at_hand.pieces(self._extents, self._at, ends):
                if piece is None:
                    return False
                length = len(piece)
                given = self._give(piece, length)
                if not given:
                    return False
                if given < length:
                    break
        return True

    async def rest(self, read: Read, stall_s: float) -> None:
        """Send what is left; raises what reading raises, and ConnectionError when the client is gone.

        TimeoutError, when it takes nothing for so long.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(stall_s) as stall:
            while self.turn(TURN):  # it takes no more than that: looking for more would be in vain
                if self.is_over:
                    return
                await self._wire.until_free()
                stall.reschedule(loop.time() + stall_s)
            async with aclosing(read(self._extents.slice(self._at, self._stop))) as pieces:
                async for piece in pieces:
                    left = piece
                    while left:
                        await self._wire.until_free()
                        stall.reschedule(loop.time() + stall_s)
                        given = self._give(left, len(left))
                        if not given:
                            raise Unavailable(SHORTER)
                        left = left[given:]

    def _give(self, piece: Piece, length: int) -> int:
        """How much of a piece of this length is on its way."""
        head, self._head = self._head, b""
        given = self._wire.give(piece, more=self._at + length < self._stop, head=head)
        self._at += given
        return given
