"""STOW of metadata and bulk data that come apart: the instances that are made of them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import imagecodecs
import numpy as np
import orjson
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from app.dicom import native_writer
from tests import make
from tests.web import doors
from tests.web.doors import FAILED, OTHER, STORED, URL, Archive, reasons

JSON, XML, OCTETS = "application/dicom+json", "application/dicom+xml", "application/octet-stream"
DICOM = "application/dicom"
Part = tuple[str, str, bytes]
"""Content-Type, Content-Location, body."""

COLOUR = np.linspace(0, 255, 24 * 16 * 3).astype(np.uint8).reshape(24, 16, 3)
GREY = COLOUR[..., 0].copy()
IMAGE_PIXEL = [
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
]  # fmt: skip


def metadata(uri: str = "", tag: str = "7FE00010", vr: str = "OW", **attributes: Any) -> dict[str, Any]:
    """A CT image's data set as DICOM JSON, its pixels behind `uri`."""
    told: dict[str, Any] = make.dataset(PixelData=None, **attributes).to_json_dict()
    return told | ({tag: {"vr": vr, "BulkDataURI": uri}} if uri else {})


def pictured(uri: str = "p", **attributes: Any) -> dict[str, Any]:
    """Without a word about the picture."""
    untold: dict[str, Any] = dict.fromkeys(IMAGE_PIXEL)
    return metadata(uri, SOPClassUID=make.SECONDARY_CAPTURE, **untold, **attributes)


def body(*parts: Part, boundary: str = "b") -> bytes:
    made = b""
    for media_type, location, content in parts:
        where = f"content-location: {location}\r\n" if location else ""
        made += f"--{boundary}\r\nContent-Type: {media_type}\r\n{where}\r\n".encode() + content + b"\r\n"
    return made + f"--{boundary}--".encode()


def post(
    archive: Archive, *parts: Part, root_type: str = JSON, study: str = "", content: Any = None
) -> httpx.Response:
    address = f"{archive.root}/studies/{study}".rstrip("/")
    headers = {"Content-Type": f'multipart/related; type="{root_type}"; boundary=b'}
    return doors.post(address, content=content or body(*parts), headers=headers)


def json(*datasets: dict[str, Any]) -> Part:
    return JSON, "", orjson.dumps(datasets)


def made(answer: httpx.Response) -> tuple[str, Dataset]:
    """The address of the one instance that was stored, and the instance."""
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()[STORED]["Value"]
    address: str = item[URL]["Value"][0]
    got = doors.get(address, headers={"Accept": "application/dicom; transfer-syntax=*"})
    return address, doors.read(got.content)


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("bulk/1", "bulk/1"),
        ("bulk/1", "./bulk/1"),
        ("http://elsewhere/1", "http://elsewhere/1"),
        ("urn:uuid:1-2", "urn:uuid:1-2"),
        ("{root}/x", "x"),
        ("x", "{root}/x"),
        ("/dicom-web/x?a=b", "{root}/x?a=b"),
    ],
)
@pytest.mark.parametrize("media_type", [JSON, XML])
@pytest.mark.parametrize("is_last", [True, False], ids=["bulk first", "metadata first"])
def test_bulk_data_are_found_by_their_location(
    archive: Archive, uri: str, location: str, media_type: str, *, is_last: bool
) -> None:
    """Absolute or relative, in JSON or XML, before or behind the metadata; the pixels come back."""
    dataset = metadata(uri.format(root=archive.root))
    text = orjson.dumps([dataset]) if media_type == JSON else native_writer.document(dataset)
    parts = [(media_type, "", text), (OCTETS, location.format(root=archive.root), bytes(range(32)))]
    address, read = made(post(archive, *(reversed(parts) if is_last else parts), root_type=media_type))
    assert read.PixelData == bytes(range(32))
    assert read.PatientID == dataset["00100020"]["Value"][0]
    assert str(read.file_meta.TransferSyntaxUID) == "1.2.840.10008.1.2.1"
    assert doors.get(f"{address}/frames/1", headers={"Accept": OCTETS}).content == bytes(range(32))


def test_metadata_come_back_as_they_were_sent(archive: Archive) -> None:
    """But for what never was in them, and the address of the bulk data."""
    dataset = metadata("p", PatientName="Müller^Jörg", StudyDescription="α < β")
    address, _ = made(post(archive, json(dataset), (OCTETS, "p", bytes(32))))
    (told,) = doors.get(f"{address}/metadata").json()
    assert told.pop("7FE00010")["BulkDataURI"] == f"{address}/bulkdata/7FE00010"
    assert told == {tag: value for tag, value in dataset.items() if tag != "7FE00010"}


@pytest.mark.parametrize("media_type", [JSON, XML])
def test_inline_binary_needs_no_parts(archive: Archive, media_type: str) -> None:
    """Nor does one data set need a multipart body."""
    dataset = metadata() | {"7FE00010": {"vr": "OW", "InlineBinary": b64encode(bytes(range(32))).decode()}}
    text = orjson.dumps([dataset]) if media_type == JSON else native_writer.document(dataset)
    answer = doors.post(f"{archive.root}/studies", content=text, headers={"Content-Type": media_type})
    assert made(answer)[1].PixelData == bytes(range(32))


def test_one_part_of_metadata_may_hold_many_instances(archive: Archive) -> None:
    """Each with bulk data of its own, in any order; and one value that they share."""
    datasets = [
        metadata(f"p/{number}") | {"00420011": {"vr": "OB", "BulkDataURI": "same"}} for number in range(5)
    ]
    parts = [(OCTETS, f"p/{number}", bytes([number] * 32)) for number in (3, 1, 4, 0, 2)]
    answer = post(archive, json(*datasets), (OCTETS, "same", b"shared"), *parts)
    assert answer.status_code == 200, answer.text
    told = answer.json()[STORED]["Value"]
    assert [item["00081155"] for item in told] == [dataset["00080018"] for dataset in datasets]
    for number, item in enumerate(told):
        read = doors.read(doors.get(item[URL]["Value"][0], headers={"Accept": DICOM}).content)
        assert (read.PixelData, read.EncapsulatedDocument) == (bytes([number] * 32), b"shared")


def test_instances_and_metadata_may_come_in_one_request(archive: Archive) -> None:
    answer = post(archive, (DICOM, "", make.instance()), json(metadata("p")), (OCTETS, "p", bytes(32)))
    assert (answer.status_code, len(answer.json()[STORED]["Value"])) == (200, 2)


@pytest.mark.parametrize("size", [1, 13, 1000], ids=lambda size: f"pieces of {size}")
def test_a_body_may_come_in_any_pieces(archive: Archive, size: int) -> None:
    whole = body(json(metadata("p")), (OCTETS, "p", bytes(32)))

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(whole), size):
            yield whole[at : at + size]

    assert made(post(archive, content=pieces()))[1].PixelData == bytes(32)


def picture(kind: str, pixels: Any, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


PICTURES = [
    pytest.param("image/jpeg", picture("JPEG", COLOUR), "4.50", "YBR_FULL_422", 3, id="JPEG"),
    pytest.param("image/jpeg", picture("JPEG", COLOUR, subsampling=0), "4.50", "YBR_FULL", 3, id="JPEG 4:4:4"),
    pytest.param("image/jpeg", picture("JPEG", GREY), "4.50", "MONOCHROME2", 1, id="JPEG grey"),
    pytest.param(
        "image/jpeg", bytes(imagecodecs.ljpeg_encode(GREY)), "4.57", "MONOCHROME2", 1, id="JPEG lossless"
    ),
    pytest.param("image/jls", bytes(imagecodecs.jpegls_encode(GREY)), "4.80", "MONOCHROME2", 1, id="JPEG-LS"),
    pytest.param(
        "image/jls", bytes(imagecodecs.jpegls_encode(GREY, level=2)), "4.81", "MONOCHROME2", 1, id="JPEG-LS lossy"
    ),
    pytest.param(
        "image/jp2", bytes(imagecodecs.jpeg2k_encode(GREY, codecformat="j2k", reversible=True)), "4.90",
        "MONOCHROME2", 1, id="JPEG 2000",
    ),
    pytest.param(
        "image/jp2", bytes(imagecodecs.jpeg2k_encode(COLOUR, codecformat="jp2", reversible=True, mct=True)), "4.90",
        "YBR_RCT", 3, id="JP2",
    ),
    pytest.param(
        "image/jp2", bytes(imagecodecs.jpeg2k_encode(COLOUR, codecformat="jp2", level=40, reversible=False, mct=True)),
        "4.91", "YBR_ICT", 3, id="JP2 lossy",
    ),
    pytest.param("image/jphc", bytes(imagecodecs.htj2k_encode(GREY)), "4.201", "MONOCHROME2", 1, id="HTJ2K"),
    pytest.param("image/png", picture("PNG", COLOUR), "1", "RGB", 3, id="PNG"),
    pytest.param("image/png", picture("PNG", GREY.astype(np.uint16) * 99), "1", "MONOCHROME2", 1, id="PNG 16 bits"),
    pytest.param("image/gif", picture("GIF", GREY), "1", "RGB", 3, id="GIF"),
]  # fmt: skip


@pytest.mark.parametrize(("media_type", "data", "syntax", "photometric", "samples"), PICTURES)
def test_a_picture_tells_its_own_attributes(
    archive: Archive, media_type: str, data: bytes, syntax: str, photometric: str, samples: int
) -> None:
    """Transfer syntax and Image Pixel attributes that the metadata leave out; and a browser sees the picture."""
    address, read = made(post(archive, json(pictured()), (media_type, "p", data)))
    assert str(read.file_meta.TransferSyntaxUID) == f"1.2.840.10008.1.2.{syntax}"
    assert (read.Rows, read.Columns, read.SamplesPerPixel) == (24, 16, samples)
    assert read.PhotometricInterpretation == photometric
    assert read.BitsStored == read.HighBit + 1 <= read.BitsAllocated
    assert read.get("PlanarConfiguration", "none") == (0 if samples == 3 else "none")
    assert read.get("LossyImageCompression", "00") == ("01" if syntax in {"4.50", "4.81", "4.91"} else "00")
    shown = doors.get(f"{address}/rendered", headers={"Accept": "image/png"})
    assert shown.status_code == 200, shown.text
    assert Image.open(BytesIO(shown.content)).size == (16, 24)


def test_a_lossless_picture_comes_back_pixel_for_pixel(archive: Archive) -> None:
    """PNG and GIF are decoded once, transparency dropped; animated GIFs become frames."""
    rgba = np.dstack([COLOUR, GREY])
    assert (
        made(post(archive, json(pictured()), ("image/png", "p", picture("PNG", rgba))))[1].PixelData
        == COLOUR.tobytes()
    )
    deep = GREY.astype(np.uint16) * 200
    assert (
        made(post(archive, json(pictured()), ("image/png", "p", picture("PNG", deep))))[1].PixelData
        == deep.tobytes()
    )
    frames = [Image.fromarray(np.roll(GREY, shift)) for shift in range(3)]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    read = made(post(archive, json(pictured()), ("image/gif", "p", buffer.getvalue())))[1]
    assert read.NumberOfFrames == 3
    assert read.pixel_array[2, ..., 0].tobytes() == np.roll(GREY, 2).tobytes()


def test_frames_may_come_one_by_one(archive: Archive) -> None:
    """Parts of one location are frames in turn; each comes back as it was sent."""
    frames = [picture("JPEG", np.roll(GREY, shift)) for shift in range(3)]
    address, read = made(post(archive, json(pictured()), *(("image/jpeg", "p", frame) for frame in frames)))
    assert read.NumberOfFrames == 3
    got = doors.get(f"{address}/frames/2", headers={"Accept": "image/jpeg; transfer-syntax=*"})
    assert got.content.rstrip(b"\0") == frames[1]


@pytest.mark.parametrize(
    "media_type", ["image/jpeg; transfer-syntax=*", f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.4.50"]
)
def test_octets_of_a_named_transfer_syntax_tell_the_same(archive: Archive, media_type: str) -> None:
    _, read = made(post(archive, json(pictured()), (media_type, "p", picture("JPEG", GREY))))
    assert (str(read.file_meta.TransferSyntaxUID), read.Rows) == ("1.2.840.10008.1.2.4.50", 24)


def test_a_named_transfer_syntax_stands(archive: Archive) -> None:
    rle = imagecodecs.packbits_encode(GREY.tobytes())
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    told = metadata("p", Rows=24, Columns=16, BitsAllocated=8, BitsStored=8, HighBit=7)
    media_type = f'{OCTETS}; transfer-syntax="1.2.840.10008.1.2.5"'
    _, read = made(post(archive, json(told), (media_type, "p", header + rle)))
    assert str(read.file_meta.TransferSyntaxUID) == "1.2.840.10008.1.2.5"


def test_what_the_metadata_say_is_not_overruled(archive: Archive) -> None:
    """Nothing is coerced."""
    told = pictured() | {"00280004": {"vr": "CS", "Value": ["MONOCHROME1"]}, "00280010": {"vr": "US"}}
    _, read = made(post(archive, json(told), ("image/jpeg", "p", picture("JPEG", GREY))))
    assert (read.PhotometricInterpretation, read.Rows) == ("MONOCHROME1", 24)


def test_a_document_tells_its_type_and_length(archive: Archive) -> None:
    pdf = b"%PDF-1.4".ljust(2001, b"x")
    told = metadata("d", "00420011", "OB")
    address, read = made(post(archive, json(told), ("application/pdf", "d", pdf)))
    assert (read.MIMETypeOfEncapsulatedDocument, read.EncapsulatedDocumentLength) == ("application/pdf", 2001)
    assert doors.get(f"{address}/bulkdata/00420011").content.rstrip(b"\0") == pdf


@pytest.mark.parametrize(
    ("parts", "tag", "reason"),
    [
        pytest.param([json(metadata("p"))], FAILED, 0xC000, id="no bulk data"),
        pytest.param([json(metadata("p")), (OCTETS, "q", b"")], FAILED, 0xC000, id="another's bulk data"),
        pytest.param([(OCTETS, "q", b"x")], OTHER, 0xC000, id="bulk data of nobody"),
        pytest.param([json({})], OTHER, 0xC000, id="an empty data set"),
        pytest.param([json(metadata(SOPInstanceUID=None))], OTHER, 0xC000, id="no instance"),
        pytest.param([json(metadata() | {"x": {}})], FAILED, 0xC000, id="no tag"),
        pytest.param([(JSON, "", b"[{]")], OTHER, 0xC000, id="no JSON"),
        pytest.param([(JSON, "", b'{"a"')], OTHER, 0xC000, id="cut JSON"),
        pytest.param([(JSON, "", b'{"a" 1}')], OTHER, 0xC000, id="wrong JSON"),
        pytest.param([(XML, "", b"<html/>")], OTHER, 0xC000, id="no Native DICOM Model"),
        pytest.param([("text/plain", "", b"x")], OTHER, 0xC000, id="neither"),
        pytest.param([json(pictured()), ("image/jpeg", "p", b"\xff\xd8\xff\xd9")], FAILED, 0xC000, id="no JPEG"),
        pytest.param([json(pictured()), ("image/png", "p", b"\x89PNG")], FAILED, 0xC000, id="no PNG"),
        pytest.param([json(pictured()), ("image/gif", "p", b"GIF89a")], FAILED, 0xC000, id="no GIF"),
        pytest.param([json(pictured()), ("image/bmp", "p", b"BM")], FAILED, 0xC122, id="no transfer syntax"),
        pytest.param(
            [json(pictured()), ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.90", "p", picture("JPEG", GREY))],
            FAILED, 0xC122, id="another type's transfer syntax",
        ),
        pytest.param(
            [json(pictured()), ("image/jxl; transfer-syntax=1.2.840.10008.1.2.1", "p", b"x")],
            FAILED, 0xC122, id="a native transfer syntax",
        ),
        pytest.param(
            [json(pictured()), ("image/jpeg", "p", picture("JPEG", GREY, progressive=True))], FAILED, 0xC122,
            id="progressive",
        ),
        pytest.param(
            [json(pictured()), ("image/jpeg", "p", picture("JPEG", GREY)), ("image/jp2", "p", PICTURES[6].values[1])],
            FAILED, 0xC000, id="frames of two kinds",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_told_and_its_neighbours_are_stored(
    archive: Archive, parts: list[Part], tag: str, reason: int
) -> None:
    """Nothing of the refused one stays; alone it is a 409."""
    before = archive.objects()
    answer = post(archive, json(metadata("n")), *parts, (OCTETS, "n", bytes(32)))
    assert answer.status_code == 202, answer.text
    assert reason in [*reasons(answer, FAILED), *reasons(answer, OTHER)]
    assert len(answer.json()[STORED]["Value"]) == 1
    assert reason in reasons(answer, tag)
    assert len(archive.objects() - before) == 1
    alone = post(archive, *parts)
    assert alone.status_code == 409
    assert alone.headers["warning"].startswith(f'299 {archive.root} "')


def test_metadata_keep_to_the_study_of_the_address(archive: Archive) -> None:
    answer = post(archive, json(metadata("p")), (OCTETS, "p", bytes(32)), study="1.2.3")
    assert (answer.status_code, reasons(answer)) == (409, [0xA900])


def test_the_same_again_is_success_and_something_else_is_not(archive: Archive) -> None:
    told = metadata("p")
    for _ in range(2):
        assert post(archive, json(told), (OCTETS, "p", bytes(32))).status_code == 200
    answer = post(archive, json(told), (OCTETS, "p", bytes([1] * 32)))
    assert (answer.status_code, reasons(answer)) == (409, [0x0111])


def test_a_body_that_breaks_off_makes_nothing_of_its_parts(archive: Archive) -> None:
    before = archive.objects()
    whole = body(json(metadata("p")), (OCTETS, "p", bytes(32)))
    doors.is_problem(post(archive, content=whole[:-8]), 400)
    assert archive.objects() == before


def test_what_is_put_aside_has_limits(empty: str, tmp_path: Path) -> None:
    """A700 for metadata and bulk data that are too long; their neighbours are stored, and nothing is left."""
    with doors.serving(empty, tmp_path, upload_metadata_bytes=20_000, upload_spool_bytes=1 << 20) as archive:
        long = metadata("p", StudyDescription="x" * 64) | {"00104000": {"vr": "LT", "Value": ["y" * 30_000]}}
        answer = post(archive, json(long), json(metadata("p")), (OCTETS, "p", bytes(32)))
        assert (answer.status_code, reasons(answer, OTHER)) == (202, [0xA700])
        answer = post(
            archive,
            json(metadata("p")),
            json(metadata("q")),
            (OCTETS, "p", bytes(32)),
            (OCTETS, "q", bytes(2 << 20)),
        )
        assert (answer.status_code, 0xA700 in reasons(answer, OTHER)) == (202, True)
        assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]


def test_metadata_of_very_many_values_are_refused(archive: Archive) -> None:
    """Each value is many times its text in memory."""
    values = b'[{"00091001":{"vr":"US","Value":[' + b"1," * 1_000_001 + b"1]}}]"
    answer = post(archive, (JSON, "", values))
    assert (answer.status_code, reasons(answer, OTHER)) == (409, [0xA700])


def test_large_bulk_data_pass_through_a_file_and_come_out_whole(archive: Archive) -> None:
    """Larger than what is held in memory, odd in length."""
    data = np.random.default_rng(7).bytes(5_000_001)
    told = metadata("d", "00420011", "OB")
    address, _ = made(post(archive, (OCTETS, "d", data), json(told)))
    assert doors.get(f"{address}/bulkdata/00420011").content == data + b"\0"


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("00080016", "SOP Class UID"),
        ("00080018", "SOP Instance UID"),
        ("0020000D", "Study Instance UID"),
        ("0020000E", "Series Instance UID"),
    ],
)
def test_metadata_of_no_instance_are_told_so_and_write_nothing(archive: Archive, tag: str, name: str) -> None:
    """By the name of what is missing; thousands of them in a request cost no object each."""
    told = metadata()
    without = {key: attribute for key, attribute in told.items() if key != tag}
    unfit = told | {tag: {"vr": "UI", "Value": ["1/2"]}}
    answer = post(archive, json(without, unfit, *[{}] * 3000))
    assert answer.status_code == 409
    assert reasons(answer, OTHER) == [0xC000] * 3002
    assert f"The {name} is missing." in answer.headers["warning"]
    assert f"The {name} is not valid." in answer.headers["warning"]
    assert answer.elapsed.total_seconds() < 10
