"""Preconditions and byte ranges: which part of a representation answers a request (RFC 9110 13 and 14).

Several ranges are answered with the whole: a server may ignore Range, and no viewer of ours asks so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Final

from app.errors import ReelwebError

_RANGE: Final = re.compile(
    r"bytes[ \t]*=[ \t,]*(?:([0-9]{1,99})-([0-9]{0,99})|-([0-9]{1,99}))[ \t,]*", re.IGNORECASE
)  # numbers of any size that a client counts in
_TAGS: Final = re.compile(r'(?:W/)?"[^"]*"')


class Unsatisfiable(ReelwebError):
    """416: the range lies beyond the end. `headers` go with the answer."""

    def __init__(self, length: int) -> None:
        super().__init__(f"The range lies beyond the end; there are {length} bytes.")
        self.headers = {"Content-Range": f"bytes */{length}"}


class PreconditionFailed(ReelwebError):
    """412: what is stored is not what the client's If-Match or If-Unmodified-Since names."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one version of a representation from another; `etag` comes with its quotes."""

    etag: str = ""
    modified: datetime | None = None

    def headers(self) -> dict[str, str]:
        """As they are sent."""
        headers = {"ETag": self.etag} if self.etag else {}
        if self.modified:
            headers["Last-Modified"] = _http_date(self.modified)
        return headers


@lru_cache
def _http_date(date: datetime) -> str:
    return format_datetime(date.astimezone(UTC), usegmt=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """The status (200, 206 or 304), the bytes to send, and the headers that say so."""

    status: int
    start: int
    stop: int
    headers: dict[str, str]


def answer(method: str, asked: Mapping[str, str], length: int, validators: Validators) -> Answer:
    """How to answer a GET or HEAD whose header fields, by lower-case name, are `asked`.

    Raises `Unsatisfiable` and `PreconditionFailed`.
    """
    headers = validators.headers() | {"Accept-Ranges": "bytes"}
    _check_preconditions(asked, validators)
    if is_unchanged(asked, validators):
        return Answer(304, 0, 0, headers)
    # Range has no meaning for HEAD (14.2)
    found = _requested(asked, length, validators) if method == "GET" else None
    start, stop = found or (0, length)
    headers["Content-Length"] = str(stop - start)
    if not found:
        return Answer(200, start, stop, headers)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{length}"
    return Answer(206, start, stop, headers)


def parse(header: str, length: int) -> tuple[int, int] | None:
    """First byte and the one after the last, clamped; None for the whole; raises `Unsatisfiable`."""
    matched = _RANGE.fullmatch(header.strip())
    if not matched:
        return None
    first, last, suffix = matched.groups()
    if suffix is not None:
        start, stop = max(length - int(suffix), 0), length
        # The last N bytes of nothing are nothing: not a range that a 206 could state.
        if not int(suffix) or not length:
            raise Unsatisfiable(length)
        return start, stop
    start, stop = int(first), min(int(last) + 1, length) if last else length
    if last and int(last) < start:
        return None
    if start >= length:
        raise Unsatisfiable(length)
    return start, stop


def _requested(asked: Mapping[str, str], length: int, validators: Validators) -> tuple[int, int] | None:
    header = asked.get("range")
    if header is None or not _if_range(asked.get("if-range", ""), validators):
        return None
    return parse(header, length)


def _if_range(condition: str, validators: Validators) -> bool:
    """Whether the client's part is of this very version (13.1.5): strong tags or the exact date."""
    if not condition:
        return True
    if condition.startswith(('"', "W/")):
        return condition == validators.etag and not condition.startswith("W/")
    return validators.modified is not None and _date(condition) == _seconds(validators.modified)


def _check_preconditions(asked: Mapping[str, str], validators: Validators) -> None:
    wanted = asked.get("if-match")
    if wanted is not None:
        if wanted.strip() != "*" and (
            validators.etag not in _TAGS.findall(wanted) or validators.etag[:2] == "W/"
        ):
            raise PreconditionFailed("The entity tag is not the one of If-Match.")
        return
    since = _date(asked.get("if-unmodified-since", ""))
    if since and validators.modified and _seconds(validators.modified) > since:
        raise PreconditionFailed("It was modified since the date of If-Unmodified-Since.")


def is_unchanged(asked: Mapping[str, str], validators: Validators) -> bool:
    """Whether the client has this version already, by If-None-Match or If-Modified-Since (13.1)."""
    known = asked.get("if-none-match")
    if known is not None:
        if known.strip() == "*":
            return True
        return bool(validators.etag) and _weak(validators.etag) in map(_weak, _TAGS.findall(known))
    since = _date(asked.get("if-modified-since", ""))
    return bool(since and validators.modified and _seconds(validators.modified) <= since)


def _weak(etag: str) -> str:
    return etag.removeprefix("W/")


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return date if date is None or date.tzinfo else date.replace(tzinfo=UTC)


def _seconds(date: datetime) -> datetime:
    """As HTTP can say it."""
    return date.astimezone(UTC).replace(microsecond=0)
