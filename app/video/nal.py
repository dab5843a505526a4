"""NAL units of a byte stream: found between start codes, whatever its pieces (H.264 annex B, H.265 annex B)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from fractions import Fraction
from struct import pack
from typing import Final, Generic, Protocol, TypeVar

from app.video import NeedsRemux
from app.video.boxes import Box

Buffer = bytes | bytearray | memoryview

HEAD: Final = 4096  # of a unit that is looked at: a slice header takes 20, a parameter set a few hundred
_SETS: Final = 16 << 10  # parameter sets together
CHANGED: Final = "The video's parameter sets change on the way."
_START_CODE: Final = re.compile(b"\0\0\1")


@dataclass(frozen=True, slots=True)
class Unit:
    """A NAL unit: where it lies, without start code and zeros behind it, and its beginning."""

    offset: int
    length: int
    head: bytes

    @property
    def whole(self) -> bytes:
        """All of it; a unit that has to be known whole is not longer than what is looked at."""
        if self.length > len(self.head):
            raise NeedsRemux("A parameter set of the video's stream is too long.")
        return self.head


class Role(Enum):
    """What a unit is in its stream."""

    BEGINS = auto()
    """The first slice of a picture."""
    CONTINUES = auto()
    """Another slice of the same picture."""
    LEADS = auto()
    """It opens the next picture's access unit where it follows a slice."""
    FOLLOWS = auto()
    """It belongs to what came before."""
    DESCRIBES = auto()
    """A parameter set that the sample entry carries: no sample holds it (ISO/IEC 14496-15 5.3.1, 8.3.2)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A coded picture: `order` grows as pictures are shown, and it may be one that players can begin with."""

    order: int
    is_sync: bool


class Coding(Protocol):
    """H.264 or HEVC: told each unit in turn, it knows the pictures and what a player must know before them."""

    @property
    def picture(self) -> Picture:
        """The picture that began last."""

    @property
    def rate(self) -> Fraction | None:
        """Pictures a second, where the stream tells."""

    def take(self, unit: Unit) -> Role:
        """The next unit. Raises NeedsRemux for what cannot be followed."""

    def entry(self) -> Box:
        """The sample entry. Raises NeedsRemux where no picture was understood."""


@dataclass(slots=True)
class Sets:
    """Parameter sets by kind and number, which stay the same throughout."""

    _found: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _size: int = 0

    def add(self, kind: int, number: int, content: bytes) -> bool:
        """Whether it is new; the same again is nothing, another under its number changes the stream."""
        known = self._found.get((kind, number))
        if known is not None and known != content:
            raise NeedsRemux(CHANGED)
        if known is None:
            self._found[kind, number] = content
            self._size += len(content)
        if self._size > _SETS:
            raise NeedsRemux("The video's stream has too many parameter sets.")
        return known is None

    def has(self, kind: int, content: bytes) -> bool:
        """Whether this very set is known: most are repeated at each keyframe."""
        return content in self.of(kind)

    def of(self, kind: int) -> list[bytes]:
        """All of a kind, by number."""
        return [content for (found, _), content in sorted(self._found.items()) if found == kind]

    def counted(self, kind: int) -> bytes:
        """The same as decoder configurations hold them, each behind its length (ISO/IEC 14496-15 5.3.3.1.2, 8.3.3.1.2)."""
        return b"".join(pack(">H", len(content)) + content for content in self.of(kind))


class Sequence(Protocol):
    """A sequence parameter set, as far as both standards have it."""

    @property
    def rate(self) -> Fraction | None:
        """Pictures a second by its usability information."""


class Parameters(Protocol):
    """A picture parameter set."""

    @property
    def sequence(self) -> int:
        """The number of the sequence parameter set that it is for."""


S = TypeVar("S", bound=Sequence)
P = TypeVar("P", bound=Parameters)


class Active(Generic[S, P]):
    """What the parameter sets say that slices refer to: of all sequences one, from the first slice to the last."""

    def __init__(self) -> None:
        self.sequences: dict[int, S] = {}
        self.parameters: dict[int, P] = {}
        self._number: int | None = None

    def of(self, number: int) -> tuple[P, S]:
        """What a slice refers to by this number of picture parameters."""
        parameters = self.parameters.get(number)
        sequence = self.sequences.get(parameters.sequence) if parameters else None
        if parameters is None or sequence is None:
            raise NeedsRemux("The video's stream begins without its parameter sets.")
        return parameters, sequence

    def use(self, parameters: P) -> None:
        """A picture begins."""
        if self._number not in {None, parameters.sequence}:
            raise NeedsRemux(CHANGED)
        self._number = parameters.sequence

    @property
    def sequence(self) -> S:
        """The one of all pictures."""
        if self._number is None:
            raise NeedsRemux("The video's stream holds no pictures.")
        return self.sequences[self._number]

    @property
    def rate(self) -> Fraction | None:
        """Pictures a second by the stream's usability information (H.264 E.2.1, H.265 E.3.1)."""
        return self.sequences[self._number].rate if self._number is not None else None


def sei_types(payload: bytes) -> Iterator[int]:
    """The payload types of an SEI unit behind its header (H.264 7.3.2.3.1, H.265 7.3.5)."""
    payload = payload.replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(payload):
        kind, at = _number(payload, at)
        yield kind
        size, at = _number(payload, at)
        at += size


def _number(payload: bytes, at: int) -> tuple[int, int]:
    """A number written in bytes of which all but the last are 255, and the offset behind it."""
    end = at
    while end < len(payload) and payload[end] == 0xFF:
        end += 1
    return 255 * (end - at) + (payload[end] if end < len(payload) else 0), end + 1


class Splitter:
    """Finds the units of a stream that comes in pieces; holds a unit's beginning and nothing else."""

    def __init__(self) -> None:
        self._length = 0  # of the stream so far
        self._carry = b""  # its last zeros, at most two: the next piece may make them a start code
        self._zeros = 0  # zeros before those
        self._start: int | None = None  # of the unit that is open
        self._head = b""

    def feed(self, chunk: Buffer) -> Iterator[Unit]:
        """The units that end in the next piece."""
        data = self._carry + bytes(chunk)
        base, at = self._length - len(self._carry), 0
        for found in _START_CODE.finditer(data):
            code = found.start()
            yield from self._ended(base, data, at, code)
            at = code + 3
            self._start, self._head, self._zeros = base + at, b"", 0
        self._grow(base, data)
        self._length = base + len(data)
        zeros = _zeros(data, at, len(data))
        kept = min(zeros, 2)
        self._carry = data[len(data) - kept :]
        self._zeros = zeros - kept + (self._zeros if zeros == len(data) - at else 0)

    def close(self) -> Iterator[Unit]:
        """The last unit, at the end of the stream."""
        yield from self._ended(self._length - len(self._carry), self._carry, 0, len(self._carry))

    def _grow(self, base: int, data: bytes) -> None:
        """What is seen of the open unit's beginning; it may go over its end."""
        if self._start is not None and len(self._head) < HEAD:
            seen = self._start + len(self._head) - base
            self._head += data[seen : seen + HEAD - len(self._head)]

    def _ended(self, base: int, data: bytes, at: int, code: int) -> Iterator[Unit]:
        """The unit that ends before `code`, unless it is empty; no unit ends with a zero (7.4.1)."""
        if self._start is None:
            return
        self._grow(base, data)
        zeros = _zeros(data, at, code)
        end = base + code - zeros - (self._zeros if zeros == code - at else 0)
        if end > self._start:
            length = end - self._start
            yield Unit(self._start, length, self._head[:length])


def _zeros(data: bytes, start: int, stop: int) -> int:
    """How many zeros end this part of the data."""
    if stop - start < 2 or data[stop - 2]:
        return int(stop > start and data[stop - 1] == 0)
    part = data[start:stop]
    return len(part) - len(part.rstrip(b"\0"))
