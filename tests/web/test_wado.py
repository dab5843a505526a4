"""Stored instances come back as they were stored, however they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client import DICOMwebClient
from pydicom.uid import ImplicitVRLittleEndian

from tests import make, make_video
from tests.web import doors
from tests.web.doors import Archive

EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
STUDY, SERIES = "2.25.7001", "2.25.7002"  # fixed: they stand in the names of tests


@pytest.fixture(scope="module")
def mixed(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A study of native, compressed and implicit instances, a video and a report, by address."""
    uids: dict[str, Any] = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES}
    video = make_video.instance(
        tmp_path_factory.mktemp("video") / "v.dcm", StudyInstanceUID=STUDY, InstanceNumber=4
    )
    sent = [
        make.instance(**uids, InstanceNumber=1),
        make.instance(ImplicitVRLittleEndian, **uids, InstanceNumber=2),
        make.encapsulated([b"\xff\xd8\xff\xd9"], JPEG, **uids, InstanceNumber=3),
        make.instance(StudyInstanceUID=STUDY, PixelData=None, Modality="SR", InstanceNumber=5),
        video.path.read_bytes(),
    ]
    return dict(zip(doors.stored(archive.root, *sent), sent, strict=True))


@pytest.fixture(scope="module")
def one(mixed: dict[str, bytes]) -> tuple[str, bytes]:
    """The native instance."""
    return next(iter(mixed.items()))


def get(url: str, accept: str = "", **headers: str) -> httpx.Response:
    return doors.get(url, headers={"Accept": accept} | {k.replace("_", "-"): v for k, v in headers.items()})


ALL = [
    "*/*",
    "multipart/related",
    'multipart/related; type="application/dicom"',
    'multipart/related; type="application/dicom"; transfer-syntax=*',
    'multipart/related; type="application/dicom"; transfer-syntax=%2A',
    "multipart/related; type=application/dicom",
    'multipart/related; type="*/*"',
    "text/html, application/xhtml+xml, */*;q=0.8",
    "",
]


@pytest.mark.parametrize("accept", ALL)
def test_a_study_of_mixed_syntaxes_comes_whole_and_truthfully_labelled(
    archive: Archive, mixed: dict[str, bytes], accept: str
) -> None:
    answer = get(f"{archive.root}/studies/{STUDY}", accept)
    assert answer.status_code == 200, answer.text
    assert 'type="application/dicom"' in answer.headers["content-type"]
    assert answer.headers["vary"] == "Accept"
    parts = doors.parts(answer)
    assert {head["content-location"]: body for head, body in parts} == mixed
    for head, body in parts:
        syntax = doors.read(body).file_meta.TransferSyntaxUID
        assert head["content-type"] == f"application/dicom; transfer-syntax={syntax}"


def test_a_series_is_its_instances_in_their_order(archive: Archive, mixed: dict[str, bytes]) -> None:
    parts = doors.parts(get(f"{archive.root}/studies/{STUDY}/series/{SERIES}"))
    assert [body for _head, body in parts] == list(mixed.values())[:3]


def test_of_a_named_syntax_a_study_is_what_is_stored_in_it(archive: Archive, mixed: dict[str, bytes]) -> None:
    answer = get(
        f"{archive.root}/studies/{STUDY}",
        f'multipart/related; type="application/dicom"; transfer-syntax={JPEG}',
    )
    assert [body for _head, body in doors.parts(answer)] == [list(mixed.values())[2]]
    none = get(
        f"{archive.root}/studies/{STUDY}",
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90',
    )
    doors.is_problem(none, 406)


@pytest.mark.parametrize(
    "accept",
    [
        "application/dicom",
        "application/dicom; transfer-syntax=*",
        "application/dicom;transfer-syntax=%2A",
        f'application/dicom; transfer-syntax="{EXPLICIT}"',
        "application/*",
        "application/dicom;q=0.9, image/jpeg",
    ],
)
def test_an_instance_may_come_as_the_whole_body(one: tuple[str, bytes], accept: str) -> None:
    url, data = one
    answer = get(url, accept)
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert answer.headers["content-length"] == str(len(data))
    name = url.rpartition("/")[2]
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.dcm"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("accept", ALL)
def test_an_instance_may_come_as_one_part(one: tuple[str, bytes], accept: str) -> None:
    url, data = one
    answer = get(url, accept)
    ((head, body),) = doors.parts(answer)
    assert body == data
    assert head["content-location"] == url
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_the_accept_parameter_goes_before_the_header(one: tuple[str, bytes]) -> None:
    url, data = one
    assert get(f"{url}?accept=application/dicom", "image/jpeg").content == data


@pytest.mark.parametrize(
    "accept",
    [
        f"application/dicom; transfer-syntax={JPEG}",
        f'multipart/related; type="application/dicom"; transfer-syntax={JPEG}',
        "image/jpeg",
        "application/dicom+xml",
        'multipart/related; type="image/jpeg"',
        "application/dicom;q=0",
        "nonsense",
    ],
)
def test_what_cannot_be_made_is_406(one: tuple[str, bytes], accept: str) -> None:
    doors.is_problem(get(one[0], accept), 406)


@pytest.mark.parametrize(
    "path",
    [
        "studies/1.2.3",
        "studies/1.2.3/series/1.2.3",
        "studies/1.2.3/series/1.2.3/instances/1.2.3",
        f"studies/{STUDY}/series/1.2.3",
        f"studies/{STUDY}/series/{SERIES}/instances/1.2.3",
        "studies/%00",
        "studies/a'b/series/1",
        "studies/" + "1" * 65,
        "studies/1.2%0A",
        "nothing",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_not_stored_is_404(archive: Archive, mixed: dict[str, bytes], path: str, method: str) -> None:
    answer = doors.request(method, f"{archive.root}/{path}")
    assert answer.status_code == 404
    if method == "GET":
        doors.is_problem(answer, 404)


def test_an_instance_of_another_study_or_series_is_404(archive: Archive, one: tuple[str, bytes]) -> None:
    (other,) = doors.stored(archive.root, make.instance())
    uid = one[0].rpartition("/")[2]
    doors.is_problem(get(f"{other.rpartition('/')[0]}/{uid}"), 404)


@pytest.mark.parametrize("accept", ["application/dicom", "multipart/related", "*/*"])
def test_head_tells_what_get_would(one: tuple[str, bytes], accept: str) -> None:
    get_, head = get(one[0], accept), doors.head(one[0], headers={"Accept": accept})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get_.headers["content-length"]
    assert doors.head(one[0].rpartition("/instances")[0]).status_code == 200


def test_an_instance_is_not_sent_again_to_who_has_it(one: tuple[str, bytes]) -> None:
    url, _data = one
    first = get(url, "application/dicom")
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    assert etag.startswith('"')
    for condition in ({"If-None-Match": etag}, {"If-None-Match": f'"x", W/{etag}'}, {"If-None-Match": "*"}):
        again = doors.get(url, headers={"Accept": "application/dicom"} | condition)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    assert get(url, "application/dicom", If_Modified_Since=modified).status_code == 304
    assert get(url, "application/dicom", If_None_Match='"other"').status_code == 200
    doors.is_problem(get(url, "application/dicom", If_Match='"other"'), 412)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, None),
        ("bytes=-9", -9, None),
        ("bytes=5-999999999", 5, None),
    ],
)
def test_a_part_of_an_instance_can_be_had(
    one: tuple[str, bytes], asked: str, start: int, stop: int | None
) -> None:
    url, data = one
    etag = get(url, "application/dicom").headers["etag"]
    answer = get(url, "application/dicom", Range=asked, If_Range=etag)
    assert (answer.status_code, answer.content) == (206, data[start:stop])
    begin = start % len(data)
    end = begin + len(answer.content) - 1
    assert answer.headers["content-range"] == f"bytes {begin}-{end}/{len(data)}"
    assert get(url, "application/dicom", Range=asked, If_Range='"other"').status_code == 200


def test_a_part_beyond_the_end_is_416(one: tuple[str, bytes]) -> None:
    url, data = one
    answer = get(url, "application/dicom", Range=f"bytes={len(data)}-")
    doors.is_problem(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(data)}"


def test_nothing_in_an_address_reaches_the_folder(archive: Archive) -> None:
    for path in ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd", "%2e%2e/%2e%2e/etc/passwd"):
        with doors.connected(archive.url) as connection:
            request = f"GET /dicom-web/studies/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            assert doors.spoken(connection, request.encode()).startswith(b"HTTP/1.1 404 ")


def test_the_python_client_retrieves(archive: Archive, mixed: dict[str, bytes]) -> None:
    client = DICOMwebClient(archive.root)
    assert len(client.retrieve_study(STUDY)) == len(mixed)
    assert len(client.retrieve_series(STUDY, SERIES)) == 3
    uid = next(iter(mixed)).rpartition("/")[2]
    assert client.retrieve_instance(STUDY, SERIES, uid).SOPInstanceUID == uid


def test_an_instance_has_the_same_tag_after_a_restart(empty: str, tmp_path: Path) -> None:
    """Caches, and downloads that go on where they broke off, survive."""
    with doors.serving(empty, tmp_path) as archive:
        (url,) = doors.stored(archive.root, make.instance())
        first = get(url, "application/dicom").headers
    with doors.serving(empty, tmp_path) as archive:
        again = get(f"{archive.root}{url.partition('/dicom-web')[2]}", "application/dicom").headers
    assert (again["etag"], again["last-modified"]) == (first["etag"], first["last-modified"])


def test_while_the_storage_is_away_nothing_is_called_missing(empty: str, tmp_path: Path) -> None:
    """A disk that is not mounted is a 503: what is told to be missing may be forgotten for ever."""
    with doors.serving(empty, tmp_path / "data") as archive:
        (address,) = doors.stored(archive.root, make.instance())
        storage = tmp_path / "data" / "storage"
        storage.rename(tmp_path / "away")
        doors.is_problem(doors.get(address, headers={"Accept": "application/dicom"}), 503)
        (tmp_path / "away").rename(storage)
        assert doors.get(address, headers={"Accept": "application/dicom"}).status_code == 200
