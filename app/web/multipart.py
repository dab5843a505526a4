"""multipart/related as streams of parts, read and written (PS3.18 8.6.1, RFC 2046 5.1)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from app.errors import BadRequest

_BOUNDARY: Final = re.compile(r"[\x20-\x7e]{0,199}[\x21-\x7e]")  # RFC 2046 says 70; longer ones are seen
_PADDING: Final = 256  # blanks that may follow a delimiter


class Malformed(BadRequest):
    """The body is not the multipart message that its header promises, or it ends too early."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its header fields by lower-case name, and its body, read as it is pulled."""

    headers: dict[str, str]
    chunks: AsyncIterator[memoryview]


class Reader:
    """Pulls a body in whatever chunks it comes; holds one of them and a delimiter's length of the one before.

    After the last delimiter nothing more is pulled: an epilogue is the server's to drain.
    """

    def __init__(self, source: AsyncIterator[bytes], boundary: str, header_limit: int = 16 << 10) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise Malformed("The multipart boundary is missing or not a boundary.")
        self._source = source
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._header_limit = header_limit
        self._held, self._at = b"\r\n", 0  # so that the first delimiter needs no line before it
        self._part = 0
        self._inside = True  # a part, or the preamble

    async def parts(self) -> AsyncIterator[Part]:
        """Part after part; what is left unread of one is skipped before the next."""
        await self._skip()
        while await self._another():
            headers = await self._headers()
            self._part += 1
            self._inside = not await self._bodiless()
            yield Part(headers, self._chunks(self._part))
            await self._skip()

    async def _chunks(self, part: int) -> AsyncIterator[memoryview]:
        while part == self._part and (chunk := await self._next()):
            yield chunk

    async def _skip(self) -> None:
        while await self._next():
            pass

    async def _next(self) -> memoryview | None:
        """The next bytes of this part; None when its delimiter has been passed."""
        while self._inside:
            start = self._at
            found = self._held.find(self._delimiter, start)
            if found >= 0:
                self._inside = False
                self._at = found + len(self._delimiter)
                return memoryview(self._held)[start:found] if found > start else None
            self._at = self._safe_end()
            if self._at > start:
                return memoryview(self._held)[start : self._at]
            await self._more()
        return None

    def _safe_end(self) -> int:
        """Where a delimiter that the chunk's end cuts may begin; else the chunk's end."""
        held, size = self._held, len(self._held)
        cut = held.rfind(b"\r", max(self._at, size - len(self._delimiter) + 1))
        return cut if cut >= 0 and self._delimiter.startswith(held[cut:]) else size

    async def _another(self) -> bool:
        """Past the rest of a delimiter's line: whether a part follows, or this was the last delimiter."""
        while len(self._held) - self._at < 2:
            await self._more()
        if self._held.startswith(b"--", self._at):
            return False
        if (await self._line(_PADDING)).strip(b" \t"):
            raise Malformed("The multipart body has text after a delimiter.")
        return True

    async def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        name, left = "", self._header_limit
        while line := (await self._line(left)).decode("latin-1"):
            left -= len(line) + 2
            if line[0] in " \t" and name:  # a folded field goes on
                headers[name] = f"{headers[name]} {line.strip()}".strip()
                continue
            name, colon, value = line.partition(":")
            name = name.strip().lower()
            if not colon or not name:
                raise Malformed("A part of the multipart body has a header that is none.")
            headers[name] = value.strip()
        return headers

    async def _bodiless(self) -> bool:
        """Whether the blank line after the headers is already the line break of a delimiter."""
        dashes = self._delimiter[2:]
        while len(self._held) - self._at < len(dashes):
            if not dashes.startswith(self._held[self._at :]):
                return False
            await self._more()
        if not self._held.startswith(dashes, self._at):
            return False
        self._at += len(dashes)
        return True

    async def _line(self, limit: int) -> bytes:
        while True:
            end = self._held.find(b"\r\n", self._at)
            if (end if end >= 0 else len(self._held)) - self._at > limit:
                raise Malformed("A part of the multipart body has headers that are too long.")
            if end >= 0:
                line, self._at = self._held[self._at : end], end + 2
                return line
            await self._more()

    async def _more(self) -> None:
        async for chunk in self._source:
            if chunk:
                self._held = self._held[self._at :] + chunk if self._at < len(self._held) else chunk
                self._at = 0
                return
        raise Malformed("The multipart body ends before its last delimiter.")


def new_boundary() -> str:
    """Random, so that no stored object, an answer of ours among them, holds it."""
    return token_hex(16)


def content_type(root_type: str, boundary: str) -> str:
    """The answer's type; `root_type` is the parts' type without parameters."""
    return f'multipart/related; type="{root_type}"; boundary={boundary}'


def opening(boundary: str, part_type: str, location: str = "", *, first: bool) -> bytes:
    """What comes before a part's body. cornerstone needs `Content-Type` first and in this spelling."""
    lines = [f"--{boundary}", f"Content-Type: {part_type}"]
    if location:
        lines.append(f"Content-Location: {location}")
    text = "\r\n".join([*lines, "", ""])
    return (text if first else f"\r\n{text}").encode("latin-1")


def closing(boundary: str) -> bytes:
    """What comes after the last part's body."""
    return f"\r\n--{boundary}--\r\n".encode("ascii")
