from typing import Any

import pytest

from app.dicom import native_writer
from app.dicom.native_model import Reader
from app.errors import FailureReason, Refused

XMLNS = 'xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"'


def read(inner: str, head: str = '<?xml version="1.0"?>', attributes: str = XMLNS) -> dict[str, Any]:
    return whole(f"{head}<NativeDicomModel {attributes}>{inner}</NativeDicomModel>".encode())


def whole(document: bytes) -> dict[str, Any]:
    reader = Reader()
    reader.feed(document)
    return reader.close()


def attribute(inner: str, vr: str = "LO", tag: str = "00081030", more: str = "") -> str:
    return f'<DicomAttribute tag="{tag}" vr="{vr}" {more}>{inner}</DicomAttribute>'


@pytest.mark.parametrize(
    ("xml", "json"),
    [
        pytest.param(attribute(""), {"vr": "LO"}, id="empty"),
        pytest.param(attribute('<Value number="1"></Value>'), {"vr": "LO"}, id="an empty value"),
        pytest.param(
            attribute('<Value number="1"> a &lt; b</Value>'), {"vr": "LO", "Value": [" a < b"]}, id="blanks"
        ),
        pytest.param(
            attribute('<Value number="3">c</Value>'), {"vr": "LO", "Value": [None, None, "c"]}, id="a gap"
        ),
        pytest.param(
            attribute('<Value number="1">7</Value><Value number="2"> -1 </Value>', "IS"),
            {"vr": "IS", "Value": [7, -1]},
            id="numbers",
        ),
        pytest.param(attribute('<Value number="1">1.50</Value>', "DS"), {"vr": "DS", "Value": ["1.50"]}, id="DS"),
        pytest.param(attribute('<Value number="1">inf</Value>', "FD"), {"vr": "FD", "Value": ["inf"]}, id="FD"),
        pytest.param(
            attribute("<InlineBinary> AA\n== </InlineBinary>", "OB"), {"vr": "OB", "InlineBinary": "AA=="}, id="inline"
        ),
        pytest.param(
            attribute('<BulkData uri="a/1"/>', "OW"), {"vr": "OW", "BulkDataURI": "a/1"}, id="bulk data"
        ),
        pytest.param(
            attribute('<BulkData uuid="9"></BulkData>', "OW"), {"vr": "OW", "BulkDataURI": "9"}, id="bulk data by UUID"
        ),
        pytest.param(
            attribute(
                '<PersonName number="1"><Alphabetic><GivenName>J</GivenName><FamilyName>D</FamilyName>'
                "<NameSuffix>X</NameSuffix></Alphabetic><Phonetic><FamilyName>d</FamilyName></Phonetic></PersonName>",
                "PN",
            ),
            {"vr": "PN", "Value": [{"Alphabetic": "D^J^^^X", "Phonetic": "d"}]},
            id="a name",
        ),
        pytest.param(
            attribute('<Item number="1">' + attribute("") + '</Item><Item number="2"/>', "SQ"),
            {"vr": "SQ", "Value": [{"00081030": {"vr": "LO"}}, {}]},
            id="items",
        ),
    ],
)  # fmt: skip
def test_each_kind_of_content_is_read(xml: str, json: dict[str, Any]) -> None:
    assert read(xml) == {"00081030": json}


def test_the_namespace_may_be_missing() -> None:
    assert read('<DicomAttribute tag="00100010" vr="PN"/>', attributes="") == {"00100010": {"vr": "PN"}}


def test_a_private_attribute_stands_in_its_creators_block() -> None:
    """Reserved earlier in the document or not."""
    creator = attribute('<Value number="1">ME</Value>', "LO", "00290031")
    private = attribute("", "LO", "00290005", 'privateCreator="ME"')
    other = attribute("", "LO", "00290005", 'privateCreator="YOU"')
    assert read(creator + private + other) == {
        "00290031": {"vr": "LO", "Value": ["ME"]},
        "00293105": {"vr": "LO"},
        "00290010": {"vr": "LO", "Value": ["YOU"]},
        "00291005": {"vr": "LO"},
    }


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE NativeDicomModel [<!ENTITY a "b">]>',
        '<!DOCTYPE NativeDicomModel SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE NativeDicomModel [<!ENTITY % a SYSTEM "http://127.0.0.1/">%a;]>',
    ],
    ids=["entity", "external", "parameter"],
)
def test_no_document_type_is_taken(head: str) -> None:
    """So nothing expands and nothing is fetched."""
    with pytest.raises(Refused, match="document type"):
        read("", head)


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param("<Value/>", id="a value of nothing"),
        pytest.param('<DicomAttribute vr="LO"/>', id="no tag"),
        pytest.param('<DicomAttribute tag="00100010"/>', id="a VR that is missing"),
        pytest.param(attribute("<Other/>"), id="another element"),
        pytest.param(attribute('<BulkData uri=""/>'), id="no URI"),
        pytest.param(attribute('<Value number="2"/><Value number="1"/>'), id="falling numbers"),
        pytest.param(attribute('<Value number="999999999"/>'), id="a leap"),
        pytest.param(attribute("", "XX"), id="no VR"),
        pytest.param("<", id="not well-formed"),
        pytest.param("&a;", id="an entity"),
    ],
)
def test_what_is_no_native_model_is_refused(inner: str) -> None:
    with pytest.raises(Refused):
        read(inner)


@pytest.mark.parametrize("document", [b"", b"<NativeDicomModel>", b"<html/>", b"\xff\xfe", b"{}"])
def test_a_document_that_is_none_is_refused(document: bytes) -> None:
    with pytest.raises(Refused):
        whole(document)


def test_elements_nest_only_so_deep() -> None:
    with pytest.raises(Refused) as refused:
        read('<DicomAttribute tag="00081115" vr="SQ"><Item number="1">' * 300)
    assert refused.value.reason == FailureReason.OUT_OF_RESOURCES


def test_what_xml_cannot_hold_is_written_as_unknown() -> None:
    """A control character in a text; quotes and angles are escaped wherever they stand."""
    told = {
        "00081030": {"vr": "LO", "Value": ["a\x01<&"]},
        "00420011": {"vr": "OB", "BulkDataURI": "a?b&\"c'"},
    }
    assert whole(native_writer.document(told)) == told | {"00081030": {"vr": "LO", "Value": ["a\ufffd<&"]}}
