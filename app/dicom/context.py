"""What decides how the elements of one data set are read: VR, sign, characters, private creators (PS3.5 6, 7)."""

from __future__ import annotations

from typing import Final

from app.dicom import charset, elements, tags
from app.dicom.elements import IMPLICIT, LONG, SHORT, Plan, layout_of, plan_for, signed_or_not

_EXPLICIT_KEY: Final = 6  # tag and VR
_IMPLICIT_KEY: Final = 4  # tag
_NO_VR: Final = frozenset({b"\0\0", b"??", b"  ", b"--"})  # what stands where an explicit VR belongs
_MOST_CREATORS: Final = 1024  # of one data set; those after them have no name
_MOST_HELD: Final = 256
_LONGEST_CREATOR: Final = 64  # characters of an LO


class Context:
    """The data set's, or an item's, which inherits all but the creators (PS3.5 7.5.3, 7.8.1)."""

    __slots__ = (
        "creators", "decode", "has_sign", "held", "is_decided", "plans", "signed", "single_lut", "width",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_decided = False
        self.signed = False
        self.has_sign = False  # Pixel Representation is known
        self.held: list[tuple[int, str, bytes]] = []  # where it was not: what was written as unsigned
        self.single_lut = False
        self.decode: charset.Decode = charset.default
        self.creators: dict[str, str] = {}
        self.plans: dict[bytes, Plan] = {}
        self.width = _EXPLICIT_KEY

    def item(self) -> Context:
        """An item's, before anything is read of it."""
        inner = Context()
        inner.is_decided = True
        inner.signed, inner.has_sign, inner.decode = self.signed, self.has_sign, self.decode
        inner.plans, inner.width = self.plans, self.width
        return inner

    def inherit(self, item: Context) -> None:
        """An item of this data set is over; what its own Pixel Representation did not decide, a later one may."""
        if not self.has_sign and item.held:
            self.held += item.held[: _MOST_HELD - len(self.held)]

    def look_up(self, b: bytes, p: int, *, is_first: bool) -> Plan:
        """The treatment of the element at b[p:], which the tables lack."""
        key, vr = b[p : p + 4], b[p + 4 : p + 6]
        has_vr = vr.isalpha() and vr.isupper()
        if not self.is_decided:
            self._decide(has_vr=has_vr)
        if self.width == _EXPLICIT_KEY and has_vr:
            return self._explicit(key, vr.decode("latin-1"), b[p + 6 : p + 8])
        if self.width == _EXPLICIT_KEY and vr in _NO_VR and not is_first:
            return self._explicit(key, "", b[p + 6 : p + 8])
        if is_first:
            # An item of a UN sequence is in Implicit VR (PS3.5 6.2.2); some encoders write others so, too.
            self._decide(has_vr=False)
        return self._implicit(key)

    def _decide(self, *, has_vr: bool) -> None:
        """Explicit or implicit: as the first element shows, whatever the label says."""
        self.is_decided = True
        if has_vr:
            self.plans, self.width = elements.EXPLICIT_PLANS, _EXPLICIT_KEY
        else:
            self.plans, self.width = self._implicit_plans(), _IMPLICIT_KEY

    def _implicit_plans(self) -> dict[bytes, Plan]:
        if not self.has_sign:
            return elements.IMPLICIT_UNDECIDED_PLANS
        return elements.IMPLICIT_SIGNED_PLANS if self.signed else elements.IMPLICIT_PLANS

    def _implicit(self, key: bytes) -> Plan:
        plan = self._implicit_plans().get(key)
        if plan is None:
            tag = tags.hex_of(key)
            plan = plan_for(tag, self._meant(tag), IMPLICIT)
        return plan

    def _explicit(self, key: bytes, vr: str, after: bytes) -> Plan:
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
            return tags.private_vr(tag, self.creator_of(tag))
        if self.signed and tag in tags.SIGNED_OR_NOT:
            return "SS"
        return tags.vr_of(tag) or "UN"

    def creator_of(self, tag: str) -> str:
        """Who reserved the block of a private tag; nobody's are all others."""
        return self.creators.get(tag[:6], "") if self.creators and tag[4:6] != "00" else ""

    def decided(self, plan: Plan) -> tuple[Plan, bool]:
        """The treatment of an element in Implicit VR whose VR other elements decide; true if that may change."""
        if plan.layout != IMPLICIT or plan.weight != elements.CONTROL:
            return plan, False
        if plan.tag == tags.LUT_DATA:
            return plan_for(plan.tag, "US" if self.single_lut else "OW", IMPLICIT, decided=True), False
        if plan.tag in tags.SIGNED_OR_NOT:
            return signed_or_not(plan.tag, "US"), True
        return plan, False

    def hold(self, at: int, tag: str, value: bytes) -> None:
        """An unsigned value was written there, before Pixel Representation told that it is."""
        if len(self.held) < _MOST_HELD:
            self.held.append((at, tag, value))

    def note(self, tag: str, value: bytes, out: bytearray) -> None:
        """Learn from an element that says how others are to be read; mend what was written too early."""
        if tag == tags.SPECIFIC_CHARACTER_SET:
            self.decode = charset.decoder(value)
        elif tag == tags.PIXEL_REPRESENTATION:
            self._note_sign(signed=value[:1] == b"\1", out=out)
        elif tag == tags.LUT_DESCRIPTOR:
            self.single_lut = value[:2] == b"\1\0"
        elif tags.is_private_creator(tag) and len(self.creators) < _MOST_CREATORS:
            creator = value[:_LONGEST_CREATOR].decode("latin-1").strip(" \0")
            self.creators[tag[:4] + tag[6:]] = creator

    def _note_sign(self, *, signed: bool, out: bytearray) -> None:
        for at, tag, value in self.held if signed else ():
            plan = signed_or_not(tag, "SS")
            body = plan.write(value, self.decode) if value else b""
            written = (plan.start + body + plan.tail if body else plan.empty)[
                :-1
            ]  # an end has eaten the comma
            out[at : at + len(written)] = written
        self.held.clear()
        self.signed, self.has_sign = signed, True
        if self.width == _IMPLICIT_KEY:
            self.plans = self._implicit_plans()
