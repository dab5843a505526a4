"""Unique identifiers: trimmed, and judged by what storage and addresses can bear (PS3.5 9)."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

# Wider than PS3.5 9.1: letters and leading zeros are met in the field and do no harm in an address.
_ACCEPTED: Final = re.compile(r"(?!\.\Z)(?!.*\.\.)[0-9A-Za-z.]{1,64}")
_NUMERIC: Final = re.compile(r"[0-9.]{1,64}")


def normalised(value: bytes | str) -> str:
    """The UID without the blanks and NULs that pad it."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return text.strip(" \0")


def is_acceptable(uid: str) -> bool:
    """One to 64 of letters, digits and full stops; nothing that a path could misread."""
    return _ACCEPTED.fullmatch(uid) is not None


def told(uid: str) -> str:
    """As logs and reports may tell it: digits and full stops; of letters, which may be a name, only a digest."""
    return uid if _NUMERIC.fullmatch(uid) else f"sha256:{sha256(uid.encode()).hexdigest()[:16]}"
