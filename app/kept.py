"""What was made once of what never changes, by its immutable key, within a bound; the one unused for longest goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values of together at most `limit`, and `most` of them; to be used on one thread."""

    def __init__(self, limit: int, most: int = 1024) -> None:
        self._limit, self._most, self._weight = limit, most, 0
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, now the one used last."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep it, unless it weighs more than all may."""
        self._drop(key)
        if weight > self._limit:
            return
        self._values[key] = value, weight
        self._weight += weight
        while self._weight > self._limit or len(self._values) > self._most:
            self._drop(next(iter(self._values)))

    def forget(self, is_over: Callable[[V], bool]) -> None:
        """Let go of those unused for longest, as far as they are over."""
        while self._values and is_over(next(iter(self._values.values()))[0]):
            self._drop(next(iter(self._values)))

    def _drop(self, key: K) -> None:
        self._weight -= self._values.pop(key, (None, 0))[1]
