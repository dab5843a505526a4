"""A value's bytes in little endian to the inside of its DICOM JSON array (PS3.18 F.2, PS3.5 6.2).

A writer gives b"" for an empty value, and None for bytes that its VR cannot mean.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable
from math import inf, isfinite, isnan
from struct import Struct, unpack
from typing import Final

import orjson

from app.dicom.charset import Decode

Writer = Callable[[bytes, Decode], bytes | None]

_PADS: Final = " \0"
_HALVES: Final = Struct("<HH")
_SAFE_INTEGER: Final = 1 << 53

# One number as JSON wants it, short enough that a double keeps every digit. Atomic, so that no text is slow.
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]{1,2})?"
_DECIMAL: Final = rb"(?=[^\\]{1,17}(?:\\|\Z))" + _NUMBER
_DECIMALS: Final = re.compile(rb"(?>" + _DECIMAL + rb")(?:\\(?>" + _DECIMAL + rb"))*+ ?\Z")
_INTEGER: Final = rb"(?>-?(?:0|[1-9][0-9]{0,14}+))"
_INTEGERS: Final = re.compile(_INTEGER + rb"(?:\\" + _INTEGER + rb")*+ ?\Z")

# Of these characters alone Python makes no number that DICOM has not: no nan, no underscore.
_OF_DECIMALS: Final = "0123456789+-.eE "
_OF_INTEGERS: Final = "0123456789+- "
_overflows: Final = re.compile(rb"[eE][+-]?[0-9]{3}").search  # or may
_is_loose_integer: Final = re.compile(r"[+-]?[0-9]{1,15}").fullmatch
_INTEGER_LENGTH: Final = 15
_DIGITS_KEPT: Final = 17  # of significant digits a double gives back

# So many values that are slow to write are written in milliseconds; more of them are no values of their VR.
_MOST_NAMES: Final = 1024  # groups count, too
_LONG_TEXT: Final = 64 << 10
_CONTROLS: Final = bytes(set(range(0x20)) - {0x1B})  # up to six characters each in JSON
_MOST_ODD_NUMBERS: Final = 2048


def base64(value: bytes) -> bytes:
    """InlineBinary (PS3.18 F.2.7)."""
    return b2a_base64(value, newline=False)


def write_binary(value: bytes, decode: Decode) -> bytes:
    """OB to OW and UN: what is no text and no number."""
    return base64(value)


def write_strings(value: bytes, decode: Decode) -> bytes:
    """AS, CS, DA, DT, TM, UI: the default repertoire, several values."""
    return _strings(value.decode("latin-1"))


def write_titles(value: bytes, decode: Decode) -> bytes:
    """AE: blanks before and after are no part of the title."""
    text = value.decode("latin-1").strip(_PADS)
    if "\\" not in text:
        return orjson.dumps(text) if text else b""
    return orjson.dumps([part.strip(_PADS) or None for part in text.split("\\")])[1:-1]


def write_texts(value: bytes, decode: Decode) -> bytes:
    """LO, SH, UC: the data set's characters, several values (decoded first: a trail byte may be 5C)."""
    return _strings(decode(value))


def write_text(value: bytes, decode: Decode) -> bytes | None:
    """LT, ST, UT: one value, in which a backslash is a character. What is long and full of controls is no text."""
    if len(value) > _LONG_TEXT and len(value.translate(None, _CONTROLS)) < len(value) * 7 // 8:
        return None
    text = decode(value).rstrip(_PADS)
    return orjson.dumps(text) if text else b""


def write_address(value: bytes, decode: Decode) -> bytes:
    """UR: one value of the default repertoire."""
    text = value.decode("latin-1").rstrip(_PADS)
    return orjson.dumps(text) if text else b""


def _strings(text: str) -> bytes:
    text = text.rstrip(_PADS)
    if "\\" not in text:
        return orjson.dumps(text) if text else b""
    return orjson.dumps([part.rstrip(_PADS) or None for part in text.split("\\")])[1:-1]


def write_names(value: bytes, decode: Decode) -> bytes | None:
    """PN: an object of component groups a value (PS3.18 F.2.2)."""
    if value.count(b"\\") + value.count(b"=") > _MOST_NAMES:
        return None
    text = decode(value).rstrip(_PADS)
    return orjson.dumps([_groups(name) if name else None for name in text.split("\\")])[1:-1] if text else b""


def _groups(name: str) -> dict[str, str] | None:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False)
    return {key: text for key, group in groups if (text := group.rstrip(_PADS))} or None


def write_decimals(value: bytes, decode: Decode) -> bytes | None:
    """DS: JSON numbers, as they were written where JSON allows it; strings where a double would lose digits."""
    if _DECIMALS.match(value):
        return value.rstrip(b" ").replace(b"\\", b",")
    parts = _parts(value)
    if not parts:
        return b""
    numbers = _numbers(value, _OF_DECIMALS, parts, _DIGITS_KEPT, float)
    return _listed(None if numbers and _overflows(value) else numbers, parts, _decimal)


def _parts(value: bytes) -> list[str]:
    text = value.decode("latin-1").strip(_PADS)
    return text.split("\\") if text else []


def _numbers(
    value: bytes, characters: str, parts: list[str], longest: int, number: Callable[[str], float]
) -> list[float] | None:
    """What many writers leave and JSON has not: plus signs, zeros before, bare points, blanks around."""
    if value.strip(b" \0").translate(None, characters.encode() + b"\\") or max(map(len, parts)) > longest:
        return None
    try:
        return list(map(number, parts))
    except ValueError:
        return None


def _listed(numbers: list[float] | None, parts: list[str], number: Callable[[str], object]) -> bytes | None:
    """The numbers, or whatever there may be, one by one: slower, so there are only so many."""
    if numbers is None and len(parts) > _MOST_ODD_NUMBERS:
        return None
    return orjson.dumps(numbers or list(map(number, parts)))[1:-1]


def _decimal(text: str) -> float | str | None:
    text = text.strip(_PADS)
    if not text or text.strip(_OF_DECIMALS) or " " in text:
        return text or None
    try:
        number = float(text)
    except ValueError:
        return text
    if not number:
        return text if "-" in text and _digits(text) else number  # too small for a double, or truly nothing
    if abs(number) == inf:
        return text
    return number if len(text) <= _DIGITS_KEPT or _digits(text) <= _DIGITS_KEPT else text


def _digits(text: str) -> int:
    """The significant ones."""
    mantissa = text.replace("E", "e").partition("e")[0].lstrip("+-0.")
    return len(mantissa) - mantissa.count(".")


def write_integers(value: bytes, decode: Decode) -> bytes | None:
    """IS: JSON numbers, or strings where they are none."""
    if _INTEGERS.match(value):
        return value.rstrip(b" ").replace(b"\\", b",")
    parts = _parts(value)
    if not parts:
        return b""
    return _listed(_numbers(value, _OF_INTEGERS, parts, _INTEGER_LENGTH, int), parts, _integer)


def _integer(text: str) -> int | str | None:
    text = text.strip(_PADS)
    return int(text) if _is_loose_integer(text) else text or None


def _number_writer(code: str, size: int) -> Writer:
    one = Struct(f"<{code}").unpack

    def write(value: bytes, decode: Decode) -> bytes | None:
        if len(value) == size:
            return b"%d" % (one(value)[0],)
        if len(value) % size:
            return None
        return orjson.dumps(unpack(f"<{len(value) // size}{code}", value))[1:-1]

    return write


def _float_writer(code: str, size: int) -> Writer:
    def write(value: bytes, decode: Decode) -> bytes | None:
        if len(value) % size:
            return None
        numbers = unpack(f"<{len(value) // size}{code}", value)
        json = orjson.dumps(numbers)[1:-1]
        if b"null" not in json:
            return json
        return orjson.dumps([number if isfinite(number) else _not_finite(number) for number in numbers])[1:-1]

    return write


def _not_finite(number: float) -> str:
    """JSON has no such numbers (PS3.18 F.2.2, Table F.2.3-1)."""
    return "NaN" if isnan(number) else "inf" if number > 0 else "-inf"


def _very_long_writer(code: str) -> Writer:
    """SV, UV: strings beyond 2^53, which a reader with doubles would round (PS3.18 Table F.2.3-1)."""

    def write(value: bytes, decode: Decode) -> bytes | None:
        if len(value) % 8:
            return None
        numbers = unpack(f"<{len(value) // 8}{code}", value)
        return orjson.dumps([n if -_SAFE_INTEGER <= n <= _SAFE_INTEGER else str(n) for n in numbers])[1:-1]

    return write


def write_tags(value: bytes, decode: Decode) -> bytes | None:
    """AT: eight hexadecimal digits."""
    if len(value) % 4:
        return None
    return b",".join(b'"%04X%04X"' % halves for halves in _HALVES.iter_unpack(value))


def write_lut_descriptor(value: bytes, decode: Decode) -> bytes | None:
    """Of a LUT Descriptor only the second value is signed (PS3.3 C.11.1.1)."""
    if len(value) != 6:
        return WRITERS["SS"](value, decode)
    return b"%d,%d,%d" % unpack("<HhH", value)


def padded(write: Writer) -> Writer:
    """Numbers of 16 bits, each in six places, signed or not."""

    def write_padded(value: bytes, decode: Decode) -> bytes | None:
        numbers = write(value, decode)
        return b",".join(number.ljust(6) for number in numbers.split(b",")) if numbers else numbers

    return write_padded


def write_character_set(value: bytes, decode: Decode) -> bytes:
    """JSON is UTF-8, whatever the data set was (PS3.18 F.2)."""
    return b'"ISO_IR 192"'


WRITERS: Final[dict[str, Writer]] = {
    "AE": write_titles,
    **dict.fromkeys(("AS", "CS", "DA", "DT", "TM", "UI"), write_strings),
    **dict.fromkeys(("LO", "SH", "UC"), write_texts),
    **dict.fromkeys(("LT", "ST", "UT"), write_text),
    "UR": write_address,
    "PN": write_names,
    "DS": write_decimals,
    "IS": write_integers,
    "AT": write_tags,
    "US": _number_writer("H", 2),
    "SS": _number_writer("h", 2),
    "UL": _number_writer("I", 4),
    "SL": _number_writer("i", 4),
    "FL": _float_writer("f", 4),
    "FD": _float_writer("d", 8),
    "SV": _very_long_writer("q"),
    "UV": _very_long_writer("Q"),
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), write_binary),
}
