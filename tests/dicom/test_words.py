"""Transfer syntaxes, tags, UIDs, classes, media types, JSON pieces: the words the rooms share."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import AllTransferSyntaxes

from app.dicom import dicom_json, media_types, sop_class, tags, transfer_syntax, uids
from app.dicom.media_types import MediaType
from tests.dicom.corpus import scan
from tests.make import instance


@pytest.mark.parametrize("uid", [str(uid) for uid in AllTransferSyntaxes])
def test_every_syntax_is_known(uid: str) -> None:
    """What pydicom calls encapsulated is encapsulated here, and has a media type unless it is uncompressed."""
    named = sop_class.name(uid)
    if not named.startswith(("JPIP", "Papyrus", "RFC 2557", "XML", "SMPTE")):
        assert transfer_syntax.is_encapsulated(uid) == _is_encapsulated(uid), named
    assert transfer_syntax.is_video(uid) == (("MPEG" in named and "JPEG" not in named) or "HEVC" in named)


def _is_encapsulated(uid: str) -> bool:
    native = {
        transfer_syntax.IMPLICIT_VR_LITTLE_ENDIAN,
        transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN,
        transfer_syntax.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        transfer_syntax.EXPLICIT_VR_BIG_ENDIAN,
    }
    return uid not in native


@pytest.mark.parametrize(
    ("uid", "media_type", "lossy"),
    [
        (transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN, "application/octet-stream", False),
        (transfer_syntax.JPEG_BASELINE, "image/jpeg", True),
        (transfer_syntax.JPEG_LOSSLESS_SV1, "image/jpeg", False),
        (transfer_syntax.JPEG_LS_LOSSLESS, "image/jls", False),
        (transfer_syntax.JPEG_LS_NEAR_LOSSLESS, "image/jls", True),
        (transfer_syntax.JPEG_2000_LOSSLESS, "image/jp2", False),
        (transfer_syntax.JPEG_2000_PART_2, "image/jpx", True),
        (transfer_syntax.HTJ2K, "image/jphc", True),
        (transfer_syntax.JPEG_XL_LOSSLESS, "image/jxl", False),
        (transfer_syntax.RLE_LOSSLESS, "image/dicom-rle", False),
        (transfer_syntax.MPEG2_MAIN_LEVEL, "video/mpeg", True),
        (transfer_syntax.MPEG4_AVC_41 + ".1", "video/mp4", True),
        (transfer_syntax.HEVC_51, "video/H265", True),
        ("1.2.3.4", "application/octet-stream", False),
    ],
)
def test_media_types_of_syntaxes(uid: str, media_type: str, lossy: bool) -> None:  # noqa: FBT001
    """PS3.18 Table 8.7.3-5."""
    assert transfer_syntax.media_type(uid) == media_type
    assert transfer_syntax.is_lossy(uid) == lossy
    assert transfer_syntax.supported(uid)


def test_tags_and_keywords() -> None:
    """Tags are eight digits, by keyword and back."""
    assert tags.tag_of("PatientName") == "00100010"
    assert tags.tag_of("Nonsense") is None
    assert tags.keyword_of("00100010") == "PatientName"
    assert tags.keyword_of("00091001") == ""
    assert tags.hex_of(tags.key_of("7FE00010")) == "7FE00010"
    assert (tags.vr_of("60020010"), tags.vr_of("00091001"), tags.vr_of("7FE00010")) == ("US", None, "OW")
    assert (tags.private_vr("00190010", ""), tags.private_vr("00191001", "NOBODY")) == ("LO", "UN")
    assert tags.private_vr("0019100C", "SIEMENS MR HEADER") == "IS"


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.840.abc", "0", "1" * 64, "01.2", "1.2."])
def test_acceptable_uids(uid: str) -> None:
    """Letters and leading zeros are borne with."""
    assert uids.is_acceptable(uids.normalised(f" {uid}\0 "))


@pytest.mark.parametrize("uid", ["", "1/2", "..", ".", "1..2", "1" * 65, "1 2", "1\n", "1\\2", "é", "1\0002"])
def test_unacceptable_uids(uid: str) -> None:
    """What an address could misread is refused."""
    assert not uids.is_acceptable(uids.normalised(uid))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("application/dicom", MediaType("application/dicom")),
        (
            "Application/DICOM+json ;  charset=UTF-8",
            MediaType("application/dicom+json", {"charset": "UTF-8"}),
        ),
        (
            'multipart/related; type="application/dicom"; boundary=x',
            MediaType("multipart/related", {"type": "application/dicom", "boundary": "x"}),
        ),
        (
            "multipart/related;type=application/dicom;boundary=x;",
            MediaType("multipart/related", {"type": "application/dicom", "boundary": "x"}),
        ),
        (r'a/b; c="d\"e;f\\"', MediaType("a/b", {"c": r'd"e;f\\'[:-1]})),
        ("a/b; transfer-syntax=*; transfer-syntax=1.2", MediaType("a/b", {"transfer-syntax": "*"})),
        ("*/*", MediaType("*/*")),
        ("nothing", None),
        ("", None),
        ("a/b; c", None),
        ('a/b; c="d', None),
        ("a/b c", None),
    ],
)
def test_media_types(text: str, expected: MediaType | None) -> None:
    """Quoted or not, with blanks or without; what is broken is none."""
    assert media_types.parse(text) == expected


@given(
    st.dictionaries(
        st.text("abc-", min_size=1), st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20))
    )
)
def test_media_types_survive_writing(parameters: dict[str, str]) -> None:
    """What is written is read back."""
    media_type = MediaType("multipart/related", parameters)
    assert media_types.parse(str(media_type)) == media_type


def test_bulk_data_are_addressed() -> None:
    """One replacement gives every address; text that looks like one is left alone."""
    found = scan(instance(PatientID='x","BulkDataURI":"@/1'))
    json = orjson.loads(dicom_json.addressed(found.json, "http://host/studies/1/bulkdata"))
    assert json["7FE00010"]["BulkDataURI"] == "http://host/studies/1/bulkdata/7FE00010"
    assert json["00100020"]["Value"] == ['x","BulkDataURI":"@/1']


def test_objects_are_put_together() -> None:
    """Attributes are written, added and joined without parsing."""
    own = dicom_json.written(
        {"00081190": dicom_json.attribute("UR", "a"), "00080054": dicom_json.attribute("AE")}
    )
    assert own == b'{"00080054":{"vr":"AE"},"00081190":{"vr":"UR","Value":["a"]}}'.replace(
        b'"vr":"UR","Value":["a"]', b'"Value":["a"],"vr":"UR"'
    )
    assert dicom_json.merged(b"{}", [("00100020", b"{}")]) == b'{"00100020":{}}'
    assert dicom_json.merged(b'{"1":{}}', [("2", b"{}"), ("3", b"{}")]) == b'{"1":{},"2":{},"3":{}}'
    assert dicom_json.merged(b'{"1":{}}', []) == b'{"1":{}}'
    assert dicom_json.array([b"{}", b"{}"]) == b"[{},{}]"
