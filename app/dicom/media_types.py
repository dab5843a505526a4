"""Media types with their parameters, read and written (RFC 9110 8.3.1, PS3.18 8.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TYPE: Final = re.compile(rf"[ \t]*({_NAME}/{_NAME})[ \t]*")
# A value that is no token is met unquoted in the field: `type=application/dicom`. It runs to the next ';'.
_PARAMETER: Final = re.compile(rf';[ \t]*(?:({_NAME})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*+)"|([^;"]*+))[ \t]*)?')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_ONLY_TOKEN: Final = re.compile(_NAME)


@dataclass(frozen=True, slots=True)
class MediaType:
    """`type` and the names of `parameters` are lower case; values are as they came, unquoted."""

    type: str
    parameters: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join(
            [self.type, *(f"{name}={_quoted(value)}" for name, value in self.parameters.items())]
        )


def parse(text: str) -> MediaType | None:
    """The media type that a header tells, or None when it is none; of a repeated parameter the first counts."""
    head = _TYPE.match(text)
    if head is None:
        return None
    parameters: dict[str, str] = {}
    at = head.end()
    while at < len(text):
        found = _PARAMETER.match(text, at)
        if found is None:
            return None
        name, quoted, plain = found.groups()
        if name:
            value = plain.rstrip(" \t") if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
            parameters.setdefault(name.lower(), value)
        at = found.end()
    return MediaType(head[1].lower(), parameters)


def _quoted(value: str) -> str:
    if _ONLY_TOKEN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
