"""The Python dicomweb-client, which others wrote: it stores, searches and retrieves (PS3.18 10.3 to 10.6)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless

from tests import make, make_video
from tests.conformance import videos
from tests.make_video import Clip

CHUNK = 1_000_000  # what is longer, the client sends in chunks and without a length
SIZE = 16
PICTURE = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)
SYNTAXES = {JPEGBaseline8Bit: "image/jpeg", JPEGLSLossless: "image/jls", JPEG2000Lossless: "image/jp2"}


@dataclass(frozen=True)
class Archive:
    """A client and what it stored: one study of a CT, a long multi-frame, compressed images and a video."""

    client: Any
    study: str
    files: dict[str, bytes]

    def read(self, name: str) -> Dataset:
        return pydicom.dcmread(io.BytesIO(self.files[name]))

    def path(self, name: str) -> tuple[str, str, str]:
        data = self.read(name)
        return str(data.StudyInstanceUID), str(data.SeriesInstanceUID), str(data.SOPInstanceUID)


def compressed() -> Iterator[tuple[str, bytes]]:
    """The same picture in each way of compressing."""
    yield JPEGBaseline8Bit, bytes(imagecodecs.jpeg8_encode(PICTURE, level=90))
    yield JPEGLSLossless, bytes(imagecodecs.jpegls_encode(PICTURE))
    yield JPEG2000Lossless, bytes(imagecodecs.jpeg2k_encode(PICTURE, codecformat="j2k", reversible=True))


def files(study: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    of_study: dict[str, Any] = {"StudyInstanceUID": study, "PatientID": "C1", "PatientName": "Müller^Jürgen"}
    yield "ct", make.instance(**of_study)
    series: dict[str, Any] = {"SeriesInstanceUID": make.uid(), "Modality": "MR", "SeriesNumber": 2}
    pixels = np.random.default_rng(1).integers(0, 4096, 3 * 512 * 512, np.uint16).tobytes()
    shape: dict[str, Any] = {"Rows": 512, "Columns": 512, "NumberOfFrames": 3, "PixelData": pixels}
    yield "multi-frame", make.instance(**of_study, **series, **shape)
    eight: dict[str, Any] = {"Rows": SIZE, "Columns": SIZE, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    for syntax, frame in compressed():
        yield syntax, make.encapsulated([frame] * 3, syntax, **of_study, **series, **eight)
    video = make_video.instance(folder / "video.dcm", Clip(sound="aac"), odd=True, **of_study)
    yield "video", video.path.read_bytes()


@pytest.fixture(scope="module")
def archive(server: str, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    study = make.uid()
    stored = dict(files(study, tmp_path_factory.mktemp("client")))
    assert len(stored["multi-frame"]) > CHUNK
    client = DICOMwebClient(f"{server}/dicom-web", chunk_size=CHUNK)
    told = client.store_instances([pydicom.dcmread(io.BytesIO(file)) for file in stored.values()])
    assert len(told.ReferencedSOPSequence) == len(stored)
    assert "FailedSOPSequence" not in told
    return Archive(client, study, stored)


def same(found: Dataset, stored: Dataset) -> bool:
    """Equal as data sets: the client writes the file meta anew before it sends."""
    return found == stored and found.file_meta.TransferSyntaxUID == stored.file_meta.TransferSyntaxUID


def test_storing_again_is_success(archive: Archive) -> None:
    told = archive.client.store_instances([archive.read("ct")], study_instance_uid=archive.study)
    assert told.RetrieveURL == f"{archive.client.base_url}/studies/{archive.study}"
    assert len(told.ReferencedSOPSequence) == 1


def test_each_level_is_searched_to_the_end(archive: Archive) -> None:
    """The client asks on until a page is empty, and what it has then is everything, once."""
    client, study = archive.client, archive.study
    studies = client.search_for_studies(get_remaining=True, limit=1, search_filters={"PatientID": "C1"})
    assert [one["0020000D"]["Value"] for one in studies] == [[study]]
    assert studies[0]["00100010"]["Value"] == [{"Alphabetic": "Müller^Jürgen"}]
    series = client.search_for_series(study, get_remaining=True, limit=1)
    assert {one["0020000E"]["Value"][0] for one in series} == {
        archive.path(name)[1] for name in archive.files
    }
    instances = client.search_for_instances(study, get_remaining=True, limit=2)
    assert sorted(one["00080018"]["Value"][0] for one in instances) == sorted(
        archive.path(name)[2] for name in archive.files
    )


def test_filters_and_fields_are_understood_as_the_client_writes_them(archive: Archive) -> None:
    """It sends an asterisk as %2A and a parameter for each field."""
    filters = {"PatientName": "muller*", "StudyDate": "20261101-20261130", "ModalitiesInStudy": "ES"}
    found = archive.client.search_for_studies(search_filters=filters, fields=["StudyDescription", "00081060"])
    assert [one["0020000D"]["Value"] for one in found] == [[archive.study]]
    (series,) = archive.client.search_for_series(search_filters={"Modality": "MR"}, fuzzymatching=False)
    assert series["00201209"]["Value"] == [4]
    study, of, uid = archive.path("ct")
    for scope in (
        {},
        {"study_instance_uid": study},
        {"study_instance_uid": study, "series_instance_uid": of},
    ):
        (one,) = archive.client.search_for_instances(search_filters={"SOPInstanceUID": uid}, **scope)
        assert one["00081190"]["Value"] == [
            f"{archive.client.base_url}/studies/{study}/series/{of}/instances/{uid}"
        ]
    assert archive.client.search_for_studies(search_filters={"PatientID": "nobody"}) == []


def test_studies_series_and_instances_come_back(archive: Archive) -> None:
    """As stored, whatever their syntaxes; the client reads them whole and as a stream."""
    stored = {archive.path(name)[2]: archive.read(name) for name in archive.files}
    for found in (archive.client.retrieve_study(archive.study), archive.client.iter_study(archive.study)):
        by_uid = {one.SOPInstanceUID: one for one in found}
        assert by_uid.keys() == stored.keys()
        assert all(same(by_uid[uid], stored[uid]) for uid in stored)
    study, series, uid = archive.path("multi-frame")
    of_series = archive.client.retrieve_series(study, series)
    assert len(of_series) == 4
    assert all(same(one, stored[one.SOPInstanceUID]) for one in of_series)
    assert same(archive.client.retrieve_instance(study, series, uid), stored[uid])


@pytest.mark.parametrize("name", ["ct", *SYNTAXES, "video"])
def test_an_instance_comes_in_any_syntax_or_the_one_it_has(archive: Archive, name: str) -> None:
    stored = archive.read(name)
    for syntax in ("*", str(stored.file_meta.TransferSyntaxUID)):
        kinds = (("application/dicom", syntax),)
        assert same(archive.client.retrieve_instance(*archive.path(name), media_types=kinds), stored)


def test_metadata_at_each_level_is_the_data_set_without_its_bulk(archive: Archive) -> None:
    client = archive.client
    study, series, uid = archive.path("multi-frame")
    assert len(client.retrieve_study_metadata(study)) == len(archive.files)
    assert len(client.retrieve_series_metadata(study, series)) == 4
    metadata = client.retrieve_instance_metadata(study, series, uid)
    stored = archive.read("multi-frame")
    found = Dataset.from_json(metadata, lambda tag, vr, uri: bytes(client.retrieve_bulkdata(uri)[0]))
    assert found == stored


@pytest.mark.parametrize("name", ["ct", "multi-frame", "video"])
def test_bulk_data_lies_where_the_metadata_says(archive: Archive, name: str) -> None:
    """At the address told, whole and streamed; of a video the stream itself without the pad."""
    metadata = archive.client.retrieve_instance_metadata(*archive.path(name))
    address = metadata["7FE00010"]["BulkDataURI"]
    stored = archive.read(name)
    expected = bytes(stored.PixelData)
    if name == "video":
        expected = next(generate_frames(stored.PixelData, number_of_frames=1))
        expected = expected[: stored.EncapsulatedPixelDataValueTotalLength]
        assert len(expected) % 2
    for found in (
        archive.client.retrieve_bulkdata(address),
        list(archive.client.iter_bulkdata(address)),
        archive.client.retrieve_bulkdata(address, media_types=("video/mp4",) if name == "video" else None),
    ):
        assert [hashlib.sha256(part).digest() for part in found] == [hashlib.sha256(expected).digest()]


def test_native_frames_are_the_pixels(archive: Archive) -> None:
    path, stored = archive.path("multi-frame"), archive.read("multi-frame")
    size = 512 * 512 * 2
    frames = [stored.PixelData[n * size : (n + 1) * size] for n in range(3)]
    octets = (("application/octet-stream", ExplicitVRLittleEndian),)
    for kinds in (None, octets, ("application/octet-stream",)):
        assert archive.client.retrieve_instance_frames(*path, [3, 1], media_types=kinds) == [
            frames[2],
            frames[0],
        ]
    assert list(archive.client.iter_instance_frames(*path, [1, 2, 3])) == frames


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_compressed_frames_come_compressed_or_decoded(archive: Archive, syntax: str) -> None:
    path = archive.path(syntax)
    stored = list(generate_frames(archive.read(syntax).PixelData, number_of_frames=3))
    kind = SYNTAXES[UID(syntax)]
    for kinds in (None, (kind,), ((kind, syntax),)):
        found = archive.client.retrieve_instance_frames(*path, [1, 3], media_types=kinds)
        assert [frame.rstrip(b"\0") for frame in found] == [stored[n].rstrip(b"\0") for n in (0, 2)]
    octets = (("application/octet-stream", ExplicitVRLittleEndian),)
    (decoded,) = archive.client.retrieve_instance_frames(*path, [2], media_types=octets)
    expected = np.asarray(Image.open(io.BytesIO(stored[1]))) if syntax == JPEGBaseline8Bit else PICTURE
    assert decoded == expected.tobytes()


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png"])
def test_pictures_are_rendered(archive: Archive, kind: str) -> None:
    path, expected = archive.path("multi-frame"), kind.partition("/")[2].upper()
    pictures = [
        archive.client.retrieve_instance_rendered(*path, media_types=(kind,)),
        archive.client.retrieve_instance_frames_rendered(*path, [2], media_types=(kind,)),
        archive.client.retrieve_instance_rendered(
            *path, media_types=(kind,), params={"window": "2000,4000,linear", "viewport": "64,64"}
        ),
    ]
    shown = [Image.open(io.BytesIO(picture)) for picture in pictures]
    assert [(one.format, one.size) for one in shown] == [(expected, (512, 512))] * 2 + [(expected, (64, 64))]


def test_a_video_is_rendered_as_mp4(archive: Archive) -> None:
    study, series, instance = archive.path("video")
    videos.answer(f"{archive.client.base_url}/studies/{study}/series/{series}/instances/{instance}/rendered")
    video = archive.client.retrieve_instance_rendered(study, series, instance, media_types=("video/mp4",))
    assert video[4:8] == b"ftyp"


@pytest.mark.parametrize("level", [1, 2, 3])
def test_deleting_is_no_method_here(archive: Archive, level: int) -> None:
    path = archive.path("ct")[:level]
    client: Any = archive.client
    delete = [client.delete_study, client.delete_series, client.delete_instance][level - 1]
    with pytest.raises(requests.HTTPError) as refused:
        delete(*path)
    assert refused.value.response is not None
    assert refused.value.response.status_code == 405
    assert "GET" in refused.value.response.headers["Allow"]
    assert len(archive.client.search_for_instances(archive.study)) == len(archive.files)
