"""Values one by one: what JSON they become (PS3.18 F.2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dicom import charset
from app.dicom.values import WRITERS


def written(vr: str, value: bytes) -> object:
    """The Value array."""
    body = WRITERS[vr](value, charset.default)
    assert body is not None
    return orjson.loads(b"[" + body + b"]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5", [1.5]),
        ("1.5 ", [1.5]),
        (" 1.5", [1.5]),
        ("+1.5", [1.5]),
        ("007", [7]),
        (".5\\-.5\\5.", [0.5, -0.5, 5]),
        ("1\\\\2", [1, None, 2]),
        ("1E-3\\1e+5", [0.001, 100000.0]),
        ("-0", [0]),
        ("0.66666666666666663", [0.6666666666666666]),
        ("1.2345678901234567890", ["1.2345678901234567890"]),
        ("1e400", ["1e400"]),
        ("1e-400", ["1e-400"]),
        ("0e0", [0]),
        ("NaN", ["NaN"]),
        ("1,5", ["1,5"]),
        ("1 2", ["1 2"]),
        ("1_0", ["1_0"]),
        ("+-1", ["+-1"]),
        ("inf\\1", ["inf", 1]),
        ("-.0e-400", [0]),
        ("abc\\1", ["abc", 1]),
        ("1\n", ["1\n"]),
        ("  ", []),
        ("\0", []),
    ],
)
def test_decimal_strings(text: str, expected: list[object]) -> None:
    """DS is a number where a double keeps it, else the text."""
    assert written("DS", text.encode()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", [12]),
        ("+12 ", [12]),
        ("0012\\-3", [12, -3]),
        ("1\\\\ ", [1, None, None]),
        ("1.5", ["1.5"]),
        ("1e3", ["1e3"]),
        ("9" * 20, ["9" * 20]),
        ("x", ["x"]),
        ("", []),
    ],
)
def test_integer_strings(text: str, expected: list[object]) -> None:
    """IS is a number where it is one, else the text."""
    assert written("IS", text.encode()) == expected


@given(st.binary(max_size=60), st.sampled_from(sorted(WRITERS)))
def test_any_bytes_give_json(value: bytes, vr: str) -> None:
    """No value makes a writer fail or write what is no JSON."""
    body = WRITERS[vr](value, charset.default)
    if body is not None and vr not in {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}:
        orjson.loads(b"[" + body + b"]")


@pytest.mark.parametrize("unit", [b"1", b"1\\", b"0.", b"1e", b"-", b"\\", b"1.1\\x", b"00"])
@pytest.mark.parametrize("vr", ["DS", "IS"])
def test_no_number_is_slow(vr: str, unit: bytes) -> None:
    """Reading numbers takes time in proportion to their text, whatever it is."""
    value = unit * (200_000 // len(unit))
    started = time.perf_counter()
    WRITERS[vr](value, charset.default)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("unit", ["1e5 \\", "1e400\\", "0e1 \\", "+2 3\\", "-.5e-3\\"])
def test_odd_numbers_cost_little(unit: str) -> None:
    """Written one by one, they take a small multiple of what reading them as numbers does: no minute for a header."""
    text = unit * 200 + "x y"  # the last one is no number: so each is looked at for itself
    value, parts = text.encode(), unit.replace(" ", "").rstrip("\\")

    def ours() -> None:
        assert WRITERS["DS"](value, charset.default)

    def plain() -> None:
        for _ in range(200):
            float(parts)

    assert _ratio(ours, plain, 8) < 8


@pytest.mark.parametrize("vr", ["DS", "IS"])
@pytest.mark.parametrize("unit", ["01\\", "+5 \\", " 007\\", "-0\\"])
def test_numbers_written_oddly_are_numbers_however_many(vr: str, unit: str) -> None:
    """A contour of a hundred thousand points with plus signs and zeros is no unknown value, and costs as a tidy one does."""
    count = 200_000 // len(unit)
    odd, tidy = (unit * count)[:-1].encode(), (str(int(unit.strip("\\"))) + "\\") * count
    assert written(vr, odd) == [int(unit.strip("\\"))] * count

    def writing(value: bytes) -> Callable[[], None]:
        return lambda: assert_written(WRITERS[vr](value, charset.default))

    assert _ratio(writing(odd), writing(tidy[:-1].encode()), 8) < 8


def assert_written(body: bytes | None) -> None:
    assert body


def _ratio(work: Callable[[], None], beside: Callable[[], None], enough: float) -> float:
    """Of the quickest of many tries, in turns, until it is less than `enough`: a busy machine slows both, but not for ever."""
    quickest, began = [inf, inf], time.monotonic()
    while (spent := time.monotonic() - began) < 8 and (spent < 0.2 or quickest[0] >= enough * quickest[1]):
        for number, one in enumerate((work, beside)):
            started = time.thread_time()
            one()
            quickest[number] = min(quickest[number], time.thread_time() - started)
    return quickest[0] / quickest[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A^B", [{"Alphabetic": "A^B"}]),
        ("A^B=C^D=E", [{"Alphabetic": "A^B", "Ideographic": "C^D", "Phonetic": "E"}]),
        ("=C", [{"Ideographic": "C"}]),
        ("A==E", [{"Alphabetic": "A", "Phonetic": "E"}]),
        ("A\\\\B", [{"Alphabetic": "A"}, None, {"Alphabetic": "B"}]),
        ("A=B=C=D", [{"Alphabetic": "A", "Ideographic": "B", "Phonetic": "C"}]),
        ("==", [None]),
        (" ", []),
    ],
)
def test_person_names(text: str, expected: list[object]) -> None:
    """Groups that are there are told, others are not."""
    assert written("PN", text.encode()) == expected


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("AE", b" STORE \\ B", ["STORE", "B"]),
        ("CS", b"A\\\\B ", ["A", None, "B"]),
        ("LO", b" A\\B", [" A", "B"]),
        ("LT", b"a\\b \r\n ", ["a\\b \r\n"]),
        ("UI", b"1.2\\3.4\0", ["1.2", "3.4"]),
        ("LO", b'"quoted"\x01', ['"quoted"\x01']),
        ("UV", (2**53 + 1).to_bytes(8, "little"), [str(2**53 + 1)]),
        ("UV", (2**53).to_bytes(8, "little"), [2**53]),
        ("SV", b"\xff" * 8, [-1]),
        ("AT", b"\x10\x00\x20\x00\xe0\x7f\x10\x00", ["00100020", "7FE00010"]),
        ("UR", b"http://x/\\y ", ["http://x/\\y"]),
    ],
)
def test_other_values(vr: str, value: bytes, expected: list[object]) -> None:
    """Pads are trimmed where they mean nothing, empty values are null."""
    assert written(vr, value) == expected
