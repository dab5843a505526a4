"""The objects of a JSON array, cut apart while it streams in (PS3.18 10.5.1.4, RFC 8259)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from app.errors import FailureReason, Refused

_MARKS: Final = re.compile(rb'["{}\[\]]')
_STRING: Final = re.compile(rb'(?:[^"\\]|\\.)*+"', re.DOTALL)
_STRING_SO_FAR: Final = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)
_BLANKS: Final = b" \t\r\n"


class Splitter:
    """Feed it `[{…}, {…}]`, or one `{…}`; it gives each object's bytes and holds no more than one of them.

    What is between the objects is judged here, what is inside of them by whoever parses them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._at = 0  # of the held bytes, how many were looked at
        self._depth = 0
        self._in_string = False
        self._is_array = False
        self._objects = 0
        self._is_over = False
        self._wants_comma = False
        self._stuck = False

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """The objects that end in this chunk."""
        self._held += chunk
        while self._at < len(self._held):
            found = self._inside() if self._depth else self._between()
            if found is not None:
                yield found
            elif self._stuck:
                break
        self._bound(len(self._held))

    def close(self) -> None:
        """The text is over; Refused unless it is whole."""
        if self._held.strip(_BLANKS) or not (self._is_over or (self._objects and not self._is_array)):
            raise Refused("The metadata end too early.")

    def _between(self) -> bytes | None:
        """Outside of all objects only blanks, commas and the array's brackets stand."""
        self._stuck = False
        byte = self._held[0]
        if byte == 0x7B and not self._is_over and not self._wants_comma:  # {
            self._depth, self._at = 1, 1
            return None
        if byte == 0x5B and not self._is_array and not self._objects:  # [
            self._is_array = True
        elif byte == 0x2C and self._wants_comma and self._is_array and not self._is_over:  # ,
            self._wants_comma = False
        elif byte == 0x5D and self._is_array and not self._is_over:  # ]
            if self._objects and not self._wants_comma:
                raise Refused("The metadata are no JSON.")
            self._is_over = True
        elif byte not in _BLANKS:
            raise Refused("The metadata are no JSON array of objects.")
        del self._held[:1]
        self._at = 0
        return None

    def _inside(self) -> bytes | None:
        self._stuck = False
        if self._in_string:
            self._pass_string()
            return None
        mark = _MARKS.search(self._held, self._at)
        if mark is None:
            self._at = len(self._held)
            return None
        self._at = mark.end()
        if mark[0] == b'"':
            self._in_string = True
        else:
            self._depth += 1 if mark[0] in b"{[" else -1
        return self._taken() if not self._depth else None

    def _pass_string(self) -> None:
        ends = _STRING.match(self._held, self._at)
        if ends is not None:
            self._at, self._in_string = ends.end(), False
            return
        passed = _STRING_SO_FAR.match(self._held, self._at)
        assert passed is not None
        self._at = passed.end()
        self._stuck = True  # a backslash whose second half is still to come is looked at again

    def _bound(self, length: int) -> None:
        if length > self._limit:
            raise Refused("The metadata of an instance are too long.", FailureReason.OUT_OF_RESOURCES)

    def _taken(self) -> bytes:
        self._bound(self._at)
        found = bytes(self._held[: self._at])
        del self._held[: self._at]
        self._at = 0
        self._objects += 1
        self._wants_comma = True
        return found
