"""Keys of objects on their way: committed before the object becomes visible, so that a sweeper lists no storage."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from app.index.connection import translated
from app.index.pool import KeyMaker, Knobs, OwnConnection

_RESERVE = "insert into pending (key) select unnest($1::text[])"
_DROP = "delete from pending where key = any($1::text[])"


class Pending:
    """Hands out keys from blocks that one commit reserved."""

    def __init__(self, own: OwnConnection, new_key: KeyMaker, knobs: Knobs) -> None:
        self._own, self._new_key, self._knobs = own, new_key, knobs
        self._keys: deque[str] = deque()
        self._fresh: frozenset[str] = frozenset()  # the block that is handed out now
        self._expires = 0.0
        self._block = 1
        self._turn = asyncio.Lock()

    async def take(self) -> str:
        """A key that stands in the table before it is returned."""
        async with self._turn:
            if asyncio.get_running_loop().time() > self._expires:
                await self._forget()
                self._block = 1
            if not self._keys:
                await self._reserve()
            return self._keys.popleft()

    async def untake(self, key: str) -> None:
        """Nothing was stored under this key, and nothing will be: the next upload has it, while it is fresh."""
        if key in self._fresh and asyncio.get_running_loop().time() <= self._expires:
            self._keys.appendleft(key)
        else:
            await self.drop([key])

    async def reserve(self, key: str) -> str:
        """The same for a key that somebody made, of something derived."""
        with translated():
            async with self._own.use() as connection:
                await connection.execute(_RESERVE, [key])
        return key

    async def drop(self, keys: Sequence[str]) -> None:
        """These objects will never have a row: they were refused, lost, or are removed already."""
        with translated():
            async with self._own.use() as connection:
                await connection.execute(_DROP, list(keys))

    async def close(self) -> None:
        """Give back what nobody took."""
        async with self._turn:
            await self._forget()

    async def _reserve(self) -> None:
        # The sweeper counts from the commit: a key is not kept for long before its upload starts.
        expires = asyncio.get_running_loop().time() + self._knobs.reserved_keys_life_s
        keys = [self._new_key() for _ in range(self._block)]
        with translated():
            async with self._own.use() as connection:
                await connection.execute(_RESERVE, keys)
        self._keys.extend(keys)
        self._fresh = frozenset(keys)
        self._expires = expires
        self._block = min(self._block * 2, self._knobs.reserved_keys)

    async def _forget(self) -> None:
        if self._keys:
            keys, self._keys = list(self._keys), deque()
            await self.drop(keys)
