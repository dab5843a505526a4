"""H.264: what its parameter sets and slice headers tell of pictures and their order (H.264 7.3, 7.4.1.2.4, 8.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from app.video import NeedsRemux
from app.video.bits import DAMAGED, Bits, within
from app.video.boxes import Box, box
from app.video.nal import Active, Picture, Role, Sets, Unit, sei_types
from app.video.visual import shape, sized, timing, visual

_SLICE, _IDR, _SEI, _SPS, _PPS = 1, 5, 6, 7, 8
_PARTITIONS: Final = frozenset((2, 3, 4))
_LEADING: Final = frozenset((_SEI, _SPS, _PPS, 9, *range(14, 19)))  # what begins an access unit (7.4.1.2.3)
_RECOVERY_POINT: Final = 6

_CHROMA_PROFILES: Final = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
_BARE_PROFILES: Final = frozenset((66, 77, 88))  # their avcC ends before the chroma format (14496-15 5.3.3.1)
_APART: Final = "The video's fields do not belong together."
_SHORT: Final = 48  # bytes that hold nearly every slice header; all that was kept holds each


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence parameter set (7.3.2.1.1)."""

    profile: bytes
    chroma: int
    planes: bool
    depths: tuple[int, int]
    frame_num_bits: int
    order_type: int
    order_bits: int
    always_zero: bool
    non_reference: int
    bottom: int
    cycle: tuple[int, ...]
    frames_only: bool
    size: tuple[int, int]
    aspect: tuple[int, int]
    rate: Fraction | None


@dataclass(frozen=True, slots=True)
class Parameters:
    """A picture parameter set (7.3.2.2)."""

    sequence: int
    bottom_order: bool
    references: tuple[int, int]
    weighted: bool
    weighted_b: bool
    redundant: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """As much of a slice header as tells one picture from the next, and their order (7.3.3)."""

    parameters: int
    is_reference: bool
    is_idr: bool
    idr: int
    frame_num: int
    field: int
    """0 for a frame, 1 for a top and 2 for a bottom field."""
    lsb: int
    deltas: tuple[int, int]
    redundant: int = 0
    resets: bool = False  # memory_management_control_operation 5

    def same_picture(self, other: Slice) -> bool:
        """Whether both are of one picture (7.4.1.2.4)."""
        return (
            self.frame_num == other.frame_num
            and self.field == other.field
            and self.lsb == other.lsb
            and self.deltas == other.deltas
            and self.parameters == other.parameters
            and self.is_reference == other.is_reference
            and self.is_idr == other.is_idr
            and self.idr == other.idr
        )

    def completes(self, other: Slice) -> bool:
        """Whether it begins the second field of the frame that the other is the first of (3.30)."""
        both = self.field + other.field == 3 and self.frame_num == other.frame_num and not self.is_idr
        if both and self.is_reference != other.is_reference:
            raise NeedsRemux(_APART)
        return both


class Stream:
    """An H.264 stream, told its units in turn."""

    def __init__(self) -> None:
        self.picture = Picture(0, is_sync=False)
        self._sets = Sets()
        self._active = Active[Sequence, Parameters]()
        self._slice: Slice | None = None
        self._is_whole = True  # what came before does not wait for its second field
        self._recovers = False
        self._order = Order()

    @property
    def rate(self) -> Fraction | None:
        """Pictures a second, as the stream tells."""
        return self._active.rate

    def take(self, unit: Unit) -> Role:
        """The next unit."""
        if unit.head[0] & 0x80:
            raise NeedsRemux(DAMAGED)
        kind = unit.head[0] & 31
        if kind in {_SLICE, _IDR}:
            return self._take_slice(unit)
        if kind in _PARTITIONS:
            raise NeedsRemux("The video's slices are partitioned.")
        if kind in {_SPS, _PPS}:
            self._take_set(kind, bytes([0x60 | kind]) + unit.whole[1:])
            return Role.DESCRIBES
        if kind == _SEI and _RECOVERY_POINT in sei_types(unit.head[1:]):
            self._recovers = True
        return Role.LEADS if kind in _LEADING else Role.FOLLOWS

    def _take_set(self, kind: int, content: bytes) -> None:
        if self._sets.has(kind, content):
            return
        bits = Bits(content[1:])
        if kind == _SPS:
            number, sequence = _sequence(bits)
            self._sets.add(kind, number, content)
            self._active.sequences[number] = sequence
        else:
            number, parameters = _parameters(bits)
            self._sets.add(kind, number, content)
            self._active.parameters[number] = parameters

    def _take_slice(self, unit: Unit) -> Role:
        try:
            found = self._read(unit.head[:_SHORT])
        except NeedsRemux:
            found = self._read(unit.head)
        if found.redundant or (self._slice is not None and found.same_picture(self._slice)):
            return Role.CONTINUES
        second = self._slice is not None and not self._is_whole and found.completes(self._slice)
        self._is_whole = second or not found.field
        self._slice = found
        parameters, sequence = self._active.of(found.parameters)
        self._active.use(parameters)
        order = self._order.of(found, sequence)
        if second:  # both fields are one sample (14496-15 5.3.2)
            return Role.CONTINUES
        self.picture = Picture(order, found.is_idr or self._recovers)
        self._recovers = False
        return Role.BEGINS

    def _read(self, head: bytes) -> Slice:
        bits, kind, is_reference = Bits(head[1:]), head[0] & 31, bool(head[0] & 0x60)
        bits.ue()  # first_mb_in_slice
        slice_type, number = bits.ue() % 5, bits.ue()
        parameters, sequence = self._active.of(number)
        bits.skip(2 if sequence.planes else 0)
        frame_num = bits.u(sequence.frame_num_bits)
        field = 0 if sequence.frames_only or not bits.flag() else 1 + bits.u(1)
        idr = bits.ue() if kind == _IDR else 0
        lsb, deltas = _ordered(bits, sequence, has_bottom=parameters.bottom_order and not field)
        redundant = bits.ue() if parameters.redundant else 0
        resets = is_reference and kind != _IDR and _resets(bits, slice_type, sequence, parameters)
        if resets and field:
            raise NeedsRemux(_APART)
        return Slice(
            number, is_reference, kind == _IDR, idr, frame_num, field, lsb, deltas, redundant, resets=resets
        )

    def entry(self) -> Box:
        """The sample entry `avc1` with every parameter set (ISO/IEC 14496-15 5.4.2.1)."""
        active, counts = self._active.sequence, [len(self._sets.of(kind)) for kind in (_SPS, _PPS)]
        if counts[0] > 31 or counts[1] > 255:
            raise NeedsRemux("The video's stream has too many parameter sets.")
        config = b"\1" + active.profile + b"\xff" + bytes([0xE0 | counts[0]]) + self._sets.counted(_SPS)
        config += bytes([counts[1]]) + self._sets.counted(_PPS)
        if active.profile[0] not in _BARE_PROFILES:
            depths = [0xF8 | depth for depth in active.depths]
            config += bytes([0xFC | active.chroma, *depths, 0])
        return visual(b"avc1", active.size, active.aspect, box(b"avcC", config))


class Order:
    """Decodes picture order counts (8.2.1); what comes after an IDR picture is shown after all before it."""

    def __init__(self) -> None:
        self._epoch = 0
        self._msb = self._lsb = self._offset = self._frame_num = 0

    def of(self, slice_: Slice, sequence: Sequence) -> int:
        """Where the picture stands among all."""
        if slice_.is_idr:
            self._epoch += 1
            self._msb = self._lsb = self._offset = self._frame_num = 0
        top, bottom = (
            self._by_lsb(slice_, sequence) if sequence.order_type == 0 else self._by_number(slice_, sequence)
        )
        count = (min(top, bottom), top, bottom)[slice_.field]
        if slice_.resets:  # it is shown as an IDR picture would be, and counted anew from (8.2.1)
            self._epoch += 1
            self._msb, self._lsb, self._offset, self._frame_num = 0, top - count, 0, 0
            count = 0
        within(abs(count), 1 << 32)
        return (self._epoch << 34) + count

    def _by_lsb(self, slice_: Slice, sequence: Sequence) -> tuple[int, int]:
        """Type 0 (8.2.1.1)."""
        whole = 1 << sequence.order_bits
        msb, step = self._msb, slice_.lsb - self._lsb
        if step <= -whole // 2:
            msb += whole
        elif step > whole // 2:
            msb -= whole
        if slice_.is_reference:
            self._msb, self._lsb = msb, slice_.lsb
        top = msb + slice_.lsb
        return top, top + slice_.deltas[0]

    def _by_number(self, slice_: Slice, sequence: Sequence) -> tuple[int, int]:
        """Types 1 and 2 (8.2.1.2, 8.2.1.3)."""
        if self._frame_num > slice_.frame_num:
            self._offset += 1 << sequence.frame_num_bits
        self._frame_num = slice_.frame_num
        number = self._offset + slice_.frame_num
        if sequence.order_type == 2:
            count = 2 * number - (not slice_.is_reference)
            return count, count
        cycle = sequence.cycle
        number = (number - (not slice_.is_reference and number > 0)) if cycle else 0
        count = 0 if slice_.is_reference else sequence.non_reference
        if number > 0:
            cycles, place = divmod(number - 1, len(cycle))
            count += cycles * sum(cycle) + sum(cycle[: place + 1])
        top = count + slice_.deltas[0]
        return top, top + sequence.bottom + slice_.deltas[1]


def _ordered(bits: Bits, sequence: Sequence, *, has_bottom: bool) -> tuple[int, tuple[int, int]]:
    """What the slice header says of the picture's order."""
    if sequence.order_type == 0:
        lsb = bits.u(sequence.order_bits)
        return lsb, (bits.se() if has_bottom else 0, 0)
    if sequence.order_type == 1 and not sequence.always_zero:
        return 0, (bits.se(), bits.se() if has_bottom else 0)
    return 0, (0, 0)


def _resets(bits: Bits, slice_type: int, sequence: Sequence, parameters: Parameters) -> bool:
    """Whether the picture forgets all before it: read over what stands in between (7.3.3 to 7.3.3.3)."""
    is_b, is_intra = slice_type == 1, slice_type in {2, 4}
    references = list(parameters.references)
    if is_b:
        bits.skip(1)
    if not is_intra and bits.flag():
        references = [bits.ue() + 1, bits.ue() + 1 if is_b else 0]
    within(max(references), 32)
    lists = 0 if is_intra else 1 + is_b
    for _ in range(lists):
        if bits.flag():
            while bits.ue() != 3:
                bits.ue()
    if (parameters.weighted and not is_intra and not is_b) or (parameters.weighted_b and is_b):
        _skip_weights(bits, references[:lists], has_chroma=sequence.chroma != 0 and not sequence.planes)
    return bits.flag() and 5 in _operations(bits)


def _skip_weights(bits: Bits, references: list[int], *, has_chroma: bool) -> None:
    """The table of prediction weights (7.3.3.2)."""
    bits.ue()
    if has_chroma:
        bits.ue()
    for _ in range(sum(references)):
        for values in (2, 4) if has_chroma else (2,):
            if bits.flag():
                for _ in range(values):
                    bits.se()


def _operations(bits: Bits) -> set[int]:
    """The memory management control operations (7.3.3.3)."""
    found = set[int]()
    while operation := bits.ue():
        found.add(operation)
        for _ in range({1: 1, 2: 1, 3: 2, 4: 1, 6: 1}.get(operation, 0)):
            bits.ue()
    return found


def _sequence(bits: Bits) -> tuple[int, Sequence]:
    profile = bytes(bits.u(8) for _ in range(3))
    number = within(bits.ue(), 31)
    chroma, planes, depths = 1, False, (0, 0)
    if profile[0] in _CHROMA_PROFILES:
        chroma = within(bits.ue(), 3)
        planes = chroma == 3 and bits.flag()
        depths = (within(bits.ue(), 6), within(bits.ue(), 6))
        bits.skip(1)
        if bits.flag():
            for place in range(8 if chroma != 3 else 12):
                if bits.flag():
                    _skip_scaling_list(bits, 16 if place < 6 else 64)
    frame_num_bits, order_type = within(bits.ue(), 12) + 4, within(bits.ue(), 2)
    order_bits = within(bits.ue(), 12) + 4 if order_type == 0 else 0
    always_zero, non_reference, bottom, cycle = False, 0, 0, tuple[int, ...]()
    if order_type == 1:
        always_zero, non_reference, bottom = bits.flag(), bits.se(), bits.se()
        cycle = tuple(bits.se() for _ in range(within(bits.ue(), 255)))
    bits.ue()
    bits.skip(1)
    width, height = 16 * (bits.ue() + 1), 16 * (bits.ue() + 1)
    frames_only = bits.flag()
    height *= 1 if frames_only else 2
    bits.skip(1 if frames_only else 2)
    if bits.flag():
        steps = (2 if chroma in {1, 2} else 1, (2 if chroma == 1 else 1) * (1 if frames_only else 2))
        edges = [bits.ue() for _ in range(4)]
        width -= steps[0] * (edges[0] + edges[1])
        height -= steps[1] * (edges[2] + edges[3])
    size = sized(width, height)
    aspect, rate = _usability(bits) if bits.flag() else ((1, 1), None)
    return number, Sequence(
        profile, chroma, planes, depths, frame_num_bits, order_type, order_bits, always_zero, non_reference,
        bottom, cycle, frames_only, size, aspect, rate,
    )  # fmt: skip


def _skip_scaling_list(bits: Bits, size: int) -> None:
    """7.3.2.1.1.1: it may end early, with a scale of zero."""
    scale = 8
    for _ in range(size):
        scale = (scale + bits.se()) % 256
        if scale == 0:
            return


def _usability(bits: Bits) -> tuple[tuple[int, int], Fraction | None]:
    """The shape of a pixel and the rate of pictures (E.1.1); a tick is a field's time."""
    aspect, rate = shape(bits), timing(bits)
    return aspect, rate / 2 if rate else None


def _parameters(bits: Bits) -> tuple[int, Parameters]:
    number, sequence = bits.ue(), bits.ue()
    bits.skip(1)
    bottom_order = bits.flag()
    if bits.ue():
        raise NeedsRemux("The video's slices are in groups.")
    references = (within(bits.ue(), 31) + 1, within(bits.ue(), 31) + 1)
    weighted, weighted_b = bits.flag(), bits.u(2) == 1
    for _ in range(3):
        bits.se()
    bits.skip(2)
    return number, Parameters(sequence, bottom_order, references, weighted, weighted_b, bits.flag())
