"""Figures of several processes need no room on the disk that objects fill."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app import metrics


def test_they_lie_in_shared_memory_empty_at_each_start(tmp_path: Path) -> None:
    """The same place for the same folder, so that nothing of a killed server stays for ever."""
    shared, data = tmp_path / "shm", tmp_path / "data"
    shared.mkdir()
    data.mkdir()
    first = metrics.fresh(data, shared)
    assert first is not None
    assert first.parent == shared
    assert first.stat().st_mode & 0o777 == 0o700
    (first / "counter_1.db").write_bytes(b"x")
    again = metrics.fresh(data, shared)
    assert again == first
    assert not list(first.iterdir())


def test_without_shared_memory_they_lie_beside_the_data(tmp_path: Path) -> None:
    assert metrics.fresh(tmp_path, tmp_path / "none") == tmp_path / "metrics"


def test_room_is_taken_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page is there; where there is no room the library is told of no folder, and keeps to its memory."""
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
    metrics.reserve()
    assert os.environ[metrics.FOLDER] == str(tmp_path)
    assert {path.stat().st_blocks * 512 >= 256 << 10 for path in tmp_path.iterdir()} == {True}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    metrics.reserve()
    assert metrics.FOLDER not in os.environ
    assert not list(tmp_path.iterdir())


def test_of_a_process_that_ended_only_what_it_counted_stays(tmp_path: Path) -> None:
    for kind in ("counter", "gauge_livesum", "histogram"):
        (tmp_path / f"{kind}_7.db").write_bytes(
            (100 if kind == "counter" else 0).to_bytes(4, "little") + bytes(5000)
        )
    metrics.release(str(tmp_path), 7)
    (left,) = tmp_path.iterdir()
    assert (left.name, left.stat().st_size) == ("counter_7.db", 100)
    metrics.release(str(tmp_path), 8)
