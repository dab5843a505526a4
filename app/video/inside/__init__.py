"""Programs that read strangers' streams and can open nothing; this module has the words of their conversation.

They ask the parent (app/video/confined.py) for pieces of the stream and give back what they make of it. The parent
imports this module alone: the others bring FFmpeg into a process.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

MESSAGE: Final = Struct("<cQI")
"""What, an offset, a length."""

SAMPLE: Final = Struct("<QIII")
"""One sample of an index: its offset, whose highest bit is set for a keyframe; its size; and in ticks when it is shown,
and how much earlier it is decoded. The offset is that of the packet of the container in which it begins."""

KEYFRAME: Final = 1 << 63
TICKS_PER_S: Final = 90_000
"""The fastest clock of an index: thirteen hours fit 32 bits."""

READ: Final = b"r"
"""These bytes of the stream, please."""
PIECE: Final = b"p"
"""So many bytes of the product follow."""
INDEX: Final = b"i"
"""Behind a product: what is told of the stream follows, as one line of JSON, and a SAMPLE of each of its samples."""
END: Final = b"e"
"""It is whole: so many bytes follow that conclude it."""
FAILURE: Final = b"f"
"""It cannot be made; why stands in the place of the offset."""

MOST_ASKED: Final = (1 << 20) - (8 << 10)
"""A pipe of a mebibyte holds them, though they may begin and end within a page of a file."""
MOST_GIVEN: Final = 64 << 20


class Reason(IntEnum):
    """Why there is no product."""

    NOTHING = 0
    MEMORY = 1
    CODEC = 2
    MPEG2 = 3
    PARAMETERS = 4
