"""Where in a data set a walk stands: open sequences and items, fragments, and what was written so far (PS3.5 7.5, A.4)."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from sys import maxsize
from typing import Final, NamedTuple

from app.dicom import bulk_path, order, tags
from app.dicom.context import Context
from app.dicom.elements import CONTROL, IMPLICIT, Plan, plan_for
from app.dicom.encapsulated import Encapsulated, Sink
from app.dicom.scan import Bulk, Limits
from app.errors import FailureReason, Refused

UNDEFINED: Final = 0xFFFFFFFF
HEADER: Final = 8
"""Bytes that tell tag, VR and length; the long form has four more."""


def _control(tag: str) -> Plan:
    return plan_for(tag, "", IMPLICIT)._replace(weight=CONTROL)


_ITEM: Final = _control("FFFEE000")
_ITEM_END: Final = _control("FFFEE00D")
_SEQUENCE_END: Final = _control("FFFEE0DD")
CONTROLS: Final = {tags.key_of(plan.tag): plan for plan in (_ITEM, _ITEM_END, _SEQUENCE_END)}
_KEY: Final = len(b'"00100010":')
_LONGEST_FIELD: Final = 256 << 10
_BYTES_OF_EFFORT: Final = 6


class _Outer(NamedTuple):
    """What a data set goes on with when the sequence in it is over."""

    context: Context
    end: int
    last: str
    disordered: bool
    mark: int


class _Sequence:
    """An open sequence; `end` is where it must be over, `mark` where its last item's JSON begins."""

    __slots__ = ("end", "items", "mark", "outer", "step", "tag")

    def __init__(self, tag: str, step: str, end: int, outer: _Outer) -> None:
        self.tag, self.step, self.end, self.outer = tag, step, end, outer
        self.items = self.mark = 0


class Nesting:
    """Follows items and fragments, and writes the brackets of the JSON."""

    def __init__(self, limits: Limits, wanted: frozenset[str]) -> None:
        self.out = bytearray(b"{")
        self.fields: dict[str, bytes] = {}
        self.bulk: dict[str, Bulk] = {}
        self.encapsulated: Encapsulated | None = None
        self.sink: Sink | None = None  # told the stream that all fragments of the instance's pixels make
        self.elements = 0
        self.effort = 0  # beyond what elements tell, in elements
        self.skip = 0
        self.tap: Callable[[memoryview], None] | None = None
        self._context = Context()
        self._end, self._last, self._disordered = maxsize, "", False
        self._marks = array("Q")  # where the outermost elements begin
        self._sequences: list[_Sequence] = []
        self._fragments: Encapsulated | None = None
        self._fragments_tag = ""
        self._in_items = False
        self._begin = 0  # of the item at hand
        self._limits, self._wanted = limits, wanted

    @property
    def is_between_elements(self) -> bool:
        """The data set may end here."""
        return not (self._sequences or self._fragments)

    def _mind_limit(self) -> None:
        """Looked at where elements are without bound: what is odd, or repeated; the dictionary is finite."""
        if self.elements > self._limits.elements:
            raise too_much(f"The data set has more than {self._limits.elements} elements.")

    def _arrive(self, tag: str) -> None:
        """An element that the hot loop does not count itself."""
        self.elements += 1
        self._mind_limit()
        if tag <= self._last:
            self._disordered = True
        self._last = tag
        if not self._sequences:
            self._marks.append(len(self.out))

    def _write_bulk(self, bulk: Bulk, tag: str) -> None:
        if len(self.bulk) >= self._limits.bulk_values:
            raise too_much(f"The data set has more than {self._limits.bulk_values} bulk values.")
        mark = len(self.out)
        self.bulk[bulk.path] = bulk
        self.out += f'"{tag}":{{"vr":"{bulk.vr}","BulkDataURI":"@/{bulk.path}"}},'.encode()
        self._tell(tag, mark)

    def _tell(self, tag: str, mark: int) -> None:
        """A wanted attribute was written from `mark` on."""
        if not self._sequences and tag in self._wanted and len(self.out) - mark <= _LONGEST_FIELD:
            self.fields[tag] = bytes(self.out[mark + _KEY : -1])

    def _path(self, tag: str) -> str:
        """How a value in the data set at hand is addressed."""
        outer = "".join(f"{sequence.step}/{sequence.items}/" for sequence in self._sequences)
        return outer + self._step(tag)

    def _step(self, tag: str) -> str:
        return bulk_path.step(tag, self._context.creator_of(tag))

    def _delimiter(self, plan: Plan, at: int, length: int) -> None:
        if self._fragments is not None:
            self._fragment(self._fragments, plan, at, length)
        elif plan is _ITEM and self._in_items:
            self._open_item(at, length)
        elif plan is _ITEM_END and self._sequences and not self._in_items:
            self._close_item()
        elif plan is _SEQUENCE_END and self._in_items:
            self._close_sequence()
        else:
            raise Refused("An item or a delimiter stands where none belongs.")

    def _open_undefined(self, plan: Plan, at: int, *, is_unknown: bool) -> None:
        """A sequence, whatever the dictionary says of a tag that came as UN or without a VR; or fragments."""
        if is_unknown or plan.vr in {"SQ", "UN"}:
            self._open_sequence(plan.tag, at, self._end)
        elif plan.vr in {"OB", "OW"}:
            self._arrive(plan.tag)
            vr = "OB" if plan.layout == IMPLICIT else plan.vr
            self._fragments_tag = plan.tag
            self._fragments = Encapsulated(Bulk(self._path(plan.tag), vr, at, 0))
            if plan.tag == tags.PIXEL_DATA and not self._sequences:
                self.encapsulated = self._fragments
                self.encapsulated.sink = self.sink
        else:
            raise Refused(f"The length of ({plan.tag[:4]},{plan.tag[4:]}) is undefined.")

    def _fragment(self, fragments: Encapsulated, plan: Plan, at: int, length: int) -> None:
        if plan is _ITEM:
            self.elements += 1
            if length == UNDEFINED or at + length > self._end:
                raise Refused("A fragment of Pixel Data has no valid length.")
            fragments.begin(at, length)
            self.skip, self.tap = length, fragments.take
        elif plan is _SEQUENCE_END:
            self._write_bulk(fragments.finish(at - HEADER), self._fragments_tag)
            self._fragments, self.tap = None, None
        else:
            raise Refused("Encapsulated Pixel Data hold something that is no fragment.")

    def _open_sequence(self, tag: str, at: int, end: int) -> None:
        self._arrive(tag)
        if len(self._sequences) >= self._limits.depth:
            raise too_much(f"Sequences are nested more than {self._limits.depth} deep.")
        outer = _Outer(self._context, self._end, self._last, self._disordered, len(self.out))
        self._sequences.append(_Sequence(tag, self._step(tag), end, outer))
        self.out += b'"%b":{"vr":"SQ","Value":[' % tag.encode()
        self._expect_items(end)

    def _expect_items(self, end: int) -> None:
        self._in_items, self._end = True, end

    def _open_item(self, at: int, length: int) -> None:
        sequence = self._sequences[-1]
        end = sequence.end if length == UNDEFINED else at + length
        if end > sequence.end:
            raise Refused("An item reaches past the end of its sequence.")
        self.elements += 1
        sequence.items += 1
        sequence.mark = len(self.out)
        self._context = sequence.outer.context.item()
        self._in_items, self._end = False, end
        self._begin, self._last, self._disordered = at, "", False
        self.out += b"{"

    def _close_item(self) -> None:
        sequence = self._sequences[-1]
        self._close_with(b"}")
        if self._disordered:
            self._order_item(sequence.mark)
        sequence.outer.context.inherit(self._context)
        self._expect_items(sequence.end)

    def _order_item(self, mark: int) -> None:
        length = len(self.out) - mark
        if length > order.LONGEST_ITEM:
            return
        self.out[mark:] = order.ascending_item(bytes(self.out[mark:-1])) + b","
        self._context.held.clear()  # they are elsewhere now
        self.effort += length >> _BYTES_OF_EFFORT

    def _close_sequence(self) -> None:
        sequence = self._sequences.pop()
        if sequence.items:
            self._close_with(b"]}")
        else:
            del self.out[-len(b',"Value":[') :]
            self.out += b"},"
        self._context, self._end, self._last, self._disordered, mark = sequence.outer
        self._in_items = False
        self._tell(sequence.tag, mark)

    def _close_ended(self) -> None:
        """A defined length is used up: the item, or the sequence, is over."""
        if self._fragments is not None:
            raise Refused("Encapsulated Pixel Data reach past the end of their sequence.")
        if self._in_items:
            self._close_sequence()
        else:
            self._close_item()

    def _close_with(self, brackets: bytes) -> None:
        if self.out.endswith(b","):
            del self.out[-1:]
        self.out += brackets + b","

    def json(self) -> bytes:
        """What was written, as one object in the order of tags; the walk is over."""
        if self._disordered:
            self.out = order.ascending(self.out, self._marks)
        self._close_with(b"}")
        del self.out[-1:]
        json = bytes(self.out)
        self.out = bytearray()
        return json


def too_much(sentence: str) -> Refused:
    """A limit is exceeded."""
    return Refused(sentence, FailureReason.OUT_OF_RESOURCES)
