"""Elements put in the order of their tags, the last of two that are the same (PS3.18 F.2.1.1).

Bounded, so that it takes milliseconds for any data set; beyond, the order is left as it came. A reader that lets
the last of two members count, as they all do, sees the same.
"""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import Final

import orjson

_MOST_ELEMENTS: Final = 8192  # more than the data dictionary has
LONGEST_ITEM: Final = 64 << 10


def ascending(json: bytearray, marks: array[int]) -> bytearray:
    """A data set's elements, each beginning at a mark and ending in a comma, in order."""
    if len(marks) > _MOST_ELEMENTS:
        return json
    view = memoryview(json)
    pieces = {bytes(view[a + 1 : a + 9]): view[a:b] for a, b in pairwise([*marks, len(json)]) if b > a}
    return bytearray(b"{" + b"".join(pieces[tag] for tag in sorted(pieces)))


def ascending_item(json: bytes) -> bytes:
    """An item of a sequence, and those in it."""
    return orjson.dumps(orjson.loads(json), option=orjson.OPT_SORT_KEYS)
