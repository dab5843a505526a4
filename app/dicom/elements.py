"""What to do with an element, looked up by the bytes it begins with (PS3.5 7.1, PS3.18 F.2)."""

from __future__ import annotations

from typing import Final, NamedTuple

from app.dicom import tags
from app.dicom.values import WRITERS, Writer, padded, write_character_set, write_lut_descriptor

SHORT, LONG, IMPLICIT = 0, 1, 2
"""How the length is written: two bytes after the VR, four after a reserved pair, four after the tag."""

CONTROL: Final = -1  # a weight: nothing to write here, the walker decides
BINARY, NUMBERS, DECIMALS, STRINGS, PROSE = range(5)
"""The weight of a VR, which says how long a value may be to stay inline."""

VRS: Final = frozenset({*WRITERS, "SQ"})
BULKY: Final = frozenset(
    [
        "OB",
        "OD",
        "OF",
        "OL",
        "OV",
        "OW",
        "UN",
        "DS",
        "FD",
        "FL",
        "IS",
        "LT",
        "SL",
        "SS",
        "ST",
        "SV",
        "UC",
        "UL",
        "US",
        "UT",
        "UV",
    ]
)
"""VRs whose value PS3.18 Table F.2.3-1 lets lie behind a BulkDataURI."""

_WITH_LONG_LENGTH: Final = frozenset(
    ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]
)
_WEIGHTS: Final = {
    **dict.fromkeys(["OB", "OD", "OF", "OL", "OV", "OW", "UN"], BINARY),
    **dict.fromkeys(["AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"], NUMBERS),
    **dict.fromkeys(["DS", "IS"], DECIMALS),
    **dict.fromkeys(["LT", "ST", "UR", "UT"], PROSE),
    "SQ": CONTROL,
}

# Attributes that the walker or the scan reads itself, beyond writing them.
_NOTED: Final = frozenset(
    {
        tags.SPECIFIC_CHARACTER_SET,
        tags.SOP_CLASS_UID,
        tags.SOP_INSTANCE_UID,
        tags.STUDY_INSTANCE_UID,
        tags.SERIES_INSTANCE_UID,
        tags.SAMPLES_PER_PIXEL,
        tags.PHOTOMETRIC_INTERPRETATION,
        tags.NUMBER_OF_FRAMES,
        tags.ROWS,
        tags.COLUMNS,
        tags.BITS_ALLOCATED,
        tags.PIXEL_REPRESENTATION,
        tags.LUT_DESCRIPTOR,
        tags.EXTENDED_OFFSET_TABLE,
        tags.EXTENDED_OFFSET_TABLE_LENGTHS,
        tags.ENCAPSULATED_TOTAL_LENGTH,
    }
)
PIXELS: Final = frozenset({tags.PIXEL_DATA, tags.FLOAT_PIXEL_DATA, tags.DOUBLE_FLOAT_PIXEL_DATA})
TABLES: Final = frozenset({tags.EXTENDED_OFFSET_TABLE, tags.EXTENDED_OFFSET_TABLE_LENGTHS})


class Plan(NamedTuple):
    """One element's treatment: `start` + what `write` gives + `tail`, or `empty`."""

    layout: int
    weight: int
    start: bytes
    tail: bytes
    empty: bytes
    write: Writer
    noted: bool
    tag: str
    vr: str


def plan_for(tag: str, vr: str, layout: int, *, decided: bool = False) -> Plan:
    """The treatment of an element; group lengths and the groups 0000 and 0002 are no part of the JSON."""
    weight = _WEIGHTS.get(vr, STRINGS)
    noted = tag in _NOTED or tags.is_private_creator(tag)
    if tag in PIXELS or tag in TABLES or (tag == tags.LUT_DATA and layout == IMPLICIT and not decided):
        weight = CONTROL
    if tag.endswith("0000") or tag.startswith(("0000", "0002")):
        dropped = CONTROL if weight == CONTROL else BINARY
        return Plan(layout, dropped, b"", b"", b"", _nothing, noted=False, tag=tag, vr=vr)
    opened = f'"{tag}":{{"vr":"{vr}"'.encode()
    binary = _WEIGHTS.get(vr) == BINARY
    start, tail = (b',"InlineBinary":"', b'"},') if binary else (b',"Value":[', b"]},")
    return Plan(layout, weight, opened + start, tail, opened + b"},", _writer(tag, vr), noted, tag, vr)


def signed_or_not(tag: str, vr: str) -> Plan:
    """In Implicit VR: written so that US and SS take the same room, since one may have to become the other."""
    plan = plan_for(tag, vr, IMPLICIT)
    return plan._replace(write=padded(plan.write))


def _writer(tag: str, vr: str) -> Writer:
    if tag == tags.SPECIFIC_CHARACTER_SET:
        return write_character_set
    if tag in tags.LUT_DESCRIPTORS and vr == "SS":
        return write_lut_descriptor
    return WRITERS.get(vr, _nothing)


def _nothing(value: bytes, decode: object) -> bytes:
    return b""


def layout_of(vr: str) -> int:
    """How the length of an explicit VR is written; VRs of the future have the long form (PS3.5 7.1.2)."""
    return LONG if vr in _WITH_LONG_LENGTH or vr not in VRS else SHORT


def _explicit() -> dict[bytes, Plan]:
    return {
        tags.key_of(tag) + vr.encode(): plan_for(tag, vr, layout_of(vr))
        for tag, vr in tags.standard_tags()
        if vr in VRS
    }


def _implicit() -> dict[bytes, Plan]:
    return {tags.key_of(tag): plan_for(tag, vr, IMPLICIT) for tag, vr in tags.standard_tags() if vr in VRS}


def _implicit_undecided() -> dict[bytes, Plan]:
    waiting = {tags.key_of(tag): plan_for(tag, "US", IMPLICIT) for tag in tags.SIGNED_OR_NOT}
    return IMPLICIT_PLANS | {key: plan._replace(weight=CONTROL) for key, plan in waiting.items()}


def _implicit_signed() -> dict[bytes, Plan]:
    return IMPLICIT_PLANS | {tags.key_of(tag): plan_for(tag, "SS", IMPLICIT) for tag in tags.SIGNED_OR_NOT}


EXPLICIT_PLANS: Final = _explicit()
"""By tag and VR, six bytes; grows by what is met, up to MOST_PLANS."""
IMPLICIT_PLANS: Final = _implicit()
"""By tag, four bytes."""
IMPLICIT_SIGNED_PLANS: Final = _implicit_signed()
"""The same where Pixel Representation is 1."""
IMPLICIT_UNDECIDED_PLANS: Final = _implicit_undecided()
"""The same where Pixel Representation is not known yet."""
MOST_PLANS: Final = 20_000
