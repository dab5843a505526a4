"""A data set's elements, pulled from slices of bytes and written as DICOM JSON in passing (PS3.5 7, PS3.18 F.2)."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from sys import maxsize
from typing import Final

from app.dicom import charset, elements, tags
from app.dicom.elements import CONTROL, IMPLICIT, LONG, SHORT, Plan, layout_of, plan_for
from app.dicom.encapsulated import Encapsulated
from app.dicom.scan import Bulk, Limits
from app.dicom.values import write_binary
from app.errors import FailureReason, Refused

UNDEFINED: Final = 0xFFFFFFFF
_HEADER: Final = 8  # bytes that tell tag, VR and length, but for the long form, which has four more
_short_length: Final = Struct("<H").unpack_from
_long_length: Final = Struct("<I").unpack_from


def _control(tag: str) -> Plan:
    return plan_for(tag, "", IMPLICIT)._replace(weight=CONTROL)


_ITEM: Final = _control("FFFEE000")
_ITEM_END: Final = _control("FFFEE00D")
_SEQUENCE_END: Final = _control("FFFEE0DD")
_CONTROLS: Final = {tags.key_of(plan.tag): plan for plan in (_ITEM, _ITEM_END, _SEQUENCE_END)}
_NO_PLANS: Final[dict[bytes, Plan]] = {}
_NOTHING: Final[frozenset[str]] = frozenset()

# How long a value may be by weight: numbers and lists of strings are slow to write, so they end sooner.
_MOST_NUMBERS: Final = 64 << 10
_MOST_STRINGS: Final = 1 << 20


class _Level:
    """An open sequence, and what its data set goes on with when it closes."""

    __slots__ = (
        "creators",
        "decode",
        "end",
        "items",
        "last",
        "mark",
        "outer_end",
        "plans",
        "signed",
        "tag",
        "width",
    )

    def __init__(self, tag: str, end: int, mark: int, outer: Walker) -> None:
        self.tag, self.end, self.mark, self.items = tag, end, mark, 0
        self.outer_end, self.plans, self.width = outer.end, outer.plans, outer.width
        self.decode, self.last = outer.decode, outer.last
        self.signed, self.creators = outer.signed, outer.creators


class Walker:
    """Reads elements from the data set's first byte on; told bytes, it says how many it took.

    After `run`, `skip` bytes are to pass by (through `tap`, when there is one), or `need` bytes must be at
    hand from where it stopped. Nothing is ever looked at twice but the few bytes of an element's header.
    """

    def __init__(self, limits: Limits, wanted: frozenset[str], *, implicit: bool) -> None:
        self.out = bytearray(b"{")
        self.fields: dict[str, bytes] = {}
        self.bulk: list[Bulk] = []
        self.known: dict[str, bytes] = {}
        self.native: Bulk | None = None
        self.encapsulated: Encapsulated | None = None
        self.disordered = False
        self.need, self.skip = _HEADER, 0
        self.tap: Callable[[memoryview], None] | None = None
        self.levels: list[_Level] = []
        self.end, self.last, self.signed = maxsize, "", False
        self.plans, self.width = _NO_PLANS, 6
        self.decode: charset.Decode = charset.default
        self.creators: dict[str, str] = {}
        self._implicit: bool | None = implicit  # as labelled, until the first element has shown how it is
        self._fragments: Encapsulated | None = None
        self._in_items = False
        self._begin = 0
        self._elements = 0
        self._base = 0
        self._limits, self._wanted = limits, wanted
        self._ceilings = (
            limits.bulk_threshold,
            min(_MOST_NUMBERS, limits.value_bytes),
            min(_MOST_STRINGS, limits.value_bytes),
            min(_MOST_STRINGS, limits.value_bytes),
            limits.value_bytes,
            -1,  # CONTROL
        )

    @property
    def is_between_elements(self) -> bool:
        """The data set may end here."""
        return not (self.levels or self._fragments or self.skip)

    def run(self, b: bytes, p: int, n: int, base: int) -> int:
        """Read elements from b[p:n], b[0] standing at `base` of the file; says where it stopped."""
        self._base = base
        out, ceilings = self.out, self._ceilings
        plans, width, end = self.plans, self.width, self.end
        wanted = _NOTHING if self.levels else self._wanted
        while True:
            if base + p >= end:
                self._close_ended(base + p)
                plans, width, end = self.plans, self.width, self.end
                wanted = _NOTHING if self.levels else self._wanted
                continue
            if n - p < _HEADER:
                self.need = _HEADER
                return p
            plan = plans.get(b[p : p + width]) or self._look_up(b, p)
            layout, weight, start, tail, empty, write, noted, tag, _ = plan
            if layout == SHORT:
                length = _short_length(b, p + 6)[0]
                v = p + 8
            elif layout == IMPLICIT:
                length = _long_length(b, p + 4)[0]
                v = p + 8
            elif n - p < 12:
                self.need = 12
                return p
            else:
                length = _long_length(b, p + 8)[0]
                v = p + 12
            q = v + length
            if q > n or length > ceilings[weight] or base + q > end:
                p = self._unusual(plan, b, p, v, n, length)
                if self.skip or self.need:
                    return p
                plans, width, end = self.plans, self.width, self.end
                wanted = _NOTHING if self.levels else self._wanted
                continue
            self._elements += 1
            if tag <= self.last:
                self._mind_disorder()
            self.last = tag
            mark = len(out)
            value = b[v:q]
            body = write(value, self.decode) if length else b""
            if body:
                out += start
                out += body
                out += tail
            elif body is None:
                self._write_unknown(tag, value)
            else:
                out += empty
            if noted:
                self._note(tag, value)
                plans = self.plans
            if tag in wanted:
                self.fields[tag] = bytes(out[mark + 11 : -1])
            p = q

    # --- looking up ---------------------------------------------------------------------------------------

    def _look_up(self, b: bytes, p: int) -> Plan:
        """The treatment of what the tables lack: delimiters, private and odd elements."""
        self._mind_limit()
        key, vr = b[p : p + 4], b[p + 4 : p + 6]
        control = _CONTROLS.get(key)
        if control is not None:
            return control
        if self._fragments is not None:
            raise Refused("Encapsulated Pixel Data hold something that is no fragment.")
        if self._in_items:
            raise Refused("A sequence holds something that is no item.")
        if self._implicit is not None:
            self._decide(is_vr=vr.isalpha() and vr.isupper())
        if self.width == 4:
            return self._implicit_plan(key)
        if vr.isalpha() and vr.isupper():
            return self._explicit_plan(key, vr.decode("latin-1"), b[p + 6 : p + 8])
        if self._base + p == self._begin:
            # An item of a UN sequence is in Implicit VR (PS3.5 6.2.2); some encoders write others so, too.
            self._be_implicit()
        return self._implicit_plan(key)

    def _decide(self, *, is_vr: bool) -> None:
        """How the data set is encoded: as its first element shows, whatever the label says."""
        self._implicit = None
        if is_vr:
            self.plans, self.width = elements.EXPLICIT_PLANS, 6
        else:
            self._be_implicit()

    def _be_implicit(self) -> None:
        self.plans = elements.IMPLICIT_SIGNED_PLANS if self.signed else elements.IMPLICIT_PLANS
        self.width = 4

    def _implicit_plan(self, key: bytes) -> Plan:
        table = elements.IMPLICIT_SIGNED_PLANS if self.signed else elements.IMPLICIT_PLANS
        plan = table.get(key)
        if plan is None:
            tag = tags.hex_of(key)
            plan = plan_for(tag, self._meant(tag), IMPLICIT)
        return plan

    def _explicit_plan(self, key: bytes, vr: str, after: bytes) -> Plan:
        tag = tags.hex_of(key)
        if vr != "UN" and vr in elements.VRS:
            plan = plan_for(tag, vr, layout_of(vr))
            if len(elements.EXPLICIT_PLANS) < elements.MOST_PLANS:
                elements.EXPLICIT_PLANS[key + vr.encode()] = plan
            return plan
        # A VR that nobody defined has the long form by PS3.5 7.1.2, unless its length stands where it must not.
        return plan_for(tag, self._meant(tag), LONG if vr == "UN" or after == b"\0\0" else SHORT)

    def _meant(self, tag: str) -> str:
        """The VR of an element that does not tell it."""
        if tags.is_private(tag):
            return tags.private_vr(tag, self.creators.get(tag[:6], ""))
        if self.signed and tag in tags.SIGNED_OR_NOT:
            return "SS"
        return tags.vr_of(tag) or "UN"

    def _note(self, tag: str, value: bytes) -> None:
        if tag == tags.SPECIFIC_CHARACTER_SET:
            self.decode = charset.decoder(value)
        elif tag == tags.PIXEL_REPRESENTATION:
            self.signed = value[:1] == b"\1"
            if self.width == 4:
                self._be_implicit()
        elif tags.is_private_creator(tag):
            self.creators[tag[:4] + tag[6:]] = value.decode("latin-1").strip(" \0")
        if not self.levels:
            self.known[tag] = value

    # --- what is no plain value ---------------------------------------------------------------------------

    def _unusual(self, plan: Plan, b: bytes, p: int, v: int, n: int, length: int) -> int:
        """Delimiters, sequences, pixels, bulk data, values still to come; says where to go on."""
        at = self._base + v
        self.need = 0
        if plan.tag.startswith("FFFE"):
            self._delimiter(plan, at, length)
            return v
        if length == UNDEFINED:
            self._open_undefined(plan, at)
            return v
        if at + length > self.end:
            raise Refused("An element reaches past the end of its sequence.")
        if plan.vr == "SQ":
            self._open_sequence(plan.tag, at, at + length)
            return v
        if plan.tag in elements.PIXELS and not self.levels:
            self.native = self._pass_by(plan, at, length)
            return v
        ceiling = self._ceilings[plan.weight] if plan.weight != CONTROL else self._limits.value_bytes
        if length > ceiling or (plan.tag in elements.PIXELS and length > self._limits.bulk_threshold):
            self._refuse_unless_bulky(plan)
            self._pass_by(plan, at, length)
            return v
        if v + length > n:
            self.need = v + length - p
            return p
        self._whole(plan, b[v : v + length], at)
        return v + length

    def _whole(self, plan: Plan, value: bytes, at: int) -> None:
        """A value that is kept here although it may be bulk data for others: an offset table, an icon."""
        if len(value) > self._limits.bulk_threshold:
            self._pass_by(plan, at, len(value))
            self.skip = 0
        else:
            self._arrive(plan.tag)
            self.out += plan.start + write_binary(value, self.decode) + plan.tail if value else plan.empty
        if plan.noted:
            self._note(plan.tag, value)

    def _arrive(self, tag: str) -> None:
        self._elements += 1
        self._mind_limit()
        if tag <= self.last:
            self.disordered = True
        self.last = tag

    def _mind_disorder(self) -> None:
        self.disordered = True
        self._mind_limit()

    def _mind_limit(self) -> None:
        """Looked at where elements are without bound: what is odd, or repeated; the dictionary is finite."""
        if self._elements > self._limits.elements:
            raise _too_much(f"The data set has more than {self._limits.elements} elements.")

    def _refuse_unless_bulky(self, plan: Plan) -> None:
        if plan.vr not in elements.BULKY:
            raise _too_much(f"The value of ({plan.tag[:4]},{plan.tag[4:]}) is too long.")

    def _pass_by(self, plan: Plan, at: int, length: int) -> Bulk:
        """Bulk data: named in the JSON, its bytes not looked at."""
        self._arrive(plan.tag)
        bulk = Bulk(self._path(plan.tag), plan.vr, at, length)
        self.skip, self.tap = length, None
        if plan.empty:
            self._write_bulk(bulk, plan.tag)
        return bulk

    def _write_bulk(self, bulk: Bulk, tag: str) -> None:
        mark = len(self.out)
        self.bulk.append(bulk)
        self.out += f'"{tag}":{{"vr":"{bulk.vr}","BulkDataURI":"@/{bulk.path}"}},'.encode()
        if not self.levels and tag in self._wanted:
            self.fields[tag] = bytes(self.out[mark + 11 : -1])

    def _write_unknown(self, tag: str, value: bytes) -> None:
        """Bytes that their VR cannot mean are kept as they are."""
        self.out += b'"%b":{"vr":"UN","InlineBinary":"%b"},' % (
            tag.encode(),
            write_binary(value, self.decode),
        )

    def _path(self, tag: str) -> str:
        return "".join(f"{level.tag}/{level.items}/" for level in self.levels) + tag

    # --- sequences and fragments --------------------------------------------------------------------------

    def _delimiter(self, plan: Plan, at: int, length: int) -> None:
        if self._fragments is not None:
            self._fragment(self._fragments, plan, at, length)
        elif plan is _ITEM and self._in_items:
            self._open_item(at, length)
        elif plan is _ITEM_END and self.levels and not self._in_items:
            self._close_item()
        elif plan is _SEQUENCE_END and self._in_items:
            self._close_sequence()
        else:
            raise Refused("An item or a delimiter stands where none belongs.")

    def _open_undefined(self, plan: Plan, at: int) -> None:
        if plan.vr in {"SQ", "UN"}:
            self._open_sequence(plan.tag, at, self.end)
        elif plan.vr in {"OB", "OW"}:
            self._arrive(plan.tag)
            vr = "OB" if plan.layout == IMPLICIT else plan.vr  # PS3.5 A.4
            self._fragments = Encapsulated(Bulk(self._path(plan.tag), vr, at, 0))
            if plan.tag == tags.PIXEL_DATA and not self.levels:
                self.encapsulated = self._fragments
            self.plans = _NO_PLANS
        else:
            raise Refused(f"The length of ({plan.tag[:4]},{plan.tag[4:]}) is undefined.")

    def _fragment(self, fragments: Encapsulated, plan: Plan, at: int, length: int) -> None:
        if plan is _ITEM:
            self._elements += 1
            if length == UNDEFINED or at + length > self.end:
                raise Refused("A fragment of Pixel Data has no valid length.")
            fragments.begin(at, length)
            self.skip, self.tap = length, fragments.take
        elif plan is _SEQUENCE_END:
            extent = fragments.finish(at - _HEADER)
            self._write_bulk(extent, extent.path.rpartition("/")[2])
            self._fragments, self.tap = None, None
            self._go_on_explicit_or_not()
        else:
            raise Refused("Encapsulated Pixel Data hold something that is no fragment.")

    def _go_on_explicit_or_not(self) -> None:
        if self.width == 4:
            self._be_implicit()
        else:
            self.plans = elements.EXPLICIT_PLANS

    def _open_sequence(self, tag: str, at: int, end: int) -> None:
        self._arrive(tag)
        if len(self.levels) >= self._limits.depth:
            raise _too_much(f"Sequences are nested more than {self._limits.depth} deep.")
        self.levels.append(_Level(tag, end, len(self.out), self))
        self.out += b'"%b":{"vr":"SQ","Value":[' % tag.encode()
        self._expect_items(end)

    def _expect_items(self, end: int) -> None:
        self._in_items, self.plans, self.end = True, _NO_PLANS, end

    def _open_item(self, at: int, length: int) -> None:
        level = self.levels[-1]
        end = level.end if length == UNDEFINED else at + length
        if end > level.end:
            raise Refused("An item reaches past the end of its sequence.")
        self._elements += 1
        level.items += 1
        self._in_items, self._begin = False, at
        self.plans, self.width, self.end = level.plans, level.width, end
        self.decode, self.signed = level.decode, level.signed
        self.last, self.creators = "", {}
        self.out += b"{"

    def _close_item(self) -> None:
        self._close_with(b"}")
        self._expect_items(self.levels[-1].end)

    def _close_sequence(self) -> None:
        level = self.levels.pop()
        if level.items:
            self._close_with(b"]}")
        else:
            del self.out[-len(b',"Value":[') :]
            self.out += b"},"
        self._in_items = False
        self.plans, self.width, self.end = level.plans, level.width, level.outer_end
        self.decode, self.last = level.decode, level.last
        self.signed, self.creators = level.signed, level.creators
        if not self.levels and level.tag in self._wanted:
            self.fields[level.tag] = bytes(self.out[level.mark + 11 : -1])

    def _close_with(self, brackets: bytes) -> None:
        if self.out.endswith(b","):
            del self.out[-1:]
        self.out += brackets + b","

    def _close_ended(self, at: int) -> None:
        """A defined length is used up: the item, or the sequence, is over."""
        if self._fragments is not None:
            raise Refused("Encapsulated Pixel Data reach past the end of their sequence.")
        if self._in_items:
            self._close_sequence()
        else:
            self._close_item()

    def json(self) -> bytes:
        """What was written, as one object."""
        self._close_with(b"}")
        return bytes(self.out[:-1])


def _too_much(sentence: str) -> Refused:
    return Refused(sentence, FailureReason.OUT_OF_RESOURCES)
