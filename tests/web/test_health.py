"""Alive while the loop turns; ready while database and storage answer."""

from __future__ import annotations

from pathlib import Path

from tests.web import doors
from tests.web.doors import Archive


def test_a_server_that_serves_is_alive_and_ready(archive: Archive) -> None:
    for path in ("/healthz", "/readyz"):
        answer = doors.get(archive.url + path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


def test_without_its_storage_it_is_alive_and_not_ready(empty: str, tmp_path: Path) -> None:
    with doors.serving(empty, tmp_path / "data") as archive:
        (tmp_path / "data" / "storage").rename(tmp_path / "away")
        answer = doors.get(f"{archive.url}/readyz")
        doors.is_problem(answer, 503)
        assert answer.headers["retry-after"] == "2"
        assert doors.get(f"{archive.url}/healthz").status_code == 200
        (tmp_path / "away").rename(tmp_path / "data" / "storage")
        assert doors.get(f"{archive.url}/readyz").status_code == 200
