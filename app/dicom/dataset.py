"""A data set's elements, pulled from slices of bytes and written as DICOM JSON in passing (PS3.5 7, PS3.18 F.2)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from app.dicom import elements, tags, uids
from app.dicom.elements import CONTROL, IMPLICIT, SHORT, Plan
from app.dicom.nesting import CONTROLS, HEADER, UNDEFINED, Nesting, too_much
from app.dicom.scan import Bulk, Limits
from app.dicom.values import base64, write_binary
from app.errors import Refused

_short_length: Final = Struct("<H").unpack_from
_long_length: Final = Struct("<I").unpack_from

IDENTITY: Final = {
    tags.SOP_CLASS_UID: "SOP Class UID",
    tags.SOP_INSTANCE_UID: "SOP Instance UID",
    tags.STUDY_INSTANCE_UID: "Study Instance UID",
    tags.SERIES_INSTANCE_UID: "Series Instance UID",
}
"""Without these an instance is not kept."""

_NO_PLANS: Final[dict[bytes, Plan]] = {}

# How long a value may be by weight, so that each is written within milliseconds.
_MOST_NUMBERS: Final = 64 << 10
_MOST_DECIMALS: Final = 256 << 10
_MOST_PROSE: Final = 1 << 20
_MOST_STRINGS: Final = 64 << 10
_EFFORTLESS: Final = 16 << 10
_KEY: Final = len(b'"00100010":')


class Walker(Nesting):
    """Reads elements from the data set's first byte on; told bytes, it says how many it took.

    After `run`, `skip` bytes are to pass by (through `tap`, when there is one), or `need` bytes must be at
    hand from where it stopped, or neither: then it goes on there. Nothing is looked at twice but the few bytes
    of an element's header.
    """

    def __init__(self, limits: Limits, wanted: frozenset[str]) -> None:
        super().__init__(limits, wanted)
        self.known: dict[str, bytes] = {}
        self.native: Bulk | None = None
        self.need = HEADER
        self._base = 0
        self._ceilings = (
            limits.bulk_threshold,
            min(_MOST_NUMBERS, limits.value_bytes),
            min(_MOST_DECIMALS, limits.value_bytes),
            min(_MOST_STRINGS, limits.value_bytes),
            min(_MOST_PROSE, limits.value_bytes),
            -1,  # CONTROL
        )

    @property
    def _plans(self) -> dict[bytes, Plan]:
        """The treatments to look in: none where only items may come."""
        return _NO_PLANS if self._in_items or self._fragments else self._context.plans

    def run(self, b: bytes, p: int, base: int, until: int) -> int:
        """Read the elements that begin in b[p:until], b[0] standing at `base` of the file; says where it stopped.

        The loop is long because it is hot: a call an element would double its time.
        """
        self._base = base
        n, out, ceilings, wanted, marks = len(b), self.out, self._ceilings, self._wanted, self._marks
        until = min(until, n - HEADER + 1)
        context, plans, room, is_outermost = self._context, self._plans, self._end - base, not self._sequences
        stop, bound = min(until, room), min(n, room)
        while True:
            if p >= stop:
                if p < room:
                    self.need = HEADER if n - p < HEADER else 0
                    return p
                self._close_ended()
                if self.effort:
                    self.need = 0
                    return p
                context, plans, room, is_outermost = (
                    self._context, self._plans, self._end - base, not self._sequences,
                )  # fmt: skip
                stop, bound = min(until, room), min(n, room)
                continue
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
            if q > bound or length > ceilings[weight]:
                p = self._unusual(plan, b, p, v, length)
                if self.skip or self.need or self.effort:
                    return p
                context, plans, room, is_outermost = (
                    self._context, self._plans, self._end - base, not self._sequences,
                )  # fmt: skip
                stop, bound = min(until, room), min(n, room)
                continue
            self.elements += 1
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
            if is_outermost:
                marks.append(mark)
                if tag in wanted:
                    self.fields[tag] = bytes(out[mark + _KEY : -1])
            if noted:
                self._note(tag, b[v:q])
                plans = context.plans
            p = q

    def _look_up(self, b: bytes, p: int) -> Plan:
        """The treatment of what the tables lack: delimiters, private and odd elements."""
        self._mind_limit()
        control = CONTROLS.get(b[p : p + 4])
        if control is not None:
            return control
        if self._fragments is not None:
            raise Refused("Encapsulated Pixel Data hold something that is no fragment.")
        if self._in_items:
            raise Refused("A sequence holds something that is no item.")
        return self._context.look_up(b, p, is_first=self._base + p == self._begin)

    def _note(self, tag: str, value: bytes) -> None:
        self._context.note(tag, value, self.out)
        if not self._sequences and not tags.is_private(tag):
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

    def _mind_disorder(self) -> None:
        self._disordered = True
        self._mind_limit()

    # --- what is no plain value ---------------------------------------------------------------------------

    def _unusual(self, plan: Plan, b: bytes, p: int, v: int, length: int) -> int:
        """Delimiters, sequences, pixels, bulk data, values still to come; says where to go on."""
        at = self._base + v
        self.need = 0
        if plan.tag.startswith("FFFE"):
            self._delimiter(plan, at, length)
        elif length == UNDEFINED:
            is_implicit = plan.layout == IMPLICIT and plan.vr not in {"OB", "OW"}
            self._open_undefined(plan, at, is_unknown=is_implicit or b[p + 4 : p + 6] == b"UN")
        elif at + length > self._end:
            raise Refused("An element reaches past the end of its sequence.")
        elif plan.vr == "SQ":
            self._open_sequence(plan.tag, at, at + length)
        elif plan.tag in elements.PIXELS and not self._sequences:
            self._meet_pixels(self._pass_by(plan, at, length))
        elif length > self._ceiling(plan):
            self._pass_by_if_it_may(plan, at, length)
        elif v + length > len(b):
            self.need = v + length - p
            return p
        else:
            self._keep(plan, b[v : v + length], at)
            self.effort += length >> 6 if length > _EFFORTLESS else 0
            return v + length
        return v

    def _meet_pixels(self, bulk: Bulk) -> None:
        """Of several pixel elements, which no object should have, Pixel Data count."""
        if self.native is None or bulk.path == tags.PIXEL_DATA:
            self.native = bulk

    def _ceiling(self, plan: Plan) -> int:
        if plan.weight != CONTROL:
            return self._ceilings[plan.weight]
        if plan.tag in tags.SIGNED_OR_NOT:
            return self._ceilings[elements.NUMBERS]
        return self._limits.value_bytes if plan.tag in elements.TABLES else self._limits.bulk_threshold

    def _pass_by_if_it_may(self, plan: Plan, at: int, length: int) -> None:
        """A long value is bulk data; where its VR must not be (PS3.18 Table F.2.3-1), as of an unknown VR."""
        if plan.vr not in elements.BULKY:
            if length > self._limits.value_bytes:
                raise too_much(f"The value of ({plan.tag[:4]},{plan.tag[4:]}) is too long.")
            plan = plan._replace(vr="UN")
        self._pass_by(plan, at, length)

    def _keep(self, plan: Plan, value: bytes, at: int) -> None:
        """A value that is looked at here: an offset table, an icon's pixels, one whose VR another value decides."""
        plan, is_held = self._context.decided(plan)
        if plan.weight == CONTROL and len(value) > self._limits.bulk_threshold:
            self._pass_by(plan, at, len(value))
            self.skip = 0
        else:
            self._arrive(plan.tag)
            self._write(plan, value, is_held=is_held)
        if plan.noted:
            self._note(plan.tag, value)

    def _write(self, plan: Plan, value: bytes, *, is_held: bool) -> None:
        write = write_binary if plan.weight == CONTROL else plan.write
        body = write(value, self._context.decode) if value else b""
        if body is None:
            self._write_unknown(plan.tag, value)
            return
        if is_held:
            self._context.hold(len(self.out), plan.tag, value)
        self.out += plan.start + body + plan.tail if body else plan.empty

    def _pass_by(self, plan: Plan, at: int, length: int) -> Bulk:
        """Bulk data: named in the JSON, its bytes not looked at."""
        self._arrive(plan.tag)
        self.skip, self.tap = length, None
        bulk = Bulk(self._path(plan.tag), plan.vr, at, length)
        if plan.empty:
            self._write_bulk(bulk, plan.tag)
        return bulk

    def _write_unknown(self, tag: str, value: bytes) -> None:
        """Bytes that their VR cannot mean are kept as they are."""
        self.out += b'"%b":{"vr":"UN","InlineBinary":"%b"},' % (tag.encode(), base64(value))
