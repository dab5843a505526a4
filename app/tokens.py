"""The tokens file: who may come in and to do what; the secrets themselves are kept nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

SCOPES: Final = ("read", "write", "delete")


@dataclass(frozen=True, slots=True)
class Token:
    """One line of the file."""

    name: str
    scopes: frozenset[str]
    sha256: bytes


def parse(text: str) -> tuple[Token, ...]:
    """The lines `name scopes sha256hex`; blank lines and `#` are passed over.

    Raises ValueError with the number of the first line that is wrong, never with its content.
    """
    tokens = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            name, scopes, digest = words
            token = Token(name, frozenset(scopes.split(",")), bytes.fromhex(digest))
        except ValueError:
            raise ValueError(f"line {number} is not `name scopes sha256hex`") from None
        if not token.scopes <= set(SCOPES) or len(token.sha256) != sha256().digest_size:
            raise ValueError(f"line {number} has an unknown scope or a short digest")
        tokens.append(token)
    return tuple(tokens)
