"""Answers of all kinds of servers, as JSON and as XML, are read for what they tell of each instance."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.upkeep.importing import answers

CANNOT = "The other server refused it: C000, it cannot understand it."


def item(uid: str | None = None, failure: int | None = None, warning: int | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if uid:
        made["00081155"] = {"vr": "UI", "Value": [uid]}
    if failure is not None:
        made["00081197"] = {"vr": "US", "Value": [failure]}
    if warning is not None:
        made["00081196"] = {"vr": "US", "Value": [warning]}
    return made


MODULE = {
    "00081198": {"vr": "SQ", "Value": [item("1.1", 0xC000)]},
    "00081199": {
        "vr": "SQ",
        "Value": [item("1.2"), item("1.3", warning=0xB000), item("1.4", warning=0xB006)],
    },
    "0008119A": {"vr": "SQ", "Value": [item(failure=0x0110)]},
}

XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
 <DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence"><Item number="1">
  <DicomAttribute tag="00081155" vr="UI"><Value number="1"> 1.1 </Value></DicomAttribute>
  <DicomAttribute tag="00081197" vr="US"><Value number="1">49152</Value></DicomAttribute></Item></DicomAttribute>
 <DicomAttribute tag="00081199" vr="SQ"><Item number="1">
  <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2</Value></DicomAttribute></Item><Item number="2">
  <DicomAttribute tag="00081155" vr="UI"><Value number="1">1.3</Value></DicomAttribute></Item></DicomAttribute>
</NativeDicomModel>"""


@pytest.mark.parametrize("body", [orjson.dumps(MODULE), orjson.dumps([MODULE])], ids=["object", "array"])
def test_json_is_read(body: bytes) -> None:
    answer = answers.read(body)
    assert answer.stored == {"1.2", "1.3"}
    assert answer.warned == {"1.4": "The other server warned of it: B006."}
    assert answer.failed == {"1.1": CANNOT}
    assert answer.other == ["The other server refused it: 0110, it failed."]


def test_xml_is_read() -> None:
    answer = answers.read(XML)
    assert answer.stored == {"1.2", "1.3"}
    assert answer.failed == {"1.1": CANNOT}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no", b"<html><body>Error</body>", b"<a", b"[]", b"[1]", b"7", b'{"00081199":[]}',
        b'{"00081199":{"Value":7}}', b'{"00081199":{"Value":[7]}}', b'{"00081199":{"Value":[{"00081155":{}}]}}',
    ],
)  # fmt: skip
def test_what_is_no_such_answer_tells_nothing(body: bytes) -> None:
    assert not answers.read(body).is_telling


def test_a_reason_that_is_not_known_is_shown_as_it_is() -> None:
    body = orjson.dumps({"00081198": {"vr": "SQ", "Value": [item("1.1", 0xA777), item("1.2")]}})
    assert answers.read(body).failed == {
        "1.1": "The other server refused it: A777.",
        "1.2": "The other server refused it.",
    }
