"""What was looked up a moment ago: a video's player asks for range after range of the same bytes."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final, Generic, TypeVar

V = TypeVar("V")
LIFE_S: Final = 2.0  # so long may something that was deleted still be found; its bytes stay far longer
MOST: Final = 1024


class Recent(Generic[V]):
    """Values by key for a short time, the oldest out first; together they weigh at most `limit`."""

    def __init__(self, limit: int = 200_000, life_s: float = LIFE_S) -> None:
        self._limit, self._life_s, self._weight = limit, life_s, 0
        self._values: OrderedDict[tuple[str, ...], tuple[float, int, V]] = OrderedDict()

    def get(self, key: tuple[str, ...]) -> V | None:
        """The value, if it is young."""
        found = self._values.get(key)
        if found is None or found[0] < time.monotonic():
            return None
        return found[2]

    def put(self, key: tuple[str, ...], value: V, weight: int) -> None:
        """Keep it; what weighs more than all may is not kept."""
        self._drop(key)
        if weight > self._limit:
            return
        self._values[key] = time.monotonic() + self._life_s, weight, value
        self._weight += weight
        while self._weight > self._limit or len(self._values) > MOST:
            self._drop(next(iter(self._values)))

    def _drop(self, key: tuple[str, ...]) -> None:
        _, weight, _ = self._values.pop(key, (0, 0, None))
        self._weight -= weight
