"""HEVC: what its parameter sets and slice headers tell of pictures and their order (H.265 7.3, 7.4.2.4.4, 8.3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from struct import pack
from typing import Final

from app.video import NeedsRemux
from app.video.bits import DAMAGED, Bits, within
from app.video.boxes import Box, box
from app.video.nal import Active, Picture, Role, Sets, Unit
from app.video.visual import shape, sized, timing, visual

_VPS, _SPS, _PPS, _END = 32, 33, 34, 36
_SLICES: Final = 32  # types below are slices; those from 10 to 15 and from 22 to 31 are reserved
_RADL_N, _RASL_R = 6, 9
_SUB_LAYER: Final = 16  # below, even types are referred to by no picture of their sub-layer
_BLA, _IDR, _IDR_N_LP, _CRA, _IRAP_END = 16, 19, 20, 21, 24
_LEADING: Final = frozenset((35, 39, *range(41, 45), *range(48, 56)))  # what begins an access unit
_SHORT: Final = 32  # bytes that hold what is read of nearly every slice header
_SETS: Final = {_VPS: 15, _SPS: 15, _PPS: 63}  # and their highest numbers
_LEVELS: Final = 12  # bytes of the general profile, tier and level


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence parameter set (7.3.2.2)."""

    levels: bytes
    layers: int
    nested: bool
    chroma: int
    planes: bool
    depths: tuple[int, int]
    order_bits: int
    size: tuple[int, int]
    aspect: tuple[int, int]
    rate: Fraction | None


@dataclass(frozen=True, slots=True)
class Parameters:
    """A picture parameter set's beginning (7.3.2.3)."""

    sequence: int
    output: bool
    extra_bits: int


class Stream:
    """An HEVC stream, told its units in turn."""

    def __init__(self) -> None:
        self.picture = Picture(0, is_sync=False)
        self._sets = Sets()
        self._active = Active[Sequence, Parameters]()
        self._begins = True
        self._epoch = 0
        self._previous = 0

    @property
    def rate(self) -> Fraction | None:
        """Pictures a second, as the stream tells."""
        return self._active.rate

    def take(self, unit: Unit) -> Role:
        """The next unit."""
        if len(unit.head) < 2 or unit.head[0] & 0x80:
            raise NeedsRemux(DAMAGED)
        kind, layer = unit.head[0] >> 1 & 63, (unit.head[0] & 1) << 5 | unit.head[1] >> 3
        if layer:  # another view or a finer picture: players show the base
            return Role.FOLLOWS
        if kind < _SLICES:
            return self._take_slice(kind, unit)
        if kind in _SETS:
            self._take_set(kind, unit.whole)
            return Role.DESCRIBES
        self._begins |= kind == _END
        return Role.LEADS if kind in _LEADING else Role.FOLLOWS

    def _take_set(self, kind: int, content: bytes) -> None:
        if self._sets.has(kind, content):
            return
        bits = Bits(content[2:])
        if kind == _VPS:
            number = bits.u(4)
        elif kind == _SPS:
            number, self_described = _sequence(bits)
            self._active.sequences.setdefault(number, self_described)
        else:
            number, parameters = _parameters(bits)
            self._active.parameters.setdefault(number, parameters)
        self._sets.add(kind, within(number, _SETS[kind]), content)

    def _take_slice(self, kind: int, unit: Unit) -> Role:
        if not Bits(unit.head[2:3]).flag():  # first_slice_segment_in_pic_flag
            return Role.CONTINUES
        try:
            order = self._order(kind, unit.head[:_SHORT])
        except NeedsRemux:
            order = self._order(kind, unit.head)
        self.picture = Picture(order, _BLA <= kind < _IRAP_END)
        self._begins = False
        return Role.BEGINS

    def _order(self, kind: int, head: bytes) -> int:
        """Where the picture stands among all: by the count that its slice header carries (8.3.1)."""
        bits = Bits(head[2:])
        bits.skip(2 if _BLA <= kind < _IRAP_END else 1)
        parameters, sequence = self._active.of(bits.ue())
        self._active.use(parameters)
        bits.skip(parameters.extra_bits)
        bits.ue()  # slice_type
        bits.skip(parameters.output + 2 * sequence.planes)
        lsb = 0 if kind in {_IDR, _IDR_N_LP} else bits.u(sequence.order_bits)
        # All that came before is shown before a picture that needs nothing of it.
        if _BLA <= kind < _CRA or (self._begins and kind < _IRAP_END):
            self._epoch += 1
            count = lsb
        else:
            whole = 1 << sequence.order_bits
            step = (lsb - self._previous) % whole
            count = self._previous + (step if step <= whole // 2 else step - whole)
        is_discardable = kind < _SUB_LAYER and kind % 2 == 0
        if head[1] & 7 == 1 and not is_discardable and not _RADL_N <= kind <= _RASL_R:
            self._previous = count
        within(abs(count), 1 << 32)
        return (self._epoch << 34) + count

    def entry(self) -> Box:
        """The sample entry `hvc1` with every parameter set (ISO/IEC 14496-15 8.4.1)."""
        active = self._active.sequence
        depths = [0xF8 | depth for depth in active.depths]
        config = b"\1" + active.levels + b"\xf0\0\xfc" + bytes([0xFC | active.chroma, *depths])
        config += b"\0\0" + bytes([active.layers << 3 | active.nested << 2 | 3])
        arrays = [(kind, len(found)) for kind in _SETS if (found := self._sets.of(kind))]
        config += bytes([len(arrays)])
        for kind, count in arrays:
            config += pack(">BH", 0x80 | kind, count) + self._sets.counted(kind)
        return visual(b"hvc1", active.size, active.aspect, box(b"hvcC", config))


def _parameters(bits: Bits) -> tuple[int, Parameters]:
    number, sequence = bits.ue(), bits.ue()
    bits.skip(1)
    return number, Parameters(sequence, bits.flag(), bits.u(3))


def _sequence(bits: Bits) -> tuple[int, Sequence]:
    bits.skip(4)
    more_layers, nested = bits.u(3), bits.flag()
    levels = bytes(bits.u(8) for _ in range(_LEVELS))
    _skip_sub_layers(bits, more_layers)
    number, chroma = bits.ue(), within(bits.ue(), 3)
    planes = chroma == 3 and bits.flag()
    size = _size(bits, chroma)
    depths = (within(bits.ue(), 7), within(bits.ue(), 7))
    order_bits = within(bits.ue(), 12) + 4
    for _ in range(1 + (more_layers if bits.flag() else 0)):
        for _ in range(3):
            bits.ue()
    for _ in range(6):  # sizes of blocks
        bits.ue()
    if bits.flag() and bits.flag():
        _skip_scaling_lists(bits)
    bits.skip(2)
    if bits.flag():  # pulse code modulation
        bits.skip(8)
        bits.ue()
        bits.ue()
        bits.skip(1)
    _skip_references(bits, order_bits)
    bits.skip(2)
    aspect, rate = _usability(bits) if bits.flag() else ((1, 1), None)
    return number, Sequence(
        levels, more_layers + 1, nested, chroma, planes, depths, order_bits, size, aspect, rate
    )


def _skip_sub_layers(bits: Bits, count: int) -> None:
    """Profiles and levels of sub-layers (7.3.3)."""
    told = [(bits.flag(), bits.flag()) for _ in range(count)]
    bits.skip(2 * (8 - count) if count else 0)
    for has_profile, has_level in told:
        bits.skip(88 * has_profile + 8 * has_level)


def _size(bits: Bits, chroma: int) -> tuple[int, int]:
    """Of the pictures within the conformance window."""
    width, height = bits.ue(), bits.ue()
    if bits.flag():
        left, right, top, bottom = (bits.ue() for _ in range(4))
        width -= (2 if chroma in {1, 2} else 1) * (left + right)
        height -= (2 if chroma == 1 else 1) * (top + bottom)
    return sized(width, height)


def _skip_scaling_lists(bits: Bits) -> None:
    """7.3.4."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.flag():
                bits.ue()
                continue
            for _ in range(min(64, 16 << 2 * size) + (size > 1)):
                bits.se()


def _skip_references(bits: Bits, order_bits: int) -> None:
    """Sets of reference pictures, short-term ones (7.3.7) and long-term ones."""
    before = 0
    for number in range(within(bits.ue(), 64)):
        if number and bits.flag():  # told by the difference from the set before
            bits.skip(1)
            bits.ue()
            before = sum(bits.flag() or bits.flag() for _ in range(before + 1))
        else:
            before = within(bits.ue(), 16) + within(bits.ue(), 16)
            for _ in range(before):
                bits.ue()
                bits.skip(1)
    if bits.flag():
        for _ in range(within(bits.ue(), 32)):
            bits.skip(order_bits + 1)


def _usability(bits: Bits) -> tuple[tuple[int, int], Fraction | None]:
    """The shape of a pixel and the rate of pictures (E.2.1)."""
    aspect = shape(bits)
    bits.skip(1)
    if bits.flag():
        raise NeedsRemux("The video's pictures are coded as single fields.")
    bits.skip(1)
    if bits.flag():  # the window that is shown
        for _ in range(4):
            bits.ue()
    return aspect, timing(bits)
