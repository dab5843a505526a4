"""How a bulk value is addressed below its instance: tags and item numbers (PS3.18 10.4.1.1.5, PS3.5 7.8).

    path     = tag *( "/" item "/" tag )        items counted from 1
    tag      = 8HEXDIG [ "-" creator ]          upper case; private tags carry their creator
    creator  = 1*( A-Z / 0-9 / "." / "_" )      its letters in upper case, a run of anything else as one "_"

So `00291140-SIEMENS_CSA_HEADER/1/00291010-SIEMENS_CSA_HEADER`. Nothing needs to be escaped in an address, and
case does not matter. The tag alone is unique in its data set, block included; the creator says whose block it is.
"""

from __future__ import annotations

import re
from typing import Final

_OTHER: Final = re.compile(r"[^0-9A-Z.]+")
_LONGEST: Final = 64


def step(tag: str, creator: str) -> str:
    """One tag of a path; `creator` is empty for standard tags and for blocks that nobody reserved."""
    return f"{tag}-{_OTHER.sub('_', creator[:_LONGEST].upper())}" if creator else tag


def normalised(path: str) -> str:
    """A path as it is kept, from one that somebody typed."""
    return path.strip("/").upper()


def tags(path: str) -> list[tuple[str, int | None]]:
    """The tags on the way, each with the number of the item that follows; the last one has none."""
    parts = path.split("/")
    found: list[tuple[str, int | None]] = [
        (sequence[:8], int(item)) for sequence, item in zip(parts[:-1:2], parts[1::2], strict=True)
    ]
    return [*found, (parts[-1][:8], None)]
