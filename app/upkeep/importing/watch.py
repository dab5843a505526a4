"""A drop folder: what rests is imported, what is still being written is left until it does."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import blake2b
from types import TracebackType
from typing import Final, Self

from app.upkeep.importing.items import Item, Trouble
from app.upkeep.importing.sources import Found

_LEAST_PAUSE_S: Final = 0.5
_PAUSE_OF_A_FILE_S: Final = 1e-4  # to look at one takes a tenth of it
_FRESH: Final = 50_000  # files that are waited for at once; the others have their turn later


class Resting:
    """Looks at a folder again and again; gives each file once, when it has looked the same for `rest_s`.

    What was given is known by its mark, so one that changes is given again. Marks are kept by a temporary
    database, which needs no memory for the many files that stay in a folder.
    """

    def __init__(self, found: Callable[[], Iterator[Found]], rest_s: float) -> None:
        self._found, self._rest_s = found, rest_s
        self._since: dict[bytes, float] = {}
        self._given: list[bytes] = []
        self._files = 0
        self._seen = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._seen.execute("create table seen (mark blob primary key) without rowid")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seen.close()

    @property
    def pause_s(self) -> float:
        """How long until the next look."""
        return max(_LEAST_PAUSE_S, self._rest_s / 2, self._files * _PAUSE_OF_A_FILE_S)

    def look(self) -> Iterator[Found]:
        """What is at rest now and was not given before, or was given in vain."""
        now, before, self._since = time.monotonic(), self._since, {}
        self._given, self._files = [], 0
        for one in self._found():
            self._files += 1
            mark = one.mark if isinstance(one, Item) else _marked(one)
            if self._is_seen(mark) or len(self._since) >= _FRESH:
                continue
            since = self._since[mark] = before.get(mark, now)
            if now - since >= self._rest_s:
                self._given.append(mark)
                yield one

    def remember(self) -> None:
        """All that the last look gave is settled."""
        self._seen.execute("begin")
        self._seen.executemany("insert or ignore into seen values (?)", [(mark,) for mark in self._given])
        self._seen.execute("commit")

    def _is_seen(self, mark: bytes) -> bool:
        with closing(self._seen.execute("select 1 from seen where mark = ?", (mark,))) as rows:
            return rows.fetchone() is not None


def _marked(trouble: Trouble) -> bytes:
    return blake2b(f"{trouble.name}\0{trouble.why}".encode(errors="surrogateescape"), digest_size=16).digest()
