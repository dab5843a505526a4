"""What is told of requests: enough to find one, nothing of a patient."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog

from app.upkeep.findings import Finding
from tests import make
from tests.web import doors
from tests.web.doors import Archive
from tests.web.players import player

SECRETS = ("Geheim", "GEHEIM", "geheim", "19010203", "hush-id", "s3cret")


@pytest.fixture
def lines(archive: Archive, capfd: pytest.CaptureFixture[str]) -> Iterator[list[dict[str, Any]]]:
    """The events that are logged while the test runs, with every processor left out."""
    told: list[dict[str, Any]] = []

    def keep(_logger: object, _name: str, event: Any) -> Any:
        told.append(dict(event))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    # A line comes after its answer: when that of this request is there, so are those of the test before.
    last = doors.get(f"{archive.url}/healthz").headers["x-request-id"]
    while not any(line.get("request_id") == last for line in told):
        time.sleep(0.01)
    told.clear()
    yield told
    structlog.configure(**before)


@pytest.fixture(scope="module")
def url(archive: Archive) -> str:
    """An instance."""
    return doors.stored(archive.root, make.instance())[0]


def test_one_line_for_each_request(archive: Archive, lines: list[dict[str, Any]]) -> None:
    answer = doors.get(f"{archive.root}/studies?PatientName=x")
    (line,) = until(lines, 1)
    assert line["event"] == "request"
    assert (line["method"], line["path"], line["status"]) == ("GET", "/dicom-web/studies", 200)
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["bytes"] == len(answer.content)
    assert line["ms"] >= 0


def test_a_range_that_is_known_has_a_line_as_the_first_one(url: str, lines: list[dict[str, Any]]) -> None:
    """Once, and in the same words: to a terminal a number and its name are not the same."""
    with player(url) as viewer:
        ids = [viewer.get(url, 0, 9, Accept="application/dicom").headers["x-request-id"] for _ in range(3)]
    told = until(lines, 3)
    assert [line["request_id"] for line in told] == ids
    assert [repr(line["status"]) for line in told] == ["206"] * 3
    assert {(line["method"], line["path"], line["bytes"]) for line in told} == {
        ("GET", urlsplit(url).path, 9)
    }


def until(lines: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The line comes after the last byte."""
    deadline = time.monotonic() + 5
    while len(lines) < count:
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)
    return lines


def test_no_line_and_no_error_holds_anything_of_a_patient(
    archive: Archive, lines: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Names in queries, headers, addresses, bodies and data sets, whatever becomes of the request."""
    names = {"PatientName": "Geheim^Gerda", "PatientID": "hush-id", "PatientBirthDate": "19010203"}
    uids = {keyword: make.uid() for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    kept = make.instance(**names, **uids)
    (url,) = doors.stored(archive.root, kept)
    answers = [
        doors.store(archive.root, make.instance(**names, **uids, PatientComments="other")),
        doors.store(
            archive.root,
            make.instance(**names).replace(b"1.2.826.0.1.3680043.10.1471.", b"Geheim^Gerda/0043.10.1471.99"),
        ),
        doors.store(archive.root, kept[:-9], b"Geheim" * 50),
        doors.store(archive.root, make.instance(**names), study="1.2.3"),
        doors.post(f"{archive.root}/studies", content=b"Geheim", headers={"Content-Type": "geheim/x"}),
        doors.post(
            f"{archive.root}/studies",
            content=b"--b\r\nGeheim^Gerda\r\n\r\n",
            headers={"Content-Type": "multipart/related; boundary=b"},
        ),
    ]
    paths = (
        "/studies?PatientName=Geheim*",
        "/studies?StudyDate=Geheim",
        "/studies?limit=Geheim",
        "/studies?0010Geheim=1",
        "/studies/Geheim%5EGerda",
        "/studies/Geheim%5EGerda/series",
        "/Geheim",
        "/studies/1.2/Geheim",
        "/studies/Geheim/series",
    )
    answers += [doors.get(archive.root + path) for path in paths]
    hostile = {"Accept": "geheim/*, */*;q=0.1", "X-Patient": "Geheim", "Authorization": "Bearer s3cret"}
    more = ("/rendered?window=Geheim", "/frames/Geheim", "/bulkdata/Geheim", "/metadata?geheim=1", "")
    answers += [doors.get(url + path, headers=hostile) for path in more]
    until(lines, len(answers))
    time.sleep(0.05)
    out, err = capfd.readouterr()
    text = json.dumps(lines, default=str) + out + err
    assert not [secret for secret in SECRETS if secret in text]
    assert {line["event"] for line in lines} == {"request", "refused"}
    refusals = [line for line in lines if line["event"] == "refused"]
    assert {line["reason"] for line in refusals} >= {"0111", "C000", "A900"}


def test_a_name_within_a_uid_is_not_told(tmp_path: Path, migrated: str, lines: list[dict[str, Any]]) -> None:
    """Letters in UIDs are taken, and may be a name: logs have a digest of them, whatever becomes of the instance."""
    uids = {"SOPInstanceUID": "1.2.777777.0", "StudyInstanceUID": "1.2.777777.1", "SeriesInstanceUID": "1.3"}
    first, other = (
        make.instance(**uids, PatientComments=comment).replace(b"777777", b"Geheim") for comment in "ab"
    )
    with doors.serving(migrated, tmp_path, allow_delete=True) as here:
        (url,) = doors.stored(here.root, first)
        doors.store(here.root, other)
        doors.get(f"{url}/rendered")
        for address in (url, url.partition("/series")[0]):
            doors.request("DELETE", address)
    assert {line["event"] for line in lines} >= {"refused", "removed"}
    told = json.dumps(lines, default=str)
    assert "Geheim" not in told
    assert told.count("sha256:") >= 3
    assert str(Finding("missing", "objects/x", "1.2.Geheim.0")).startswith("missing objects/x sha256:")


@pytest.mark.parametrize("end", ["", "/", "x", "/Doe"])
def test_a_long_address_is_told_at_once(
    archive: Archive, lines: list[dict[str, Any]], url: str, end: str
) -> None:
    """Whatever it repeats: digits that can be read in two ways have held the whole server for ever."""
    path = "54000100/1/" * 1000 + "54000100" + end
    doors.get(f"{url}/bulkdata/{path}")
    (line,) = until(lines, 1)
    assert ("54000100" in line["path"]) == (not end)


def test_an_unknown_path_is_not_repeated(archive: Archive, lines: list[dict[str, Any]]) -> None:
    doors.get(f"{archive.url}/Doe/Jane")
    doors.get(f"{archive.root}/Doe/Jane")
    assert [line["path"] for line in until(lines, 2)] == ["", ""]


def test_a_client_that_leaves_is_no_error(archive: Archive, lines: list[dict[str, Any]]) -> None:
    """In the midst of an upload and of an answer: one line each, and the server goes on."""
    large = make.instance(PixelData=bytes(24 << 20), Rows=4096, Columns=3072)
    (url,) = doors.stored(archive.root, large)
    with doors.connected(archive.url) as connection:
        connection.sendall(
            b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
            b"Content-Length: 99999999\r\n\r\n" + large[: 1 << 20]
        )
    with doors.connected(archive.url) as connection:
        connection.sendall(
            f"GET {url.removeprefix(archive.url)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        connection.recv(1000)
    until(lines, 3)
    time.sleep(0.1)
    assert [line["event"] for line in lines] == ["request"] * 3
    assert {line["status"] for line in lines} == {200, 499}
    assert doors.get(f"{archive.url}/readyz").status_code == 200
