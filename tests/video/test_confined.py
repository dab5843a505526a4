"""Whatever a stream names, the child that reads it opens nothing: no file, no address, no program (behaviour: Video)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import Unavailable
from app.video import Unplayable, confined, inside
from app.video.boxes import Read
from app.video.confined import Limits, Task

REASONS = dict.fromkeys(inside.Reason, "There is nothing in it.")
DEMUXERS = (
    "mov",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "h264",
    "hevc",
    "hls",
    "concat",
    "sdp",
    "dash",
    "image2",
    "rtsp",
)


class Tripwire:
    """A pipe and a port that tell whether anybody came."""

    def __init__(self, folder: Path) -> None:
        self.pipe = folder / "trap.ts"
        os.mkfifo(self.pipe)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0)
        self.port = self.listener.getsockname()[1]
        self._opened = threading.Thread(target=lambda: os.close(os.open(self.pipe, os.O_WRONLY)))
        self._opened.start()

    def sprung(self) -> bool:
        self._opened.join(0.2)
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return not self._opened.is_alive()
        return True

    def close(self) -> None:
        os.close(os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK))
        self._opened.join()
        self.listener.close()


@pytest.fixture
def tripwire(tmp_path: Path) -> Iterator[Tripwire]:
    made = Tripwire(tmp_path)
    yield made
    made.close()


def hostile(trap: Tripwire) -> list[tuple[str, bytes]]:
    """Text that a demuxer of FFmpeg takes for a list of what to open."""
    address = f"http://127.0.0.1:{trap.port}/trap.ts"
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {} RTP/AVP/TCP 96\n"
    dash = '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>'
    return [
        ("hls", hls.format(trap.pipe).encode()),
        ("hls", hls.format(address).encode()),
        ("concat", f"ffconcat version 1.0\nfile {trap.pipe}\n".encode()),
        ("sdp", sdp.format(trap.port).encode()),
        ("dash", dash.format(address).encode()),
    ]


@pytest.mark.parametrize("task", ["poster", "remux", "probe"])
async def test_lists_and_addresses_are_not_followed(tripwire: Tripwire, task: str) -> None:
    """Not even if we told FFmpeg the truth of what they are."""
    for demuxer, stream in hostile(tripwire):

        async def read(offset: int, length: int, stream: bytes = stream) -> bytes:
            return stream[offset : offset + length]

        with pytest.raises((Unplayable, Unavailable)):
            await finished(Task(task, demuxer, len(stream), REASONS), read)
    assert not tripwire.sprung()


async def finished(task: Task, read: Read) -> None:
    async with confined.child(task, read, Limits(cpu_s=5, wall_s=30)) as child:
        async for _ in child.pieces():
            pass


ATTEMPTS = """
import json, os, socket, subprocess, sys
from app.video.inside import __main__ as child
attempts = {
    "a file": lambda: open("/etc/hostname"),
    "its own program": lambda: open(sys.executable, "rb"),
    "a new file": lambda: open("/tmp/reelweb-made-by-a-child", "w"),
    "a folder": lambda: os.open("/", os.O_RDONLY),
    "an address": lambda: socket.create_connection(("127.0.0.1", 9)),
    "a datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "a local socket": lambda: socket.socket(socket.AF_UNIX),
    "a pipe": os.pipe,
    "memory as a file": lambda: os.memfd_create("x"),
    "a program": lambda: subprocess.run(["/bin/true"], stdout=subprocess.PIPE),
    "its limit again": lambda: child.resource.setrlimit(child.resource.RLIMIT_NOFILE, (64, 64)),
}
child._bind(os.getppid(), 1 << 30, 5)
told = {}
for name, attempt in attempts.items():
    try:
        attempt()
    except Exception as error:
        told[name] = getattr(error, "errno", None) or type(error).__name__
    else:
        told[name] = "possible"
os.setuid(os.getuid())
os.write(1, json.dumps(told).encode())
"""


def test_the_child_can_open_nothing() -> None:
    """Once bound it gets no descriptor of any kind, and not even root gets the right back."""
    environment = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])}
    made = subprocess.run(
        [sys.executable, "-P", "-S", "-c", ATTEMPTS],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    limited = told.pop("its limit again")
    assert set(told.values()) == {24}, told  # EMFILE: no descriptor is left
    assert limited != "possible" or os.geteuid() == 0
    assert not Path("/tmp/reelweb-made-by-a-child").exists()
