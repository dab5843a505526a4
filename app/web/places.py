"""How many requests may store at once: others are told to come back (RFC 9110 15.6.4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.errors import Unavailable

_BUSY_S: Final = 5


class Uploads:
    """How many requests are storing at once in this process."""

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places, for as long as the block lasts; Unavailable when all are taken."""
        if self._count >= self._most:
            raise Unavailable("This server takes no more uploads at once; try again in a moment.", _BUSY_S)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
