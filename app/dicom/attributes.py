"""Which attributes belong to which level and what a search returns of them (PS3.18 10.6.3, PS3.4 C.6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pydicom.datadict import dictionary_has_tag, dictionary_keyword, dictionary_VR, tag_for_keyword


class Level(StrEnum):
    """The levels of the Study Root model."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of one level; `default` ones are returned unasked, `required` ones even when empty."""

    tag: str
    keyword: str
    vr: str
    level: Level
    default: bool = False
    required: bool = False


# Tables 10.6.3-3, -4 and -5. Type R (and U) in the first row of a level: returned without a value when it
# is not known; type C in the second: returned when it is there.
_REQUIRED = {
    Level.STUDY: "00080020 00080030 00080050 00080090 00100010 00100020 00100030 00100040 0020000D 00200010",
    Level.SERIES: "00080060 0020000E 00200011",
    Level.INSTANCE: "00080016 00080018 00200013",
}
_CONDITIONAL = {
    Level.STUDY: "00080201",
    Level.SERIES: "00080201 0008103E 00400244 00400245 00400275",
    Level.INSTANCE: "00080201 00280008 00280010 00280011 00280100",
}
# The rest of the Patient, General Study, Patient Study and General Series modules, the basics of equipment,
# and what lists of images and reports show: kept beside the rows, so that includefield costs no blob.
_OTHERS = {
    Level.STUDY: (
        "00080051 00080096 0008009C 0008009D 00081030 00081032 00081048 00081049 00081060 00081062 00081080 "
        "00081084 00081110 00081120 00100021 00100022 00100024 00100032 00100033 00100034 00100035 00100200 "
        "00100212 00100213 00100214 00100215 00100216 00100217 00100218 00100219 00100221 00100222 00100223 "
        "00101000 00101001 00101002 00101010 00101020 00101021 00101022 00101023 00101024 00101030 00102000 "
        "00102110 00102160 00102180 001021A0 001021B0 001021C0 001021D0 001021F0 00102201 00102202 00102203 "
        "00102210 00102292 00102293 00102294 00102295 00102296 00102297 00102298 00102299 00104000 00120010 "
        "00120020 00120021 00120030 00120031 00120040 00120042 00120062 00120063 00120064 00321032 00321033 "
        "00321034 00380010 00380014 00380060 00380062 00380064 00380500"
    ),
    Level.SERIES: (
        "00080021 00080031 00080064 00080070 00080080 00080081 00080082 00081010 0008103F 00081040 00081041 "
        "00081050 00081052 00081070 00081072 00081090 00081111 00180015 00181000 00181020 00181030 00185100 "
        "00200060 00400250 00400251 00400253 00400254 00400260 00400280"
    ),
    Level.INSTANCE: (
        "00080008 00080022 00080023 0008002A 00080032 00080033 00082111 00200012 00204000 00280002 00280004 "
        "0040A043 0040A491 0040A493 00420010 00420012"
    ),
}
# What the index counts or knows; no data set holds it.
COMPUTED = {
    Level.STUDY: frozenset({"00080056", "00080061", "00081190", "00201206", "00201208"}),
    Level.SERIES: frozenset({"00080056", "00081190", "00201209"}),
    Level.INSTANCE: frozenset({"00080056", "00081190"}),
}


def _attribute(tag: str, level: Level, *, default: bool = False, required: bool = False) -> Attribute:
    number = int(tag, 16)
    return Attribute(tag, dictionary_keyword(number), dictionary_VR(number), level, default, required)


def _table() -> tuple[Attribute, ...]:
    rows = []
    for level in Level:
        rows += [_attribute(tag, level, default=True, required=True) for tag in _REQUIRED[level].split()]
        rows += [_attribute(tag, level, default=True) for tag in _CONDITIONAL[level].split()]
        rows += [_attribute(tag, level) for tag in _OTHERS[level].split()]
    return tuple(sorted(rows, key=lambda row: (row.tag, list(Level).index(row.level))))


ATTRIBUTES = _table()
"""What the index keeps as DICOM JSON beside its rows, ascending by tag."""

by_tag = {attribute.tag: attribute for attribute in reversed(ATTRIBUTES)}
"""The highest level wins where a tag belongs to several (Timezone Offset From UTC)."""

by_keyword = {attribute.keyword: attribute for attribute in by_tag.values()}

STORED = frozenset(by_tag)
"""What the scanner hands over as fields: its `wanted`."""

OF_LEVEL = {level: frozenset(row.tag for row in ATTRIBUTES if row.level == level) for level in Level}
DEFAULTS = {
    level: frozenset(row.tag for row in ATTRIBUTES if row.level == level and row.default) for level in Level
}
REQUIRED = {
    level: {row.tag: row.vr for row in ATTRIBUTES if row.level == level and row.required} for level in Level
}

_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)


def tag_of(name: str) -> str | None:
    """The tag of a keyword, of eight hexadecimal digits, or of a path of these joined by dots.

    A private tag is a tag; a keyword that the dictionary does not know is nothing.
    """
    tags = [_single(part) for part in name.split(".")]
    return ".".join(tag for tag in tags if tag) if all(tags) else None


def _single(name: str) -> str | None:
    if _TAG.fullmatch(name):
        return name.upper()
    number = tag_for_keyword(name) if name.isidentifier() else None
    return None if number is None else f"{number:08X}"


def keyword_of(path: str) -> str:
    """The keywords of a path of tags, as `tag_of` reads them."""
    numbers = [int(tag, 16) for tag in path.split(".")]
    return ".".join(dictionary_keyword(one) if dictionary_has_tag(one) else f"{one:08X}" for one in numbers)
