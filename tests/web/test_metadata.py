"""Metadata: what pydicom says of the file, with addresses that work, compressed, and not sent twice."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from tests import make, make_video
from tests.web import doors
from tests.web.doors import Archive

STUDY, SERIES = make.uid(), make.uid()


def rich(syntax: str = "1.2.840.10008.1.2.1", **attributes: Any) -> bytes:
    """Every kind of value that metadata tells apart, some of them large."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Größe"
    deep = Dataset()
    deep.ICCProfile = bytes(range(256)) * 9
    data = make.dataset(
        PatientName="Müller^Jörg=ミュラー",
        PatientComments='"BulkDataURI":"@/x" \\ and a quote',
        ImageComments="é" * 3000,
        PixelSpacing=["0.5", "0.25"],
        WindowCenter=["40", "400"],
        WindowWidth=["80", "2000"],
        ImageType=["ORIGINAL", "", "AXIAL"],
        RedPaletteColorLookupTableData=bytes(4096),
        SmallestImagePixelValue=3,
        FrameIncrementPointer=[0x00181063, 0x00181065],
        PatientBirthDate="",
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=SERIES,
        **attributes,
    )
    data.ReferencedImageSequence = Sequence([code, deep])
    data.AnatomicRegionSequence = Sequence([])
    block = data.private_block(0x0009, "REELWEB TEST", create=True)
    block.add_new(0x01, "OB", bytes(5000))
    block.add_new(0x02, "UN", b"\1\2\3\4")
    block.add_new(0x03, "FD", [0.1, -1e300])
    return make.part10(data, syntax)


@pytest.fixture(scope="module")
def sent(archive: Archive) -> dict[str, bytes]:
    """Instances of one study in two series, by address."""
    files = [
        rich(InstanceNumber=1),
        rich(InstanceNumber=2),
        make.instance(ImplicitVRLittleEndian, StudyInstanceUID=STUDY, SeriesNumber=2),
    ]
    return dict(zip(doors.stored(archive.root, *files), files, strict=True))


def get(url: str, encoding: str = "identity", **headers: str) -> httpx.Response:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return doors.get(f"{url}/metadata", headers={"Accept-Encoding": encoding} | more)


def uris(node: Any) -> list[str]:
    """Every BulkDataURI at any depth."""
    if isinstance(node, list):
        return [uri for item in node for uri in uris(item)]
    if isinstance(node, dict):
        own = [node["BulkDataURI"]] if "BulkDataURI" in node else []
        return own + [uri for value in node.values() for uri in uris(value)]
    return []


def test_metadata_is_what_pydicom_says(sent: dict[str, bytes]) -> None:
    """Every attribute is alike; values of more than 1024 bytes and all Pixel Data are told by an address."""
    for url, data in sent.items():
        (ours,) = get(url).json()
        theirs = doors.read(data).to_json_dict(
            bulk_data_threshold=1024,
            bulk_data_element_handler=lambda _element: "uri",
        )
        theirs["7FE00010"] = {"vr": theirs["7FE00010"]["vr"], "BulkDataURI": "uri"}
        flat = json.loads(json.dumps(ours))
        _replace_uris(flat)
        assert list(flat) == sorted(flat)
        for tag in set(flat) | set(theirs):
            if tag == "00204000":  # text stays text, however long
                assert flat[tag]["Value"] == ["é" * 3000]
            else:
                assert flat.get(tag) == _as_the_standard_has_it(theirs.get(tag)), tag


def _as_the_standard_has_it(attribute: Any) -> Any:
    """F.2.5: without items no value either, and an empty one among others is null."""
    if attribute and "Value" in attribute:
        values = [None if value == "" else value for value in attribute["Value"]]
        return attribute | {"Value": values} if values else {"vr": attribute["vr"]}
    return attribute


def _replace_uris(node: Any) -> None:
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _replace_uris(value)
    if isinstance(node, dict) and "BulkDataURI" in node:
        node["BulkDataURI"] = "uri"


def test_every_address_in_it_gives_the_very_bytes(archive: Archive, sent: dict[str, bytes]) -> None:
    for url, data in sent.items():
        found = uris(get(url).json())
        values = {uri.partition("/bulkdata/")[2]: doors.get(uri).content for uri in found}
        assert all(uri.startswith(f"{url}/bulkdata/") for uri in found)
        read = doors.read(data)
        assert values["7FE00010"] == read.PixelData
        if "ReferencedImageSequence" in read:
            assert values["00081140/2/00282000"] == read.ReferencedImageSequence[1].ICCProfile
            assert values["00281201"] == bytes(4096)
            assert bytes(5000) in values.values()


def test_a_series_and_a_study_are_all_their_instances(archive: Archive, sent: dict[str, bytes]) -> None:
    """Each is told exactly as alone; the series in their order."""
    alone = [get(url).json()[0] for url in sent]
    assert get(f"{archive.root}/studies/{STUDY}/series/{SERIES}").json() == alone[:2]
    assert get(f"{archive.root}/studies/{STUDY}").json() == alone


@pytest.fixture(params=["study", "series", "instance"])
def level(request: pytest.FixtureRequest, archive: Archive, sent: dict[str, bytes]) -> str:
    """The address of one level."""
    study = f"{archive.root}/studies/{STUDY}"
    return {"study": study, "series": f"{study}/series/{SERIES}", "instance": next(iter(sent))}[
        str(request.param)
    ]


def raw(url: str, encoding: str) -> tuple[httpx.Headers, bytes]:
    headers = {"Accept-Encoding": encoding}
    with httpx.stream("GET", f"{url}/metadata", headers=headers, verify=doors.TLS) as answer:
        return answer.headers, b"".join(answer.iter_raw())


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1, GZIP;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("br", False),
        ("gzip;q=x", False),
    ],
)
def test_it_is_compressed_for_who_takes_it(level: str, encoding: str, compressed: bool) -> None:  # noqa: FBT001
    headers, body = raw(level, encoding)
    assert headers.get("content-encoding") == ("gzip" if compressed else None)
    assert headers["vary"] == "Accept, Accept-Encoding"
    assert headers["cache-control"] == "private, no-cache"
    assert headers["content-type"] == "application/dicom+json"
    text = gzip.decompress(body) if compressed else body
    assert text == get(level).content


def test_it_is_not_sent_again_to_who_has_it(level: str) -> None:
    """The tags of both codings are strong, and differ."""
    tags = {encoding: get(level, encoding).headers["etag"] for encoding in ("gzip", "identity")}
    assert len(set(tags.values())) == 2
    assert all(tag.startswith('"') for tag in tags.values())
    for encoding, tag in tags.items():
        again = get(level, encoding, If_None_Match=tag)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["vary"] == "Accept, Accept-Encoding"
        assert get(level, encoding, If_None_Match='"other"').status_code == 200


def test_head_is_get_without_a_body(level: str) -> None:
    head = doors.head(f"{level}/metadata", headers={"Accept-Encoding": "gzip"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == get(level, "gzip").headers["etag"]


def test_a_host_of_another_name_is_repeated_and_never_remembered(level: str) -> None:
    """What is kept for one host is not given to another."""
    for _ in range(2):
        mine, other = get(level), get(level, Host="localhost:81")
        assert all(uri.startswith("http://localhost:81/dicom-web/") for uri in uris(other.json()))
        assert all(uri.startswith(level.partition("/dicom-web")[0]) for uri in uris(mine.json()))
        assert mine.headers["etag"] != other.headers["etag"]


def test_a_new_instance_changes_what_is_told(archive: Archive) -> None:
    study, series = make.uid(), make.uid()
    url = f"{archive.root}/studies/{study}"
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    doors.stored(archive.root, make.instance(**uids))
    tags, counts = set(), []
    for _ in range(3):
        for address in (url, f"{url}/series/{series}"):
            answer = get(address, "gzip")
            tags.add(answer.headers["etag"])
            counts.append(len(answer.json()))
        doors.stored(archive.root, make.instance(**uids))
    assert counts == [1, 1, 2, 2, 3, 3]
    assert len(tags) == 6


def test_a_video_is_told_as_one_once_it_can_be_played(archive: Archive, tmp_path: Path) -> None:
    """(0008,3002), which makes viewers play it; the tag of the answer changes with it."""
    made = make_video.instance(tmp_path / "v.dcm")
    (url,) = doors.stored(archive.root, made.path.read_bytes())
    assert doors.get(f"{url}/rendered").status_code == 200
    deadline = time.monotonic() + 10
    while "00083002" not in (told := get(url).json()[0]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert told["00083002"] == {"vr": "UI", "Value": [made.transfer_syntax_uid]}
    (series,) = get(url.partition("/instances")[0]).json()
    assert series == told


@pytest.mark.parametrize(
    "path", ["studies/1.2", "studies/1.2/series/1.2", "studies/1.2/series/1/instances/1"]
)
def test_what_is_not_stored_is_404(archive: Archive, path: str) -> None:
    doors.is_problem(get(f"{archive.root}/{path}"), 404)


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*", 200),
        ("application/dicom+json, application/json", 200),
        ("application/json", 200),
        ('multipart/related; type="application/dicom+xml"', 406),
        ("image/jpeg", 406),
    ],
)
def test_it_is_json_or_406(level: str, accept: str, status: int) -> None:
    assert get(level, Accept=accept).status_code == status


def test_the_tag_is_the_same_after_a_restart(empty: str, tmp_path: Path) -> None:
    """Also when what was kept is gone: a tag is a digest of the text."""

    def tags(root: str, study: str) -> list[str]:
        host = {"Host": "localhost:80"}
        addresses = (study, f"{study}/series/{SERIES}", path)
        return [get(f"{root}{address}", "gzip", **host).headers["etag"] for address in addresses]

    with doors.serving(empty, tmp_path) as archive:
        (url,) = doors.stored(archive.root, rich())
        path = url.removeprefix(archive.root)
        before = tags(archive.root, f"/studies/{STUDY}")
    archive.column("delete from series_metadata")
    with doors.serving(empty, tmp_path) as again:
        assert tags(again.root, f"/studies/{STUDY}") == before


def test_the_python_client_retrieves_metadata(archive: Archive, sent: dict[str, bytes]) -> None:
    client = DICOMwebClient(archive.root)
    assert len(client.retrieve_study_metadata(STUDY)) == 3
    assert len(client.retrieve_series_metadata(STUDY, SERIES)) == 2
    told = client.retrieve_instance_metadata(STUDY, SERIES, next(iter(sent)).rpartition("/")[2])
    read = Dataset.from_json(json.dumps(told), bulk_data_uri_handler=lambda uri: doors.get(uri).content)
    assert read.PatientName == "Müller^Jörg=ミュラー"
    assert read.PixelData == bytes(range(32))
