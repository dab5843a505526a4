"""Tags as eight hexadecimal digits, and what the data dictionary says of them (PS3.6, PS3.5 7.8)."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final

from pydicom.datadict import dictionary_keyword, dictionary_VR, keyword_dict, private_dictionary_VR

SPECIFIC_CHARACTER_SET: Final = "00080005"
SOP_CLASS_UID: Final = "00080016"
SOP_INSTANCE_UID: Final = "00080018"
STUDY_INSTANCE_UID: Final = "0020000D"
SERIES_INSTANCE_UID: Final = "0020000E"
SAMPLES_PER_PIXEL: Final = "00280002"
PHOTOMETRIC_INTERPRETATION: Final = "00280004"
NUMBER_OF_FRAMES: Final = "00280008"
ROWS: Final = "00280010"
COLUMNS: Final = "00280011"
BITS_ALLOCATED: Final = "00280100"
PIXEL_REPRESENTATION: Final = "00280103"
ENCAPSULATED_DOCUMENT: Final = "00420011"
ENCAPSULATED_DOCUMENT_LENGTH: Final = "00420015"
EXTENDED_OFFSET_TABLE: Final = "7FE00001"
EXTENDED_OFFSET_TABLE_LENGTHS: Final = "7FE00002"
ENCAPSULATED_TOTAL_LENGTH: Final = "7FE00003"
FLOAT_PIXEL_DATA: Final = "7FE00008"
DOUBLE_FLOAT_PIXEL_DATA: Final = "7FE00009"
PIXEL_DATA: Final = "7FE00010"
LUT_DESCRIPTOR: Final = "00283002"
LUT_DATA: Final = "00283006"
LUT_DESCRIPTORS: Final = frozenset({"00281101", "00281102", "00281103", "00283002"})

# PS3.6 leaves a choice to the encoding; in Implicit VR these are the ones (PS3.5 A.1).
_CHOICES: Final = {"OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW", "US or SS": "US"}
_HALVES: Final = Struct("<HH")

SIGNED_OR_NOT: Final = frozenset(
    f"{number:08X}" for number in keyword_dict.values() if dictionary_VR(number) == "US or SS"
)
"""Tags whose VR is SS when Pixel Representation is 1, else US."""


def hex_of(key: bytes) -> str:
    """The tag that four bytes in little endian mean."""
    group, element = _HALVES.unpack(key)
    return f"{group:04X}{element:04X}"


def key_of(tag: str) -> bytes:
    """The four bytes of a tag in little endian."""
    return _HALVES.pack(int(tag[:4], 16), int(tag[4:], 16))


def is_private(tag: str) -> bool:
    """Odd groups are private (PS3.5 7.8)."""
    return tag[3] in "13579BDF"


def is_private_creator(tag: str) -> bool:
    """(gggg,0010-00FF) of an odd group reserve blocks (PS3.5 7.8.1)."""
    return is_private(tag) and tag[4:6] == "00" and tag[6] != "0"


def vr_of(tag: str) -> str | None:
    """The VR of a standard attribute, repeating groups included; None when the dictionary lacks it."""
    try:
        vr = dictionary_VR(int(tag, 16))
    except KeyError:
        return None
    return _CHOICES.get(vr, vr)


def keyword_of(tag: str) -> str:
    """The keyword of a standard attribute, or nothing."""
    try:
        return dictionary_keyword(int(tag, 16))
    except KeyError:
        return ""


def tag_of(keyword: str) -> str | None:
    """The tag of a keyword of the data dictionary."""
    number = keyword_dict.get(keyword)
    return None if number is None else f"{number:08X}"


@lru_cache(maxsize=4096)
def private_vr(tag: str, creator: str) -> str:
    """The VR of a private attribute where its creator is known, else UN (PS3.5 6.2.2)."""
    if is_private_creator(tag):
        return "LO"
    try:
        vr = private_dictionary_VR(int(tag, 16), creator)
    except KeyError:
        return "UN"
    return _CHOICES.get(vr, vr)


def standard_tags() -> list[tuple[str, str]]:
    """Every tag of the dictionary that has a VR (items have none), choices decided as for Implicit VR."""
    found = ((f"{number:08X}", dictionary_VR(number)) for number in keyword_dict.values())
    return [(tag, _CHOICES.get(vr, vr)) for tag, vr in found if vr != "NONE"]
