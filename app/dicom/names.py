"""Keys that names of people are matched by: case and accents folded, any component, any group (PS3.5 6.2.1).

A key frames each group and each component: Doe^Jane=山田 becomes `=^doe^jane^=^山田^=`. So one pattern over one
column matches a component wherever it stands, or a group from its start, and a trigram index serves both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th", "ð": "d"})
"""Letters that Unicode does not take apart."""

_ACCENTS = re.compile("[\u0300-\u036f]")
_LONGEST = 1000


def fold(text: str) -> str:
    """Without case, accents and differences of width; kana keep their voicing marks."""
    apart = unicodedata.normalize("NFKD", text.replace("\0", "")).casefold()
    apart = unicodedata.normalize("NFKD", apart)  # folding composes a few again
    return unicodedata.normalize("NFC", _ACCENTS.sub("", apart)).translate(_LETTERS)


def key(groups: Iterable[str]) -> str:
    """The key of one name, '' when it is empty."""
    framed = [f"^{'^'.join(components)}^=" for group in groups if any(components := _components(group))]
    return ("=" + "".join(framed))[:_LONGEST] if framed else ""


def pattern(group: str) -> str:
    """What a key must be like for one group of a search (wildcards `*` and `?`), '' when it is universal.

    One component matches anywhere; several match from the start of a group, an empty one being universal.
    """
    components = _components(group)
    if all(component in {"", "*"} for component in components):
        return ""
    if len(components) == 1:
        return f"*^{components[0]}^*"
    return f"*=^{'^'.join(component or '*' for component in components)}^*"


def _components(group: str) -> list[str]:
    """Folded, without the empty ones at the end."""
    return [" ".join(part.split()) for part in fold(group.replace("=", " ")).rstrip("^ ").split("^")]
