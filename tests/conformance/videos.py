"""The videos that must play, from the shared corpus where it is there, and others like them made here."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import av
import httpx
import pydicom
from pydicom.encaps import generate_frames

from tests import corpus, make_video
from tests.make_video import Clip

Maker = Callable[[Path], object]

_CLIP = Clip(sound="aac", width=320, height=240)
_MADE: dict[str, Maker] = {
    "audio": partial(make_video.instance, clip=_CLIP, times=2, odd=True),
    "bot": partial(make_video.instance, clip=_CLIP, times=2, bot=True),
    "faststart": partial(make_video.instance, clip=_CLIP, container="faststart"),
    "42-2d": partial(make_video.instance, clip=_CLIP, transfer_syntax="1.2.840.10008.1.2.4.104"),
    "42-3d": partial(make_video.instance, clip=_CLIP, transfer_syntax="1.2.840.10008.1.2.4.105"),
    "fragments": partial(make_video.instance, clip=_CLIP, fragment_size=4000, total_length=False),
}
_SHARED = (
    "h264-41-mp4-audio",
    "h264-41-mp4-bot",
    "h264-41-mp4-faststart",
    "h264-42-2d-mp4-60fps",
    "h264-42-3d-mp4",
)
_PATHS = {name: path for name in _SHARED if (path := corpus.SHARED / "video" / f"{name}.dcm").exists()}

_BARE: dict[str, Maker] = {
    "bare": partial(make_video.instance, clip=Clip(width=320, height=240), container="annexb", times=2),
    "bare-fragments": partial(
        make_video.instance, container="annexb", fragment_size=4000, total_length=False
    ),
}

NAMES = [*_MADE, *_PATHS]
BARE = [*_BARE]
"""Streams in no container, which keep no time of their own."""


def file(name: str, folder: Path) -> Path:
    """The DICOM file of that name, made in the folder unless it lies in the corpus."""
    if name in _PATHS:
        return _PATHS[name]
    path = folder / f"{name}.dcm"
    (_MADE | _BARE)[name](path)
    return path


def stream(path: Path) -> bytes:
    """The stream in a DICOM file, by pydicom: its fragments joined, a pad that is told left off."""
    data = pydicom.dcmread(path)
    joined = next(generate_frames(data.PixelData, number_of_frames=1))
    return joined[: data.get("EncapsulatedPixelDataValueTotalLength")]


def store(server: str, path: Path) -> str:
    """Store a file through STOW-RS; the instance's address."""
    with path.open("rb") as body:
        return sent(server, body)


def sent(server: str, body: BinaryIO | bytes) -> str:
    """Store one instance through STOW-RS; its address."""
    headers = {"Content-Type": "application/dicom"}
    told = httpx.post(f"{server}/dicom-web/studies", content=body, headers=headers, timeout=60)
    assert told.status_code == 200, told.text
    address: str = told.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    return address


def answer(address: str, accept: str = "video/mp4", **headers: str) -> httpx.Response:
    """What a resource is answered, once it is made or refused: as clients do, asked again while it is being made."""
    ends = time.monotonic() + 100
    while True:
        told = httpx.get(address, headers={"Accept": accept} | headers, timeout=60)
        if told.status_code != 503 or time.monotonic() > ends:
            return told
        assert int(told.headers["retry-after"]) > 0
        time.sleep(0.2)


def playable(server: str, path: Path) -> str:
    """Store a video, and wait until its MP4 and its poster are there, or a reason why not; its address."""
    address = store(server, path)
    answer(f"{address}/rendered", Range="bytes=0-0")
    answer(f"{address}/thumbnail", "image/jpeg")
    return address


def size(path: Path) -> tuple[int, int]:
    """Width and height of the pictures in a DICOM file, by FFmpeg."""
    with av.open(io.BytesIO(stream(path)), "r") as container:
        video = container.streams.video[0]
        return video.width, video.height
