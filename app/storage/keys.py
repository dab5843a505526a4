"""Names of objects: spread over folders by their random end, in order of arrival by their uuid7; to be made on one thread."""

from __future__ import annotations

import re
from secrets import token_hex
from typing import Final

from uuid_utils import uuid7

TEMPORARY: Final = "tmp"
_KEY: Final = re.compile(r"[a-z][a-z0-9]*(?:/[0-9A-Za-z][0-9A-Za-z._-]{0,127}){1,6}")
_RUN: Final = (
    64  # objects that go to one folder after each other: making and syncing a folder costs as much as a file
)
_PREFIX: Final = re.compile(r"(?:[a-z][a-z0-9]*(?:/[0-9A-Za-z][0-9A-Za-z._-]{0,127}){0,6}/?)?")


def new() -> str:
    """A key for an instance; it knows nothing of the instance, so that bytes can flow before the head is known."""
    return _key("objects")


def rendition() -> str:
    """A key for something derived: it can be made again, so it lies apart."""
    return _key("renditions")


def record() -> str:
    """A key for a record of the journal; there are few of them, and making a folder costs more than a file."""
    name = str(uuid7())
    return f"journal/{name[-1]}/{name}"


def checked(key: str) -> str:
    """The key itself; `ValueError` when it could lead out of the storage or into unfinished uploads."""
    if not _KEY.fullmatch(key) or key.startswith(f"{TEMPORARY}/"):
        raise ValueError(f"{key!r} is no storage key")
    return key


def checked_prefix(prefix: str) -> str:
    """The same for the beginning of keys."""
    if not _PREFIX.fullmatch(prefix) or prefix.partition("/")[0] == TEMPORARY:
        raise ValueError(f"{prefix!r} is no beginning of storage keys")
    return prefix


class _Ends:
    """The last two bytes of names: random, and the same for a run of keys; what stands before tells those apart."""

    def __init__(self) -> None:
        self._left, self._end = 0, ""

    def next(self) -> str:
        if not self._left:
            self._left, self._end = _RUN, token_hex(2)
        self._left -= 1
        return self._end


_ends = {kind: _Ends() for kind in ("objects", "renditions")}


def _key(kind: str) -> str:
    end = _ends[kind].next()
    return f"{kind}/{end[:2]}/{end[2:]}/{str(uuid7())[:-4]}{end}"
