"""Digests taken in passing: what stands before the data set and the data set, each byte hashed once."""

from __future__ import annotations

import hashlib

from app.extent import Stored


class Digests:
    """Two SHA-256 over one stream that is cut at the data set, and its length."""

    __slots__ = ("_before", "_dataset", "_prefix", "size")

    def __init__(self) -> None:
        self._prefix = hashlib.sha256()
        self._dataset = hashlib.sha256()
        self._before = 0
        self.size = 0

    def split(self, offset: int, seed: bytes) -> None:
        """The data set starts at `offset`, its digest with `seed`: to be told before the first byte."""
        self._before = offset
        self._dataset.update(seed)

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Hash the next bytes; lets other threads run meanwhile."""
        self.size += len(chunk)
        if self._before:
            head = memoryview(chunk)[: self._before]
            self._prefix.update(head)
            self._before -= len(head)
            chunk = memoryview(chunk)[len(head) :]
        self._dataset.update(chunk)

    def prefix_sha256(self) -> bytes:
        """Of everything before the data set."""
        return self._prefix.digest()

    def dataset_sha256(self) -> bytes:
        """Of the seed and the data set."""
        return self._dataset.digest()

    def stored(self, key: str) -> Stored:
        """What was hashed, as the object under `key`."""
        return Stored(key, self.size, self._prefix.digest(), self._dataset.digest())
