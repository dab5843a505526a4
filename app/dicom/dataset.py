"""A data set's elements, pulled from slices of bytes and written as DICOM JSON in passing (PS3.5 7, PS3.18 F.2)."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from sys import maxsize
from typing import Final, NamedTuple

from app.dicom import elements, tags, uids
from app.dicom.context import Context
from app.dicom.elements import CONTROL, IMPLICIT, SHORT, Plan, plan_for
from app.dicom.encapsulated import Encapsulated
from app.dicom.scan import Bulk, Limits
from app.dicom.values import base64
from app.errors import FailureReason, Refused

UNDEFINED: Final = 0xFFFFFFFF
HEADER: Final = 8
"""Bytes that tell tag, VR and length; the long form has four more."""

_short_length: Final = Struct("<H").unpack_from
_long_length: Final = Struct("<I").unpack_from


def _control(tag: str) -> Plan:
    return plan_for(tag, "", IMPLICIT)._replace(weight=CONTROL)


_ITEM: Final = _control("FFFEE000")
_ITEM_END: Final = _control("FFFEE00D")
_SEQUENCE_END: Final = _control("FFFEE0DD")
_CONTROLS: Final = {tags.key_of(plan.tag): plan for plan in (_ITEM, _ITEM_END, _SEQUENCE_END)}
IDENTITY: Final = {
    tags.SOP_CLASS_UID: "SOP Class UID",
    tags.SOP_INSTANCE_UID: "SOP Instance UID",
    tags.STUDY_INSTANCE_UID: "Study Instance UID",
    tags.SERIES_INSTANCE_UID: "Series Instance UID",
}
"""Without these an instance is not kept."""

_NO_PLANS: Final[dict[bytes, Plan]] = {}
_NOTHING: Final[frozenset[str]] = frozenset()

# How long a value may be, by weight, to be written inline: writing must not hold the loop for long.
_MOST_NUMBERS: Final = 64 << 10
_MOST_STRINGS: Final = 1 << 20
_KEY: Final = len(b'"00100010":')


class _Outer(NamedTuple):
    """What a data set goes on with when the sequence in it is over."""

    context: Context
    end: int
    last: str
    mark: int


class _Sequence:
    """An open sequence; `end` is where it must be over."""

    __slots__ = ("end", "items", "outer", "tag")

    def __init__(self, tag: str, end: int, outer: _Outer) -> None:
        self.tag, self.end, self.outer, self.items = tag, end, outer, 0


class Walker:
    """Reads elements from the data set's first byte on; told bytes, it says how many it took.

    After `run`, `skip` bytes are to pass by (through `tap`, when there is one), or `need` bytes must be at
    hand from where it stopped. Nothing is looked at twice but the few bytes of an element's header.
    """

    def __init__(self, limits: Limits, wanted: frozenset[str]) -> None:
        self.out = bytearray(b"{")
        self.fields: dict[str, bytes] = {}
        self.bulk: dict[str, Bulk] = {}
        self.known: dict[str, bytes] = {}
        self.native: Bulk | None = None
        self.encapsulated: Encapsulated | None = None
        self.is_disordered = False
        self.need, self.skip = HEADER, 0
        self.tap: Callable[[memoryview], None] | None = None
        self._context = Context()
        self._end, self._last = maxsize, ""
        self._sequences: list[_Sequence] = []
        self._fragments: Encapsulated | None = None
        self._in_items = False
        self._begin = 0  # of the item at hand
        self._elements = 0
        self._base = 0
        self._limits, self._wanted = limits, wanted
        self._ceilings = (
            limits.bulk_threshold,
            min(_MOST_NUMBERS, limits.value_bytes),
            min(_MOST_STRINGS, limits.value_bytes),
            min(_MOST_STRINGS, limits.value_bytes),
            min(_MOST_STRINGS, limits.value_bytes),
            -1,  # CONTROL
        )

    @property
    def _plans(self) -> dict[bytes, Plan]:
        """The treatments to look in: none where only items may come."""
        return _NO_PLANS if self._in_items or self._fragments else self._context.plans

    @property
    def is_between_elements(self) -> bool:
        """The data set may end here."""
        return not (self._sequences or self._fragments)

    def run(self, b: bytes, p: int, base: int) -> int:
        """Read elements from b[p:], b[0] standing at `base` of the file; says where it stopped.

        The loop is long because it is hot: a call an element would double its time.
        """
        self._base = base
        n, out, ceilings = len(b), self.out, self._ceilings
        context, plans, end = self._context, self._plans, self._end
        wanted = _NOTHING if self._sequences else self._wanted
        while True:
            if base + p >= end:
                self._close_ended()
                context, plans, end = self._context, self._plans, self._end
                wanted = _NOTHING if self._sequences else self._wanted
                continue
            if n - p < HEADER:
                self.need = HEADER
                return p
            plan = plans.get(b[p : p + context.width]) or self._look_up(b, p)
            layout, weight, start, tail, empty, write, noted, tag, _ = plan
            if layout == SHORT:
                length, v = _short_length(b, p + 6)[0], p + 8
            elif layout == IMPLICIT:
                length, v = _long_length(b, p + 4)[0], p + 8
            elif n - p < 12:
                self.need = 12
                return p
            else:
                length, v = _long_length(b, p + 8)[0], p + 12
            q = v + length
            if q > n or length > ceilings[weight] or base + q > end:
                p = self._unusual(plan, b, p, v, length)
                if self.skip or self.need:
                    return p
                context, plans, end = self._context, self._plans, self._end
                wanted = _NOTHING if self._sequences else self._wanted
                continue
            self._elements += 1
            if tag <= self._last:
                self._mind_disorder()
            self._last = tag
            mark = len(out)
            body = write(b[v:q], context.decode) if length else b""
            if body:
                out += start
                out += body
                out += tail
            elif body is None:
                self._write_unknown(tag, b[v:q])
            else:
                out += empty
            if tag in wanted:
                self.fields[tag] = bytes(out[mark + _KEY : -1])
            if noted:
                self._note(tag, b[v:q])
            plans = context.plans
            p = q

    def _look_up(self, b: bytes, p: int) -> Plan:
        """The treatment of what the tables lack: delimiters, private and odd elements."""
        self._mind_limit()
        control = _CONTROLS.get(b[p : p + 4])
        if control is not None:
            return control
        if self._fragments is not None:
            raise Refused("Encapsulated Pixel Data hold something that is no fragment.")
        if self._in_items:
            raise Refused("A sequence holds something that is no item.")
        return self._context.look_up(b, p, is_first=self._base + p == self._begin)

    def _note(self, tag: str, value: bytes) -> None:
        self._context.note(tag, value)
        if not self._sequences:
            if tag in IDENTITY:
                self._judge(IDENTITY[tag], value, self.known.get(tag, value))
            self.known[tag] = value

    @staticmethod
    def _judge(name: str, value: bytes, before: bytes) -> None:
        """What an instance is known by must be fit for an address, and one."""
        uid = uids.normalised(value)
        if not uids.is_acceptable(uid):
            raise Refused(f"The {name} is {'not valid' if uid else 'empty'}.")
        if uid != uids.normalised(before):
            raise Refused(f"The {name} is there twice, with two values.")

    def _mind_limit(self) -> None:
        """Looked at where elements are without bound: what is odd, or repeated; the dictionary is finite."""
        if self._elements > self._limits.elements:
            raise _too_much(f"The data set has more than {self._limits.elements} elements.")

    def _mind_disorder(self) -> None:
        self.is_disordered = True
        self._mind_limit()

    def _arrive(self, tag: str) -> None:
        """An element that the loop does not count itself."""
        self._elements += 1
        self._mind_limit()
        if tag <= self._last:
            self.is_disordered = True
        self._last = tag

    # --- what is no plain value ---------------------------------------------------------------------------

    def _unusual(self, plan: Plan, b: bytes, p: int, v: int, length: int) -> int:
        """Delimiters, sequences, pixels, bulk data, values still to come; says where to go on."""
        at = self._base + v
        self.need = 0
        if plan.tag.startswith("FFFE"):
            self._delimiter(plan, at, length)
        elif length == UNDEFINED:
            self._open_undefined(plan, at)
        elif at + length > self._end:
            raise Refused("An element reaches past the end of its sequence.")
        elif plan.vr == "SQ":
            self._open_sequence(plan.tag, at, at + length)
        elif plan.tag in elements.PIXELS and not self._sequences:
            self.native = self._pass_by(plan, at, length)
        elif length > self._ceiling(plan):
            if plan.vr not in elements.BULKY:
                raise _too_much(f"The value of ({plan.tag[:4]},{plan.tag[4:]}) is too long.")
            self._pass_by(plan, at, length)
        elif v + length > len(b):
            self.need = v + length - p
            return p
        else:
            self._keep(plan, b[v : v + length], at)
            return v + length
        return v

    def _ceiling(self, plan: Plan) -> int:
        if plan.weight != CONTROL:
            return self._ceilings[plan.weight]
        return self._limits.bulk_threshold if plan.tag in elements.PIXELS else self._limits.value_bytes

    def _keep(self, plan: Plan, value: bytes, at: int) -> None:
        """A value that is looked at here although it is bulk data for others (an offset table), or an icon's."""
        if len(value) > self._limits.bulk_threshold:
            self._pass_by(plan, at, len(value))
            self.skip = 0
        else:
            self._arrive(plan.tag)
            self.out += plan.start + base64(value) + plan.tail if value else plan.empty
        if plan.noted:
            self._note(plan.tag, value)

    def _pass_by(self, plan: Plan, at: int, length: int) -> Bulk:
        """Bulk data: named in the JSON, its bytes not looked at."""
        self._arrive(plan.tag)
        self.skip, self.tap = length, None
        bulk = Bulk(self._path(plan.tag), plan.vr, at, length)
        if plan.empty:
            self._write_bulk(bulk, plan.tag)
        return bulk

    def _write_bulk(self, bulk: Bulk, tag: str) -> None:
        mark = len(self.out)
        self.bulk[bulk.path] = bulk
        self.out += f'"{tag}":{{"vr":"{bulk.vr}","BulkDataURI":"@/{bulk.path}"}},'.encode()
        if not self._sequences and tag in self._wanted:
            self.fields[tag] = bytes(self.out[mark + _KEY : -1])

    def _write_unknown(self, tag: str, value: bytes) -> None:
        """Bytes that their VR cannot mean are kept as they are."""
        self.out += b'"%b":{"vr":"UN","InlineBinary":"%b"},' % (tag.encode(), base64(value))

    def _path(self, tag: str) -> str:
        return "".join(f"{sequence.tag}/{sequence.items}/" for sequence in self._sequences) + tag

    # --- sequences (PS3.5 7.5) and fragments (PS3.5 A.4) --------------------------------------------------

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

    def _open_undefined(self, plan: Plan, at: int) -> None:
        if plan.vr in {"SQ", "UN"}:
            self._open_sequence(plan.tag, at, self._end)
        elif plan.vr in {"OB", "OW"}:
            self._arrive(plan.tag)
            vr = "OB" if plan.layout == IMPLICIT else plan.vr
            self._fragments = Encapsulated(Bulk(self._path(plan.tag), vr, at, 0))
            if plan.tag == tags.PIXEL_DATA and not self._sequences:
                self.encapsulated = self._fragments
        else:
            raise Refused(f"The length of ({plan.tag[:4]},{plan.tag[4:]}) is undefined.")

    def _fragment(self, fragments: Encapsulated, plan: Plan, at: int, length: int) -> None:
        if plan is _ITEM:
            self._elements += 1
            if length == UNDEFINED or at + length > self._end:
                raise Refused("A fragment of Pixel Data has no valid length.")
            fragments.begin(at, length)
            self.skip, self.tap = length, fragments.take
        elif plan is _SEQUENCE_END:
            bulk = fragments.finish(at - HEADER)
            self._write_bulk(bulk, bulk.path[-8:])
            self._fragments, self.tap = None, None
        else:
            raise Refused("Encapsulated Pixel Data hold something that is no fragment.")

    def _open_sequence(self, tag: str, at: int, end: int) -> None:
        self._arrive(tag)
        if len(self._sequences) >= self._limits.depth:
            raise _too_much(f"Sequences are nested more than {self._limits.depth} deep.")
        outer = _Outer(self._context, self._end, self._last, len(self.out))
        self._sequences.append(_Sequence(tag, end, outer))
        self.out += b'"%b":{"vr":"SQ","Value":[' % tag.encode()
        self._expect_items(end)

    def _expect_items(self, end: int) -> None:
        self._in_items, self._end = True, end

    def _open_item(self, at: int, length: int) -> None:
        sequence = self._sequences[-1]
        end = sequence.end if length == UNDEFINED else at + length
        if end > sequence.end:
            raise Refused("An item reaches past the end of its sequence.")
        self._elements += 1
        sequence.items += 1
        self._context = sequence.outer.context.item()
        self._in_items, self._end = False, end
        self._begin, self._last = at, ""
        self.out += b"{"

    def _close_item(self) -> None:
        self._close_with(b"}")
        self._expect_items(self._sequences[-1].end)

    def _close_sequence(self) -> None:
        sequence = self._sequences.pop()
        if sequence.items:
            self._close_with(b"]}")
        else:
            del self.out[-len(b',"Value":[') :]
            self.out += b"},"
        self._context, self._end, self._last, mark = sequence.outer
        self._in_items = False
        if not self._sequences and sequence.tag in self._wanted:
            self.fields[sequence.tag] = bytes(self.out[mark + _KEY : -1])

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
        """What was written, as one object; the walk is over."""
        self._close_with(b"}")
        return bytes(self.out[:-1])


def _too_much(sentence: str) -> Refused:
    return Refused(sentence, FailureReason.OUT_OF_RESOURCES)
