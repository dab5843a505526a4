"""The top-level members of a DICOM JSON object as text, verbatim (PS3.18 F.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from json import JSONDecoder

_DECODER = JSONDecoder(parse_float=str, parse_int=str)
_HEAD = len('"00080005":')


def split(document: bytes) -> Iterator[tuple[str, str]]:
    """Tag and member of each attribute of an object without spaces, as the scanner writes it."""
    text = document.decode()
    at = 1
    while at < len(text) - 1:
        _, end = _DECODER.raw_decode(text, at + _HEAD)
        yield text[at + 1 : at + 9], text[at:end]
        at = end + 1


def lines(stored: str) -> Iterator[tuple[str, str]]:
    """Tag and member of each line as rows keep them; a newline inside a JSON string is escaped."""
    return ((line[1:9], line) for line in stored.split("\n") if line)


def joined(members: Iterable[str]) -> bytes:
    """One object of these members."""
    return f"{{{','.join(members)}}}".encode()
