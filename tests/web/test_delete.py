"""DELETE: off unless it is allowed, for those who may, at every level; whoever reads may end."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from tests import cluster, make, make_video
from tests.web import doors
from tests.web.doors import Archive

delete = partial(httpx.delete, verify=doors.TLS, timeout=30)


@pytest.fixture(scope="module")
def archive(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with doors.serving(migrated, tmp_path_factory.mktemp("archive"), allow_delete=True) as archive:
        yield archive
    cluster.clear(migrated)


def some(archive: Archive) -> tuple[str, str, list[str]]:
    """The addresses of a study, its series and its three instances."""
    study, series = make.uid(), make.uid()
    sent = [
        make.instance(StudyInstanceUID=study, SeriesInstanceUID=series, PatientName=f"N{n}") for n in range(3)
    ]
    instances = doors.stored(archive.root, *sent)
    return f"{archive.root}/studies/{study}", f"{archive.root}/studies/{study}/series/{series}", instances


def test_an_instance_goes_and_its_neighbours_stay(archive: Archive) -> None:
    """204 without a body, then 404; counters and metadata tell of what is left."""
    study, series, (first, *others) = some(archive)
    assert len(doors.get(f"{series}/metadata").json()) == 3
    answer = delete(first)
    assert (answer.status_code, answer.content) == (204, b"")
    doors.is_problem(doors.get(first, headers={"Accept": "application/dicom"}), 404)
    doors.is_problem(doors.get(f"{first}/metadata"), 404)
    doors.is_problem(delete(first), 404)
    assert len(doors.get(f"{series}/metadata").json()) == 2
    assert [row["00201209"]["Value"] for row in doors.get(f"{study}/series").json()] == [[2]]
    for one in others:
        assert doors.get(one, headers={"Accept": "application/dicom"}).status_code == 200


@pytest.mark.parametrize("level", ["study", "series"])
def test_a_study_or_series_goes_with_all_below(archive: Archive, level: str) -> None:
    study, series, instances = some(archive)
    assert delete(study if level == "study" else series).status_code == 204
    for address in (study, series, *instances):
        doors.is_problem(doors.get(address), 404)
    uid = study.rpartition("/")[2]
    assert doors.get(f"{archive.root}/studies", params={"StudyInstanceUID": uid}).json() == []


def test_an_address_that_does_not_fit_removes_nothing(archive: Archive) -> None:
    """An instance under another study's address is not that instance."""
    study, _, instances = some(archive)
    other, _, _ = some(archive)
    doors.is_problem(delete(instances[0].replace(study, other)), 404)
    assert doors.get(instances[0], headers={"Accept": "application/dicom"}).status_code == 200


def test_a_video_that_was_deleted_is_gone_at_once(archive: Archive, tmp_path: Path) -> None:
    """Also for those who had asked for it a moment ago."""
    (address,) = doors.stored(archive.root, make_video.instance(tmp_path / "v.dcm").path.read_bytes())
    some_bytes = {"Range": "bytes=0-99"}
    for _ in range(2):
        assert doors.get(f"{address}/rendered", headers=some_bytes).status_code == 206
    assert delete(address).status_code == 204
    doors.is_problem(doors.get(f"{address}/rendered", headers=some_bytes), 404)


def test_what_was_deleted_can_be_stored_again(archive: Archive) -> None:
    """The same and another: the UID is free."""
    uids = {"StudyInstanceUID": make.uid(), "SeriesInstanceUID": make.uid(), "SOPInstanceUID": make.uid()}
    for name in ("One", "One", "Two"):
        sent = make.instance(**uids, PatientName=name, AccessionNumber="A", PatientID="P", InstanceNumber=1)
        (address,) = doors.stored(archive.root, sent)
        assert doors.get(address, headers={"Accept": "application/dicom"}).content == sent
        assert delete(address).status_code == 204


def test_who_reads_may_end(archive: Archive) -> None:
    """An instance that is deleted while it is sent arrives whole."""
    large = make.instance(PixelData=bytes(24 << 20), Rows=4096, Columns=3072)
    (address,) = doors.stored(archive.root, large)
    digest, deleted = sha256(), False
    with httpx.stream("GET", address, headers={"Accept": "application/dicom"}, verify=doors.TLS) as answer:
        for chunk in answer.iter_bytes():
            digest.update(chunk)
            if not deleted:
                assert delete(address).status_code == 204
                deleted = True
    assert digest.digest() == sha256(large).digest()


def test_it_is_off_unless_allowed(empty: str, tmp_path: Path) -> None:
    """405, and Allow tells what the resource takes."""
    with doors.serving(empty, tmp_path) as archive:
        study, series, instances = some(archive)
        for address, allowed in ((study, {"GET", "HEAD", "POST"}), (series, {"GET", "HEAD"})):
            answer = delete(address)
            doors.is_problem(answer, 405)
            assert set(answer.headers["allow"].split(", ")) == allowed
        doors.is_problem(delete(instances[0]), 405)
        assert doors.get(instances[0], headers={"Accept": "application/dicom"}).status_code == 200


def test_a_token_needs_the_scope(empty: str, tmp_path: Path) -> None:
    """Who may read and write may not delete."""
    tokens = tmp_path / "tokens"
    lines = [("writer", "read,write"), ("owner", "read,write,delete")]
    tokens.write_text("".join(f"{name} {may} {sha256(name.encode()).hexdigest()}\n" for name, may in lines))
    with doors.serving(empty, tmp_path / "data", allow_delete=True, tokens_file=tokens) as archive:
        writer, owner = ({"Authorization": f"Bearer {name}"} for name in ("writer", "owner"))
        answer = doors.store(archive.root, make.instance(), **writer)
        address = answer.json()[doors.STORED]["Value"][0][doors.URL]["Value"][0]
        doors.is_problem(delete(address, headers=writer), 403)
        assert delete(address, headers=owner).status_code == 204


def test_by_setting_another_takes_the_place_of_the_first(empty: str, tmp_path: Path) -> None:
    """Replaced even where it says to belong to another study; the first object goes after the grace."""
    with doors.serving(empty, tmp_path, on_conflict="replace") as archive:
        uid = make.uid()
        first, second = (make.instance(SOPInstanceUID=uid, PatientName=name) for name in ("A", "B"))
        (before,) = doors.stored(archive.root, first)
        (after,) = doors.stored(archive.root, second)
        doors.is_problem(doors.get(before), 404)
        assert doors.get(after, headers={"Accept": "application/dicom"}).content == second
        assert len(doors.get(f"{archive.root}/studies").json()) == 1
        assert archive.column("select count(*) from removed") == [1]
