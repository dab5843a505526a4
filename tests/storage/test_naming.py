"""How a file gets its name: what is seen of it before, and what is left when it never does."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from app.storage import naming
from app.storage.naming import Linked, Naming, Renamed


@pytest.mark.parametrize("kind", [Linked, Renamed])
def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path, kind: type[Linked] | type[Renamed]) -> None:
    """Nobody meets less of it; a name that is taken is taken over, as a record's that is written twice."""
    (tmp_path / "tmp").mkdir()
    way: Naming = kind(str(tmp_path / "tmp"))
    descriptor, path = way.create()
    os.write(descriptor, b"whole")
    assert [file.name for file in tmp_path.iterdir()] == ["tmp"]
    way.name(descriptor, path, str(tmp_path / "object"))
    os.close(descriptor)
    assert (tmp_path / "object").read_bytes() == b"whole"
    descriptor, path = way.create()
    os.write(descriptor, b"again")
    way.name(descriptor, path, str(tmp_path / "object"))
    os.close(descriptor)
    assert (tmp_path / "object").read_bytes() == b"again"
    assert not list((tmp_path / "tmp").iterdir())
    assert (tmp_path / "object").stat().st_mode & 0o777 == 0o600


def test_nothing_is_left_of_a_file_that_is_closed_without_a_name(tmp_path: Path) -> None:
    descriptor, path = Linked(str(tmp_path)).create()
    assert not path
    os.write(descriptor, b"half")
    os.close(descriptor)
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_nameless_files_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two calls it refuses; the trial leaves nothing."""
    assert isinstance(naming.probed(str(tmp_path)), Linked)
    for call in ("link", "open"):

        def refuse(*_: object, **__: object) -> int:
            raise OSError(95, "Operation not supported")

        with monkeypatch.context() as patched:
            patched.setattr(os, call, refuse)
            assert isinstance(naming.probed(str(tmp_path)), Renamed)
    assert not list(tmp_path.iterdir())


def test_where_the_kernel_cannot_write_a_range_out_the_file_is_synced_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the name never stands for less than all bytes."""
    done: list[str] = []
    sync, link = os.fdatasync, os.link

    def synced(descriptor: int) -> None:
        done.append("sync")
        sync(descriptor)

    def linked(source: str, target: str, *, src_dir_fd: int) -> None:
        done.append("link")
        link(source, target, src_dir_fd=src_dir_fd)

    monkeypatch.setattr(naming, "_sync_file_range", naming._without)
    monkeypatch.setattr(os, "fdatasync", synced)
    monkeypatch.setattr(os, "link", linked)
    way = Linked(str(tmp_path))
    descriptor, path = way.create()
    way.name(descriptor, path, str(tmp_path / "object"))
    os.close(descriptor)
    assert done == ["sync", "link"]


def test_an_error_of_the_disk_is_no_reason_to_try_another_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of bytes that it could not write once; the sync that follows would succeed."""

    def broken(*_: object) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(naming, "_sync_file_range", broken)
    way = Linked(str(tmp_path))
    descriptor, path = way.create()
    with pytest.raises(OSError, match="Input/output error"):
        naming.write_out(descriptor)
    with pytest.raises(OSError, match="Input/output error"):
        way.name(descriptor, path, str(tmp_path / "object"))
    os.close(descriptor)
    assert not list(tmp_path.iterdir())


def test_this_kernel_writes_ranges_out(tmp_path: Path) -> None:
    """The call of the C library is the one meant: it succeeds on a file and fails on a closed descriptor."""
    descriptor = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    assert naming._sync_file_range(descriptor, *naming._WHOLE, 7) == 0
    os.close(descriptor)
    assert ctypes.CDLL(None).sync_file_range
    assert naming._sync_file_range(descriptor, *naming._WHOLE, 7) == -1
    assert ctypes.get_errno() == errno.EBADF
