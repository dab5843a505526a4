"""SIGKILL to any process: nothing left behind, every acknowledged instance intact, the server ready again."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from tests import make, make_video
from tests.serving import Server, serving, until

DICOM = {"Content-Type": "application/dicom"}


def store(server: Server, data: bytes) -> str:
    """The path of an instance whose storing was acknowledged."""
    answer = httpx.post(f"{server.url}/dicom-web/studies", content=data, headers=DICOM, timeout=30)
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    return url.removeprefix(server.url)


def assert_intact(server: Server, kept: dict[str, bytes]) -> None:
    """Every acknowledged instance comes back bit for bit, and is found."""
    for path, data in kept.items():
        answer = httpx.get(server.url + path, headers={"Accept": "application/dicom"}, timeout=30)
        assert answer.content == data
    found = httpx.get(f"{server.url}/dicom-web/instances", params={"limit": "1000"}, timeout=30).json()
    assert {row["00080018"]["Value"][0] for row in found} == {path.rpartition("/")[2] for path in kept}


def killed(server: Server, kind: str) -> None:
    """One child gone by SIGKILL, and the server ready again."""
    child = server.child(kind)
    assert child is not None
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    until(server.answers, server)


@pytest.mark.timeout(240)
def test_whatever_is_killed_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """After each child's kill all is there and storing goes on; after the supervisor's, none stays behind."""
    kept: dict[str, bytes] = {}
    clip = make_video.instance(tmp_path / "clip.dcm").path.read_bytes()
    with serving(tmp_path / "data") as server:
        video = store(server, clip)
        kept[video] = clip
        for kind in ("web-worker", "jobs", "postgres"):
            data = make.instance()
            kept[store(server, data)] = data
            killed(server, kind)
            assert_intact(server, kept)
        server.tell(signal.SIGKILL)
        until(lambda: not server.left_behind(), server, 10)
    with serving(tmp_path / "data") as server:
        assert_intact(server, kept)
        part = httpx.get(f"{server.url}{video}/rendered", headers={"Range": "bytes=0-99"}, timeout=30)
        assert (part.status_code, len(part.content)) == (206, 100)
