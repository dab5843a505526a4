"""Questions that come while one is being answered are asked together: under load a statement answers many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from app.errors import Unavailable

K = TypeVar("K")
V = TypeVar("V")
MOST: Final = 256
_STOPPING: Final = "The server is stopping."
_Question: TypeAlias = "tuple[K, asyncio.Future[V | None]]"


class Together(Generic[K, V]):
    """Asks for many keys what one is asked for; what nobody knows is None.

    An answer is never older than its question: who comes while the database works waits for the next statement.
    """

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._ask = ask
        self._waiting: list[_Question[K, V]] = []
        self._asking: asyncio.Task[None] | None = None

    async def of(self, key: K) -> V | None:
        """The answer for one key; raises what asking raised."""
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._answer())
        return await answer

    async def _answer(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._answer_these(asked)
        finally:
            self._asking = None
            left, self._waiting = self._waiting, []
            self._tell(left, None, Unavailable(_STOPPING))

    async def _answer_these(self, asked: Sequence[_Question[K, V]]) -> None:
        error, found = Unavailable(_STOPPING), None
        try:
            found = await self._ask(list(dict.fromkeys(key for key, _ in asked)))
        except Exception as refused:  # noqa: BLE001 - whoever asked is told
            error = (
                refused if isinstance(refused, Unavailable) else Unavailable("The database did not do it.")
            )
        finally:  # also when we are cancelled
            self._tell(asked, found, error)

    @staticmethod
    def _tell(asked: Sequence[_Question[K, V]], found: Mapping[K, V] | None, error: Unavailable) -> None:
        for key, answer in asked:
            if answer.done():
                continue  # cancelled: nobody waits
            if found is None:
                answer.set_exception(error)
            else:
                answer.set_result(found.get(key))

    async def close(self) -> None:
        """Who waits is told that the server is stopping."""
        if self._asking:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
