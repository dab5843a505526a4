from base64 import b64encode
from io import BytesIO
from math import isnan
from struct import unpack
from typing import Any

import orjson
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dicom import encoder, native_model, native_writer, tags, transfer_syntax
from app.dicom.encoder import Content, Contents, Span
from app.dicom.scanner import Limits, Scan
from app.errors import FailureReason, Refused
from tests.dicom import corpus
from tests.dicom.corpus import File

EXPLICIT = transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN
JPEG = transfer_syntax.JPEG_BASELINE
IDENTITY: dict[str, Any] = {
    "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
    "00080018": {"vr": "UI", "Value": ["1.2.3.4"]},
    "0020000D": {"vr": "UI", "Value": ["1.2"]},
    "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
}


def written(
    dataset: Any, contents: Contents | None = None, source: bytes = b"", syntax: str = EXPLICIT
) -> bytes:
    pieces = encoder.file(dataset, syntax, contents or {})
    return b"".join(
        piece if isinstance(piece, bytes) else source[piece.offset : piece.offset + piece.length]
        for piece in pieces
    )


def scanned(data: bytes) -> dict[str, Any]:
    json: dict[str, Any] = orjson.loads(corpus.scan(data, limits=Limits(bulk_threshold=1 << 20)).json)
    return json


def ascii_text(size: int, alphabet: str = "ABCxyz019 _.^=-") -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=1, max_size=size).filter(
        lambda text: text == text.strip() and text.strip("^=")
    )


unicode_text = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\^= \0\x85\xa0"),
    min_size=1,
    max_size=20,
).filter(lambda text: text.strip() == text)
names = st.dictionaries(
    st.sampled_from(["Alphabetic", "Ideographic", "Phonetic"]), unicode_text, min_size=1, max_size=3
)


def whole(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low = -(1 << (bits - 1)) if signed else 0
    return st.integers(low, low + (1 << bits) - 1)


def very_long(*, signed: bool) -> st.SearchStrategy[int | str]:
    return whole(64, signed=signed).map(lambda n: n if abs(n) <= 1 << 53 else str(n))


def real(width: int) -> st.SearchStrategy[float | str]:
    odd = {float("inf"): "inf", float("-inf"): "-inf"}
    return st.floats(width=width).map(lambda n: "NaN" if isnan(n) else odd.get(n, n))  # type: ignore[arg-type]


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "00080054": ascii_text(16, "ABC019_-"),
    "00101010": st.sampled_from(["003Y", "012M"]),
    "00080008": ascii_text(16, "ABC019_"),
    "00080020": st.dates().map(lambda day: day.strftime("%Y%m%d")),
    "00180050": st.one_of(st.integers(-(10**10), 10**10), st.decimals(-1000, 1000, places=3).map(float)),
    "00200013": st.integers(-(2**31), 2**31 - 1),
    "00081030": unicode_text,
    "00080050": st.text("ABC019ä山", min_size=1, max_size=16),
    "00100010": names,
    "00080301": unicode_text,
    "00082112": st.just({"00080020": {"vr": "DA", "Value": ["20260101"]}, "00100010": {"vr": "PN"}}),
    "00280010": whole(16, signed=False),
    "00189219": whole(16, signed=True),
    "00720078": whole(32, signed=False),
    "00186020": whole(32, signed=True),
    "00720082": very_long(signed=True),
    "00720083": very_long(signed=False),
    "0018605E": real(32),
    "00189087": real(64),
    "00200062": ascii_text(8, "LRB"),
    "00080001": st.from_regex(r"[0-9A-F]{4}[0-9A-E]{4}", fullmatch=True),
}
VR = {
    "00080301": "UC",
    "00720082": "SV",
    "00720083": "UV",
    "00189219": "SS",
    "0018605E": "FL",
    "00080001": "AT",
}
BINARY = ["OB", "OW", "OD", "OF", "OL", "OV", "UN"]


@st.composite
def attributes(draw: st.DrawFn) -> dict[str, Any]:
    """A data set in the very form in which a scan writes it."""
    made: dict[str, Any] = {}
    for tag in draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=8)):
        vr = VR.get(tag) or tags.vr_of(tag)
        values = draw(st.lists(VALUES[tag], max_size=3 if vr != "UR" else 1))
        made[tag] = {"vr": vr, "Value": values} if values else {"vr": vr}
    for text in ("00104000", "00081190"):
        if draw(st.booleans()):
            value = draw(unicode_text) if text == "00104000" else "http://a/b?c=d"
            made[text] = {"vr": tags.vr_of(text), "Value": [value]}
    if draw(st.booleans()):
        binary = draw(st.binary(min_size=8, max_size=64).filter(lambda value: len(value) % 8 == 0))
        made["00091001"] = {"vr": draw(st.sampled_from(BINARY)), "InlineBinary": b64encode(binary).decode()}
        made["00090010"] = {"vr": "LO", "Value": ["SOMEBODY"]}
    return made


datasets = attributes().flatmap(
    lambda outer: st.lists(attributes(), max_size=2).map(
        lambda items: outer | IDENTITY | {"00081115": {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}}
    )
)


def in_utf8(dataset: dict[str, Any]) -> dict[str, Any]:
    told = {} if orjson.dumps(dataset).isascii() else {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}
    return dataset | told


@given(datasets)
def test_a_scan_gives_back_what_was_written(dataset: dict[str, Any]) -> None:
    """Whatever the VRs, nested or not; what is not ASCII is marked as UTF-8."""
    assert scanned(written(dataset)) == in_utf8(dataset)


@given(datasets)
def test_another_reader_finds_the_same(dataset: dict[str, Any]) -> None:
    """pydicom, which we did not write, reads as many elements and the same identity."""
    read = pydicom.dcmread(BytesIO(written(dataset)))
    assert read.file_meta.TransferSyntaxUID == EXPLICIT
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID == "1.2.3.4"
    assert {f"{element.tag:08X}" for element in read} == set(in_utf8(dataset))


@given(datasets)
def test_xml_says_what_json_says(dataset: dict[str, Any]) -> None:
    """Through the Native DICOM Model and back, in pieces of any size."""
    reader = native_model.Reader()
    document = native_writer.document(dataset)
    for at in range(0, len(document), 37):
        reader.feed(document[at : at + 37])
    assert scanned(written(reader.close())) == in_utf8(dataset)


def contents_of(scan: Scan) -> Contents:
    contents = {}
    for bulk in scan.bulk:
        if scan.pixels and scan.pixels.fragments and bulk.path == scan.pixels.tag:
            told = unpack(f"<{len(scan.pixels.fragments) // 8}Q", scan.pixels.fragments)
            spans = tuple(Span(*pair) for pair in zip(told[::2], told[1::2], strict=True))
            contents[f"@/{bulk.path}"] = Content(spans, is_encapsulated=True)
        else:
            contents[f"@/{bulk.path}"] = Content((Span(bulk.offset, bulk.length),))
    return contents


def storable() -> list[File]:
    return [file for file in corpus.files() if file.expected == "stored"]


@pytest.mark.parametrize(**corpus.by_name(storable()))
def test_a_file_made_of_its_own_parts_is_the_same(file: File) -> None:
    """Metadata and pixels of every file of the corpus; but encapsulated Pixel Data are OB (PS3.5 A.4)."""
    scan = corpus.scan(file.data, limits=Limits(normalise=True))
    source = corpus.normalised(file.data) if scan.normalised else file.data
    is_encapsulated = bool(scan.pixels and scan.pixels.fragments)
    syntax = scan.head.transfer_syntax_uid if is_encapsulated else EXPLICIT
    json = orjson.loads(scan.json)
    made = written(json, contents_of(scan), source, syntax)
    again = corpus.scan(made, limits=Limits(normalise=True))
    if is_encapsulated:
        json["7FE00010"]["vr"] = "OB"
    if again.fields.keys() >= {"00080005"} or not scan.json.isascii():
        json["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert orjson.loads(again.json) == json
    for old, new in zip(scan.bulk, again.bulk, strict=True):
        if not is_encapsulated or old.path != "7FE00010":
            assert made[new.offset :][: old.length] == source[old.offset :][: old.length]
    if scan.pixels and again.pixels and not is_encapsulated:
        assert again.pixels.number_of_frames == scan.pixels.number_of_frames


def test_bulk_data_are_named_not_held() -> None:
    """Padded to an even length; the data set around it is bytes."""
    dataset = IDENTITY | {"00420011": {"vr": "OB", "BulkDataURI": "here"}}
    pieces = list(encoder.file(dataset, EXPLICIT, {"here": Content((Span(7, 5),))}))
    assert pieces[1:] == [Span(7, 5), b"\0"]
    assert isinstance(pieces[0], bytes)
    assert pieces[0].endswith(b"\x42\x00\x11\x00OB\0\0\x06\0\0\0")


def test_frames_are_fragments_behind_a_table_of_them() -> None:
    dataset = IDENTITY | {"7FE00010": {"vr": "OB", "BulkDataURI": "p"}}
    contents = {"p": Content((Span(0, 3), Span(3, 4)), is_encapsulated=True)}
    read = pydicom.dcmread(BytesIO(written(dataset, contents, b"abcdefg", JPEG)))
    assert list(pydicom.encaps.generate_frames(read.PixelData, number_of_frames=2)) == [b"abc\0", b"defg"]
    assert pydicom.encaps.parse_basic_offsets(read.PixelData) == [0, 12]


def test_bulk_data_may_lie_inside_of_sequences() -> None:
    item = {"54001010": {"vr": "OW", "BulkDataURI": "w"}}
    dataset = IDENTITY | {"54000100": {"vr": "SQ", "Value": [item]}}
    assert list(encoder.references(dataset)) == ["w"]
    read = pydicom.dcmread(BytesIO(written(dataset, {"w": Content((Span(0, 4),))}, b"wave")))
    assert read.WaveformSequence[0].WaveformData == b"wave"


@pytest.mark.parametrize(
    "attribute",
    [
        pytest.param({"vr": "XX", "Value": ["x"]}, id="no VR"),
        pytest.param({"Value": ["x"]}, id="a VR that is missing"),
        pytest.param({"vr": "LO", "Value": "x"}, id="text for a list"),
        pytest.param({"vr": "US", "Value": [70000]}, id="too large"),
        pytest.param({"vr": "US", "Value": ["x"]}, id="text for a number"),
        pytest.param({"vr": "US", "Value": [None]}, id="nothing for a number"),
        pytest.param({"vr": "US", "Value": 1}, id="no list"),
        pytest.param({"vr": "LO", "Value": [{}]}, id="an object for text"),
        pytest.param({"vr": "LO", "Value": [True]}, id="a truth for text"),
        pytest.param({"vr": "OB", "InlineBinary": "?"}, id="not Base64"),
        pytest.param({"vr": "OB", "InlineBinary": 7}, id="a number for Base64"),
        pytest.param({"vr": "OB", "Value": [1]}, id="values of binary"),
        pytest.param({"vr": "LO", "Value": ["x"], "InlineBinary": "eA=="}, id="two values"),
        pytest.param({"vr": "SQ", "Value": ["x"]}, id="text for an item"),
        pytest.param({"vr": "SQ", "Value": [{"x": {"vr": "LO"}}]}, id="no tag"),
        pytest.param({"vr": "AT", "Value": ["xyz"]}, id="no tag for a value"),
        pytest.param({"vr": "OB", "BulkDataURI": "nowhere"}, id="no bulk data"),
        pytest.param({"vr": "OB", "BulkDataURI": ["x"]}, id="a list of addresses"),
        pytest.param("x", id="no object"),
        pytest.param(None, id="null"),
        pytest.param({"vr": ["LO"]}, id="a list for a VR"),
    ],
)
def test_what_is_no_data_set_is_refused(attribute: Any) -> None:
    """With the tag and never with the value."""
    with pytest.raises(Refused) as refused:
        written(IDENTITY | {"00091001": attribute})
    assert "nowhere" not in str(refused.value)


def test_sequences_nest_only_so_deep() -> None:
    dataset: dict[str, Any] = {}
    for _ in range(70):
        dataset = {"00081115": {"vr": "SQ", "Value": [dataset]}}
    with pytest.raises(Refused) as refused:
        written(IDENTITY | dataset)
    assert refused.value.reason == FailureReason.OUT_OF_RESOURCES


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.33333333333333"),
        (-1e-7, "-1e-07"),
        (5, "5"),
        (2.5e200, "2.5e+200"),
        ("1.50", "1.50"),
    ],
)
def test_a_decimal_fits_its_sixteen_characters(number: object, text: str) -> None:
    data = written(IDENTITY | {"00180050": {"vr": "DS", "Value": [number]}})
    value = pydicom.dcmread(BytesIO(data)).get_item("00180050").value
    assert isinstance(value, bytes)
    assert len(value) <= 16
    assert value.decode().strip().startswith(text)


def test_a_value_that_is_too_long_for_its_vr_is_unknown() -> None:
    """PS3.5 6.2.2: the short form of Explicit VR cannot tell its length."""
    data = written(IDENTITY | {"00081080": {"vr": "LO", "Value": ["x" * 70000]}})
    assert b"\x08\x00\x80\x10UN\0\0\x70\x11\x01\0" in data


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("1.2"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["00081115", "7FE00010", "00280010", "00100010", "7fe00010", "x"])
            | st.sampled_from(["vr", "Value", "InlineBinary", "BulkDataURI", "Alphabetic"]),
            inner | st.sampled_from(["SQ", "OB", "PN", "US", "AT", "DS", "UN", "LO"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["00081115", "7FE00010", "00280010", "00100010", "00080005"]), junk))
def test_any_json_is_written_or_refused(dataset: dict[str, Any]) -> None:
    """Nothing else happens, whatever stands where."""
    uris = {uri: Content((Span(0, 0),)) for uri in encoder.references(dataset) if len(uri) > 2}
    try:
        written(IDENTITY | dataset, uris)
    except Refused:
        return


def test_what_nests_deeper_than_any_data_set_is_refused() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    with pytest.raises(Refused):
        written(IDENTITY | {"00081030": {"vr": "LO", "Value": deep}})
