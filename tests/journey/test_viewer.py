"""What OHIF 3.13 was seen to send, replayed: study list, series, metadata, frames, video, documents, thumbnails.

Answers are read as the viewer reads them: cornerstone takes a multipart apart by the letter.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from tests import make, make_video
from tests.make_video import Clip

JSON = "application/dicom+json"
FRAME = "multipart/related; type=application/octet-stream; transfer-syntax=*"
QUOTED = 'multipart/related; type="application/octet-stream"; transfer-syntax="*"'
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
PHOTOGRAPHIC = "1.2.840.10008.5.1.4.1.1.77.1.4.1"
VIDEO = {f"1.2.840.10008.1.2.4.{number}" for number in range(102, 109)}
SIDE = 16
DOCUMENT = b"%PDF-1.4\n" + b"% nothing to see\n" * 100 + b"%%EOF\n"
Found = dict[str, Any]


@dataclass(frozen=True)
class Viewer:
    """A data source as OHIF is configured to have it, and the study that was uploaded through it."""

    http: httpx.Client
    study: str
    files: dict[str, bytes]

    def json(self, path: str, accept: str = JSON) -> list[Found]:
        answer = self.http.get(path, headers={"Accept": accept})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == JSON
        found: list[Found] = answer.json()
        return found

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers={name.replace("_", "-"): text for name, text in headers.items()})

    def stored(self, name: str) -> Dataset:
        return pydicom.dcmread(io.BytesIO(self.files[name]))

    def address(self, name: str) -> str:
        data = self.stored(name)
        return f"/studies/{self.study}/series/{data.SeriesInstanceUID}/instances/{data.SOPInstanceUID}"

    def metadata(self) -> dict[str, Found]:
        """The study as OHIF opens it: its series, then the metadata of each."""
        series = self.json(f"/studies/{self.study}/series")
        found = [
            instance
            for one in series
            for instance in self.json(f"/studies/{self.study}/series/{first(one, '0020000E')}/metadata")
        ]
        return {first(instance, "00080018"): instance for instance in found}


def first(item: Found, tag: str) -> Any:
    return item.get(tag, {}).get("Value", [None])[0]


def shape(**attributes: Any) -> dict[str, Any]:
    return {"Rows": SIDE, "Columns": SIDE, **attributes}


def files(study: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """A CT of two slices, multi-frame images native, compressed and of one bit, a PDF and a video."""
    of: dict[str, Any] = {"StudyInstanceUID": study, "PatientID": "OHIF-1", "PatientName": "Roe^Richard"}
    ct: dict[str, Any] = {"SeriesInstanceUID": make.uid(), "SeriesDescription": "Thin"}
    for number in (1, 2):
        pixels = bytes([number, 0] * SIDE * SIDE)
        yield f"ct-{number}", make.instance(**of, **ct, **shape(PixelData=pixels, InstanceNumber=number))
    pixels = np.arange(3 * SIDE * SIDE, dtype=np.uint16).tobytes()
    yield "native", make.instance(**of, **shape(PixelData=pixels, NumberOfFrames=3, Modality="NM"))
    jpeg = io.BytesIO()
    Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)).save(jpeg, "jpeg")
    eight = shape(BitsAllocated=8, BitsStored=8, HighBit=7, Modality="XA")
    yield "jpeg", make.encapsulated([jpeg.getvalue()] * 3, JPEGBaseline8Bit, **of, **eight)
    bits: dict[str, Any] = {
        "BitsAllocated": 1,
        "BitsStored": 1,
        "HighBit": 0,
        "PixelData": b"\x7f\xfe\xaa\x55\x0f\0",
    }
    seg: dict[str, Any] = {
        "SOPClassUID": SEGMENTATION,
        "Modality": "SEG",
        "NumberOfFrames": 3,
        "Rows": 3,
        "Columns": 5,
    }
    yield "seg", make.instance(**of, **seg, **bits)
    plain: dict[str, Any] = {"PixelData": None, "Rows": None, "Columns": None, "Modality": "DOC"}
    document: dict[str, Any] = {
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
        "EncapsulatedDocument": DOCUMENT,
    }
    yield "pdf", make.instance(**of, **plain, **document, SOPClassUID=PDF)
    clip = Clip(sound="aac", width=320, height=240)
    yield "video", make_video.instance(folder / "video.dcm", clip, times=3, **of).path.read_bytes()


def uploaded(http: httpx.Client, data: bytes, accept: str) -> None:
    """One file a request, the boundary quoted."""
    kind = 'multipart/related; type="application/dicom"; boundary="----reel web"'
    body = make.multipart([data], "----reel web")
    answer = http.post("/studies", content=body, headers={"Content-Type": kind, "Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)


@pytest.fixture(scope="module")
def viewer(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with httpx.Client(base_url=f"{server}/dicom-web", timeout=30) as http:
        made = Viewer(http, make.uid(), {})
        made.files.update(files(made.study, tmp_path_factory.mktemp("viewer")))
        for number, data in enumerate(made.files.values()):
            uploaded(http, data, ["*/*", FRAME][number % 2])  # older versions send their WADO header along
        yield made


def cornerstone(answer: httpx.Response) -> tuple[bytes, str]:
    """A frame and its transfer syntax, as getPixelData.ts finds them."""
    assert answer.status_code == 200, answer.text
    body, kind = answer.content, answer.headers["content-type"]
    if "multipart" in kind:
        end = body.index(b"\r\n\r\n")
        lines = body[:end].decode().split("\r\n")
        boundary = next(line for line in lines if line.startswith("--"))
        kind = next(line for line in lines if line.startswith("Content-Type:"))
        body = body[end + 4 : body.index(boundary.encode(), end + 4) - 2]
    syntax = re.search(r"transfer-syntax=\"?([\d.]+)", kind)
    assert syntax, "cornerstone would take it for Implicit VR Little Endian"
    return body, syntax[1]


def is_video(instance: Found) -> bool:
    """As the dicom-video extension decides."""
    syntax = first(instance, "00083002") or first(instance, "00020010")
    return syntax in VIDEO or first(instance, "00080016") == PHOTOGRAPHIC


def test_the_study_list(viewer: Viewer) -> None:
    """The work list with all that its columns show, and the patient's other studies."""
    fields = "includefield=00081030%2C00080060%2C00080090%2C00100030"
    page = "limit=101&offset=0&fuzzymatching=true"
    (listed,) = viewer.json(f"/studies?{page}&{fields}")
    assert first(listed, "0020000D") == viewer.study
    assert first(listed, "00100010") == {"Alphabetic": "Roe^Richard"}
    assert sorted(listed["00080061"]["Value"]) == ["CT", "DOC", "ES", "NM", "SEG", "XA"]
    assert first(listed, "00201208") == len(viewer.files)
    for tag in ("00080020", "00080030", "00080050", "00100020"):
        assert first(listed, tag), tag
    names = "PatientName=*roe*&00100020=*HIF*&ModalitiesInStudy=MR%2CES&StudyDate=20261101-20261130"
    assert len(viewer.json(f"/studies?{names}&{page}&{fields}")) == 1
    assert len(viewer.json(f"/studies?00100020=OHIF-1&{page}&{fields}")) == 1
    assert len(viewer.json(f"/studies?StudyInstanceUID=1.2%5C{viewer.study}&{page}&{fields}")) == 1
    assert viewer.json(f"/studies?00100020=nobody&{page}&{fields}") == []


def test_the_series_panel(viewer: Viewer) -> None:
    fields = "includefield=00080021%2C00080031%2C0008103E%2C00200011"
    series = viewer.json(f"/studies/{viewer.study}/series?{fields}")
    by_modality = {first(one, "00080060"): one for one in series}
    assert by_modality.keys() == {"CT", "DOC", "ES", "NM", "SEG", "XA"}
    assert first(by_modality["CT"], "0008103E") == "Thin"
    assert first(by_modality["CT"], "00201209") == 2
    assert all(first(one, "0020000E") and first(one, "00200011") for one in series)
    (one,) = viewer.json(
        f"/studies/{viewer.study}/series/{first(by_modality['CT'], '0020000E')}/instances?limit=1&includefield=00080018"
    )
    assert first(one, "00080018") == viewer.stored("ct-1").SOPInstanceUID


def test_opening_it(viewer: Viewer) -> None:
    """Series by series or the study at once gives the same; of all instances the video alone is one."""
    viewer.get(f"{viewer.address('video')}/rendered", Range="bytes=0-0")  # waits until it can be played
    found = viewer.metadata()
    older = f"{JSON}, {FRAME}"
    at_once = viewer.json(f"/studies/{viewer.study}/metadata", older)
    assert {first(instance, "00080018"): instance for instance in at_once} == found
    assert len(found) == len(viewer.files)
    videos = [uid for uid, instance in found.items() if is_video(instance)]
    assert videos == [viewer.stored("video").SOPInstanceUID]
    assert first(found[videos[0]], "00280008") == viewer.stored("video").NumberOfFrames


@pytest.mark.parametrize("accept", [FRAME, QUOTED], ids=["unquoted", "quoted"])
@pytest.mark.parametrize("name", ["ct-1", "ct-2", "native", "jpeg"])
def test_each_frame_is_asked_for_alone(viewer: Viewer, name: str, accept: str) -> None:
    """As stored, so that it is decoded in the browser; the quotes may be left out."""
    data = viewer.stored(name)
    count = int(data.get("NumberOfFrames", 1))
    if data.file_meta.TransferSyntaxUID.is_compressed:
        expected = list(generate_frames(data.PixelData, number_of_frames=count))
    else:
        size = SIDE * SIDE * 2
        expected = [data.PixelData[n * size : (n + 1) * size] for n in range(count)]
    for number in range(1, count + 1):
        frame, syntax = cornerstone(viewer.get(f"{viewer.address(name)}/frames/{number}", Accept=accept))
        assert syntax == data.file_meta.TransferSyntaxUID
        assert frame.rstrip(b"\0") == expected[number - 1].rstrip(b"\0")
        assert len(frame) >= len(expected[number - 1]) - 1


def test_frames_in_a_named_syntax(viewer: Viewer) -> None:
    """With requestTransferSyntaxUID, which names one syntax and then any."""
    accept = (
        'multipart/related; type="image/jpeg"; transfer-syntax="1.2.840.10008.1.2.4.50"; transfer-syntax="*"'
    )
    assert cornerstone(viewer.get(f"{viewer.address('jpeg')}/frames/2", Accept=accept))[1] == JPEGBaseline8Bit
    octets = f"multipart/related; type=application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
    frame, syntax = cornerstone(viewer.get(f"{viewer.address('jpeg')}/frames/2", Accept=octets))
    assert (len(frame), syntax) == (SIDE * SIDE, ExplicitVRLittleEndian)


def test_a_segmentation_is_fetched_whole(viewer: Viewer) -> None:
    """The data set itself, which dcmjs reads; its one-bit frames can be had as well."""
    answer = viewer.get(viewer.address("seg"), Accept='multipart/related; type="application/dicom"')
    body = answer.content
    start = body.index(b"\r\n\r\n") + 4
    boundary = body[: body.index(b"\r\n")]
    assert body[start : body.index(b"\r\n" + boundary, start)] == viewer.files["seg"]
    frame, _syntax = cornerstone(viewer.get(f"{viewer.address('seg')}/frames/2", Accept=FRAME))
    bits = np.unpackbits(np.frombuffer(viewer.stored("seg").PixelData, np.uint8), bitorder="little")
    assert np.array_equal(np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")[:15], bits[15:30])


def test_a_video_is_played_and_sought_in(viewer: Viewer) -> None:
    """First `bytes=0-`, then a part somewhere; with the headers of a <video>."""
    address = f"{viewer.address('video')}/rendered"
    headers = {"Accept": "*/*", "Accept_Encoding": "identity;q=1, *;q=0", "Sec_Fetch_Dest": "video"}
    start = viewer.get(address, **headers, Range="bytes=0-")
    size = len(start.content)
    assert (start.status_code, start.headers["content-range"]) == (206, f"bytes 0-{size - 1}/{size}")
    assert start.headers["content-type"].startswith("video/mp4")
    assert "content-encoding" not in start.headers
    part = viewer.get(address, **headers, Range=f"bytes={size // 2}-{size // 2 + 999}")
    assert (part.status_code, part.content) == (206, start.content[size // 2 : size // 2 + 1000])
    bulk = viewer.metadata()[viewer.stored("video").SOPInstanceUID]["7FE00010"]["BulkDataURI"]
    stream = viewer.get(bulk, Range="bytes=4-7", Accept="*/*")
    assert (stream.status_code, stream.content) == (206, b"ftyp")


def test_a_document_is_found_by_its_metadata(viewer: Viewer) -> None:
    """Its bytes lie at its BulkDataURI, and its page at /rendered; neither can act as a page of ours."""
    bulk = viewer.metadata()[viewer.stored("pdf").SOPInstanceUID]["00420011"]["BulkDataURI"]
    page = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
    for answer in (
        viewer.get(bulk, Accept="*/*"),
        viewer.get(f"{viewer.address('pdf')}/rendered", Accept=page),
    ):
        assert answer.content[: len(DOCUMENT)] == DOCUMENT
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "application/pdf"


@pytest.mark.parametrize("name", ["ct-1", "native", "jpeg"])
@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("thumbnail?accept=image%2Fjpeg", "*/*"),
        ("rendered?accept=image%2Fjpeg", "*/*"),
        ("thumbnail?viewport=256%2C256", "image/jpeg"),
        ("thumbnail", 'multipart/related; type="application/octet-stream"'),
    ],
    ids=["direct", "rendered", "fetched", "as bulk data"],
)
def test_thumbnails_by_every_configuration(viewer: Viewer, name: str, path: str, accept: str) -> None:
    answer = viewer.get(f"{viewer.address(name)}/{path}", Accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(answer.content)).format == "JPEG"


def test_thumbnails_of_a_series_and_a_study(viewer: Viewer) -> None:
    levels: list[Callable[[str], str]] = [
        lambda path: path.partition("/series")[0],
        lambda path: path.partition("/instances")[0],
    ]
    for level in levels:
        answer = viewer.get(f"{level(viewer.address('ct-1'))}/thumbnail", Accept="image/jpeg")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
