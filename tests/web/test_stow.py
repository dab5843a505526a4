"""Everything about STOW that a client sees, and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset

from app.dicom.native_model import Reader
from tests import make
from tests.web import doors
from tests.web.doors import FAILED, OTHER, STORED, URL, WARNING, Archive, reasons, stored

DICOM = "application/dicom"


def body(*instances: bytes, boundary: str = "b", media_type: str = DICOM) -> bytes:
    return make.multipart(instances, boundary, media_type)


def post(archive: Archive, content: Any, content_type: str, study: str = "") -> httpx.Response:
    address = f"{archive.root}/studies/{study}".rstrip("/")
    return doors.post(address, content=content, headers={"Content-Type": content_type})


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/related; type="application/dicom"; boundary="b"',
        'multipart/related; type="application/dicom"; boundary=b',
        "multipart/related; type=application/dicom; boundary=b",
        "multipart/related; boundary=b; type=application/dicom",
        "multipart/related; boundary=b",
        'Multipart/Related; Type="Application/DICOM"; Boundary=b',
        'multipart/related;type="application/dicom; transfer-syntax=1.2.840.10008.1.2.1";boundary=b',
        'multipart/related; type="application/dicom"; start="<a@b>"; boundary="b"; charset=utf-8',
    ],
    ids=["quoted", "boundary bare", "bare", "boundary first", "no type", "case", "syntax in type", "more"],
)
def test_a_multipart_body_is_taken_however_its_type_is_written(archive: Archive, content_type: str) -> None:
    data = make.instance()
    answer = post(archive, body(data), content_type)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    (url,) = (item[URL]["Value"][0] for item in answer.json()[STORED]["Value"])
    assert doors.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}).content == data


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Content-Type: application/dicom\r\n",
        b"CONTENT-TYPE:application/dicom;transfer-syntax=1.2.840.10008.1.2.1\r\nContent-Length: 7\r\n",
        b'Content-Type: Application/DICOM; transfer-syntax="1.2.840.10008.1.2.1"\r\nContent-ID: <a@b>\r\n',
    ],
    ids=["none", "plain", "capitals", "quoted"],
)
def test_a_part_is_taken_however_its_headers_are_written(archive: Archive, head: bytes) -> None:
    content = b"--b\r\n%s\r\n%s\r\n--b--" % (head, make.instance())
    assert post(archive, content, "multipart/related; boundary=b").status_code == 200


def test_one_instance_may_be_the_whole_body(archive: Archive) -> None:
    data = make.instance()
    answer = post(archive, data, "application/dicom; transfer-syntax=1.2.840.10008.1.2.1")
    assert answer.status_code == 200
    uid = str(doors.read(data).SOPInstanceUID)
    assert answer.json()[STORED]["Value"][0]["00081155"] == {"vr": "UI", "Value": [uid]}


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20], ids=lambda size: f"pieces of {size}")
@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "Content-Length"])
def test_a_body_may_come_in_any_pieces(archive: Archive, size: int, *, chunked: bool) -> None:
    content = body(make.instance(), make.instance(PixelData=bytes(5000), Columns=1250, Rows=2))

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    headers = {"Content-Type": "multipart/related; boundary=b"}
    if not chunked:
        headers["Content-Length"] = str(len(content))
    answer = doors.post(f"{archive.root}/studies", content=pieces(), headers=headers)
    assert (answer.status_code, len(answer.json()[STORED]["Value"])) == (200, 2)


def test_an_address_with_a_study_takes_that_study_and_no_other(archive: Archive) -> None:
    """A900 for the stranger; its neighbour is stored."""
    mine, other = make.instance(), make.instance()
    study = str(doors.read(mine).StudyInstanceUID)
    answer = doors.store(archive.root, other, mine, study=study)
    assert (answer.status_code, reasons(answer)) == (202, [0xA900])
    assert answer.json()[URL]["Value"] == [f"{archive.root}/studies/{study}"]
    assert len(answer.json()[STORED]["Value"]) == 1
    assert doors.store(archive.root, other, study=study).status_code == 409


def test_the_same_again_is_success_and_nothing_is_written_twice(archive: Archive) -> None:
    """Twice in one request, in a later one, and with another sender's preamble and file meta."""
    data = make.instance()
    before = archive.objects()
    first = doors.store(archive.root, data, data)
    assert (first.status_code, len(first.json()[STORED]["Value"])) == (200, 2)
    again = doors.store(archive.root, b"II*\0" + bytes(124) + data[128:])
    assert again.status_code == 200
    assert again.json()[STORED]["Value"][0] == first.json()[STORED]["Value"][0]
    assert len(archive.objects() - before) == 1


def conflicting() -> tuple[bytes, bytes]:
    uids = {keyword: make.uid() for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    return make.instance(**uids, PatientID="one"), make.instance(**uids, PatientID="two")


def test_something_else_under_a_stored_uid_is_refused(archive: Archive) -> None:
    """0111 Duplicate SOP Instance: the stored one stays, nothing of the other does."""
    first, second = conflicting()
    (url,) = stored(archive.root, first)
    before = archive.objects()
    answer = doors.store(archive.root, second)
    assert (answer.status_code, reasons(answer)) == (409, [0x0111])
    assert archive.objects() == before
    assert doors.get(url, headers={"Accept": "application/dicom"}).content == first


def test_by_setting_the_first_is_kept_and_the_sender_is_content(empty: str, tmp_path: Path) -> None:
    first, second = conflicting()
    with doors.serving(empty, tmp_path, on_conflict="keep") as archive:
        (url,) = stored(archive.root, first)
        answer = doors.store(archive.root, second)
        assert answer.status_code == 202
        assert FAILED not in answer.json()
        assert answer.json()[STORED]["Value"][0][WARNING] == {"vr": "US", "Value": [0xB006]}
        assert doors.get(url, headers={"Accept": "application/dicom"}).content == first
        assert len(archive.objects()) == 1


@pytest.mark.parametrize(
    ("data", "tag", "reason"),
    [
        pytest.param(make.instance(StudyInstanceUID=None), FAILED, 0xC000, id="no study"),
        pytest.param(make.instance(SeriesInstanceUID=None), FAILED, 0xC000, id="no series"),
        pytest.param(make.instance(SOPInstanceUID=None), OTHER, 0xC000, id="no instance"),
        pytest.param(make.instance(SOPClassUID=None), FAILED, 0xC000, id="no class"),
        pytest.param(make.instance()[:-7], FAILED, 0xC000, id="cut short"),
        pytest.param(b"not DICOM" * 30, OTHER, 0xC000, id="text"),
        pytest.param(b"", OTHER, 0xC000, id="empty"),
        pytest.param(make.instance()[:140], OTHER, 0xC000, id="cut in the meta"),
        pytest.param(
            make.instance("1.2.840.10008.1.2.4.95", PixelData=None), OTHER, 0xC000, id="not deflated"
        ),
    ],
)
def test_what_cannot_be_kept_is_told_with_its_reason_and_its_neighbours_are_stored(
    archive: Archive, data: bytes, tag: str, reason: int
) -> None:
    """Nothing of the refused one stays."""
    before = archive.objects()
    answer = doors.store(archive.root, make.instance(), data, make.instance())
    assert (answer.status_code, len(answer.json()[STORED]["Value"])) == (202, 2)
    told = [*reasons(answer, FAILED), *reasons(answer, OTHER)]
    assert told == [reason], answer.text
    assert len(archive.objects() - before) == 2
    assert doors.store(archive.root, data).status_code == 409


def test_a_part_of_another_type_is_told_and_its_neighbours_are_stored(archive: Archive) -> None:
    content = b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n" + body(make.instance())
    answer = post(archive, content, "multipart/related; boundary=b")
    assert (answer.status_code, reasons(answer, OTHER)) == (202, [0xC000])
    assert len(answer.json()[STORED]["Value"]) == 1


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        pytest.param(b"--b--\r\n", "multipart/related; boundary=b", 400, id="no part"),
        pytest.param(b"", "multipart/related; boundary=b", 400, id="no body"),
        pytest.param(b"", "application/dicom", 409, id="an empty instance"),
        pytest.param(b"x", "multipart/related; type=application/dicom", 400, id="no boundary"),
        pytest.param(b"x", 'multipart/related; boundary="a\tb"', 400, id="a tab in the boundary"),
        pytest.param(body(make.instance())[:-40], "multipart/related; boundary=b", 400, id="cut in the part"),
        pytest.param(b"--b\r\nContent-Ty", "multipart/related; boundary=b", 400, id="cut in a header"),
        pytest.param(b"--b\r\nno colon\r\n\r\n", "multipart/related; boundary=b", 400, id="no header"),
        pytest.param(b"{}", "application/json", 415, id="JSON"),
        pytest.param(b"[]", "application/dicom+json", 400, id="no data set"),
        pytest.param(b"", "", 415, id="no type"),
        pytest.param(b"", "dicom", 415, id="not a type"),
        pytest.param(b"", "multipart/form-data; boundary=b", 415, id="a form"),
        pytest.param(b"", 'multipart/related; type="application/octet-stream"; boundary=b', 415, id="octets"),
        pytest.param(b"", 'multipart/related; type="text/xml"; boundary=b', 415, id="XML"),
    ],
)
def test_a_request_that_cannot_be_taken_leaves_nothing(
    archive: Archive, content: bytes, content_type: str, status: int
) -> None:
    before = archive.objects()
    answer = post(archive, content, content_type)
    assert answer.status_code == status
    if status != 409:
        doors.is_problem(answer, status)
    assert archive.objects() == before


def test_what_was_stored_before_a_body_breaks_off_stays_and_is_told(archive: Archive) -> None:
    content = body(make.instance(), make.instance())[:-40]
    answer = post(archive, content, "multipart/related; boundary=b")
    assert (answer.status_code, reasons(answer, OTHER)) == (202, [0xC000])
    assert len(answer.json()[STORED]["Value"]) == 1


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "multipart/related; type=application/octet-stream; transfer-syntax=*",
        'multipart/related; type="application/dicom"',
        'multipart/related; type="application/dicom+xml"',
        "application/dicom+xml; q=0.1, application/dicom+json",
        "application/dicom+xml; q=0",
        "image/jpeg",
        "nonsense",
    ],
)
def test_the_answer_is_dicom_json_whatever_is_accepted(archive: Archive, accept: str) -> None:
    """Viewers send their WADO header along (OHIF#3497)."""
    answer = doors.store(archive.root, make.instance(), Accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")


def xml_of(answer: httpx.Response) -> dict[str, Any]:
    reader = Reader()
    reader.feed(answer.content)
    return reader.close()


@pytest.mark.parametrize(
    "accept", ["application/dicom+xml", "text/html, application/*; q=0.5, application/dicom+xml"]
)
def test_the_answer_is_xml_for_who_asks_for_it(archive: Archive, accept: str) -> None:
    """It says the same, of stored and refused ones."""
    answer = doors.store(archive.root, make.instance(), b"text", make.instance()[:-7], Accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/dicom+xml")
    told = xml_of(answer)
    assert list(told) == [URL, FAILED, STORED, OTHER]
    assert told[FAILED]["Value"][0]["00081197"] == {"vr": "US", "Value": [0xC000]}
    assert doors.get(told[STORED]["Value"][0][URL]["Value"][0]).status_code == 200


@pytest.mark.parametrize("accept", ["application/dicom+json", "application/dicom+xml"])
def test_parts_are_without_limit_in_number(archive: Archive, accept: str) -> None:
    """The outcomes wait in a file, the answer is streamed, in the order of the parts."""
    parts = [make.instance(), *(b"%d" % number for number in range(2000)), make.instance()]
    answer = doors.store(archive.root, *parts, Accept=accept)
    told = answer.json() if accept.endswith("json") else xml_of(answer)
    assert answer.status_code == 202
    assert "content-length" not in answer.headers
    assert [len(told[tag]["Value"]) for tag in (STORED, OTHER)] == [2, 2000]


def test_a_directory_of_files_is_not_supported(archive: Archive) -> None:
    """0122: a DICOMDIR tells which files there are, and is no instance."""
    directory = Dataset()
    directory.FileSetID, directory.DirectoryRecordSequence = "SET", []
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    data = make.part10(directory)
    answer = doors.store(archive.root, data)
    assert (answer.status_code, reasons(answer, OTHER)) == (409, [0x0122])


def test_addresses_in_the_answer_can_be_reached_by_a_client_that_leaves_out_the_port(
    archive: Archive,
) -> None:
    data = make.instance()
    answer = doors.store(archive.root, data, Host="127.0.0.1")
    sent = doors.read(data)
    study = f"{archive.root}/studies/{sent.StudyInstanceUID}"
    assert answer.json()[URL]["Value"] == [study]
    (item,) = answer.json()[STORED]["Value"]
    assert item[URL]["Value"] == [f"{study}/series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}"]
    assert doors.get(item[URL]["Value"][0]).status_code == 200


def test_instances_of_several_studies_have_no_address_in_common(archive: Archive) -> None:
    assert URL not in doors.store(archive.root, make.instance(), make.instance()).json()


@pytest.mark.parametrize("path", ["/studies", "/studies/1.2.3"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_another_method_is_told_what_there_is(archive: Archive, method: str, path: str) -> None:
    answer = doors.request(method, archive.root + path)
    doors.is_problem(answer, 405)
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD", "POST"]


def test_a_body_of_a_type_that_is_not_taken_is_not_asked_for(archive: Archive) -> None:
    """Expect: 100-continue is answered with 415 at once."""
    head = (
        b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )
    with doors.connected(archive.url) as connection:
        assert doors.spoken(connection, head).startswith(b"HTTP/1.1 415 ")


def test_a_body_that_is_taken_is_asked_for(archive: Archive) -> None:
    content = body(make.instance())
    head = (
        "POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/related; boundary=b\r\n"
        f"Content-Length: {len(content)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with doors.connected(archive.url) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        assert doors.spoken(connection, content).startswith(b"HTTP/1.1 200 ")


def head_of(length: int) -> bytes:
    return (
        "POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/related; boundary=b\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def until(condition: Any, patience_s: float = 10) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_nothing_stays_of_what_was_refused_lost_or_given_up(empty: str, tmp_path: Path) -> None:
    """No object, no temporary file, no pending row: of the stored ones alone there is something."""
    large = make.instance(PixelData=bytes(4 << 20), Rows=1024, Columns=2048)
    first, second = conflicting()
    with doors.serving(empty, tmp_path) as archive:
        stored(archive.root, first)
        kept = archive.objects()
        doors.store(archive.root, second, first, b"text", make.instance(StudyInstanceUID=None))
        doors.store(archive.root, large, study="1.2.3")
        post(archive, body(large)[:-100], "multipart/related; boundary=b")
        post(archive, large[:-100], DICOM)
        content = body(large)
        with doors.connected(archive.url) as connection:
            connection.sendall(head_of(len(content)) + content[: 3 << 20])
            until(lambda: archive.objects() != kept)
        until(lambda: archive.objects() == kept)
        stored(archive.root, large)
        assert len(archive.objects()) == 2
    assert archive.column("select count(*) from pending") == [0]
    assert sorted(archive.column("select object_key from instance")) == sorted(archive.objects())


def test_a_sender_that_falls_silent_is_given_up_and_told(empty: str, tmp_path: Path) -> None:
    """408 and the end of the connection; what was stored before it stays and is told."""
    content = body(make.instance(), make.instance(PixelData=bytes(3 << 20), Rows=1024, Columns=1536))
    with doors.serving(empty, tmp_path, upload_idle_timeout_s=0.3) as archive:
        with doors.connected(archive.url) as connection:
            answer = doors.spoken(connection, head_of(len(content)), content[:100])
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert doors.problem_of(answer)["detail"].startswith("Nothing of the body came")
            assert connection.recv(1) == b""
        assert not archive.objects()
        with doors.connected(archive.url) as connection:
            answer = doors.spoken(connection, head_of(len(content)), content[: 2 << 20])
            assert answer.startswith(b"HTTP/1.1 202 ")
        assert len(archive.objects()) == 1
    assert archive.column("select count(*) from pending") == [0]


def test_a_slow_sender_is_waited_for(empty: str, tmp_path: Path) -> None:
    """Idle means that nothing comes, not that it takes long."""
    content = body(make.instance())
    with (
        doors.serving(empty, tmp_path, upload_idle_timeout_s=0.4) as archive,
        doors.connected(archive.url) as connection,
    ):
        connection.sendall(head_of(len(content)))
        for start in range(0, len(content), 200):
            time.sleep(0.15)
            connection.sendall(content[start : start + 200])
        assert doors.whole_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_an_instance_that_is_too_large_is_refused_beside_its_neighbours(empty: str, tmp_path: Path) -> None:
    large = make.instance(PixelData=bytes(1 << 20), Rows=512, Columns=1024)
    with doors.serving(empty, tmp_path, max_instance_bytes=100_000) as archive:
        answer = doors.store(archive.root, make.instance(), large, make.instance())
        assert (answer.status_code, reasons(answer)) == (202, [0xA700])
        assert len(archive.objects()) == 2
        assert doors.store(archive.root, large).status_code == 409


def test_no_refusal_quotes_a_patient(archive: Archive) -> None:
    first, second = conflicting()
    secret = make.instance(StudyInstanceUID=None, PatientName="Geheim^Gerda")
    answer = doors.store(archive.root, first, second, secret)
    assert "Geheim" not in answer.text


def test_outcomes_come_in_the_order_of_the_parts(archive: Archive) -> None:
    study = make.uid()
    sent = [make.instance(StudyInstanceUID=study) for _ in range(100)]
    answer = doors.store(archive.root, *sent)
    told = [item["00081155"]["Value"][0] for item in answer.json()[STORED]["Value"]]
    assert told == [str(doors.read(data).SOPInstanceUID) for data in sent]
