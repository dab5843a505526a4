"""The first frame of every image of the corpus, cut out by the scanner's index and decoded: the manifest's hash."""

from __future__ import annotations

import hashlib

import orjson
import pytest

from app.dicom import transfer_syntax
from app.dicom.scanner import Limits, Pixels
from app.errors import Refused
from app.pixels.decode import decode
from app.pixels.image import describe
from tests.dicom.corpus import normalised, scan
from tests.dicom.test_scanner import frames
from tests.make import instance
from tests.pixels.frames import cases, corpus
from tests.pixels.test_corpus import DIFFERENT, SAME

CASES = {case.name: case for case in cases() if case.sha256 and not case.malformed}

# Whose decoded frame is not the oracle's, and why.
NOT_COMPARED: dict[str, str] = {**DIFFERENT, **dict.fromkeys(SAME, "no oracle decodes it; equal to its twin")}


def first_frame(data: bytes, pixels: Pixels) -> bytes:
    """The bytes of frame 1; of a 1-bit frame the last byte may hold the next one's beginning."""
    if pixels.fragments:
        return frames(data, pixels)[0]
    return data[pixels.offset : pixels.offset + (pixels.frame_bits + 7) // 8]


def opened(name: str) -> tuple[bytes, str]:
    """A file, and the hash of its first frame's values."""
    if name == "made":
        return instance(), hashlib.sha256(bytes(range(32))).hexdigest()
    folder = corpus()
    assert folder is not None
    return (folder / name).read_bytes(), CASES[name].sha256


@pytest.mark.parametrize("name", ["made", *CASES])
def test_frame_1_is_the_manifest_s(name: str) -> None:
    """Extents of the stored object, or of its normalised one, lead to the frame whose values the manifest hashes.

    A few images of the corpus have no identity and are refused.
    """
    data, sha = opened(name)
    try:
        found = scan(data, limits=Limits(normalise=True))
    except Refused as refused:
        assert "is missing" in str(refused)  # noqa: PT017 - which sentence is beside the point
        return
    assert found.pixels is not None
    stored = normalised(data) if found.normalised else data
    syntax = transfer_syntax.normalised(found.head.transfer_syntax_uid)
    values = decode(first_frame(stored, found.pixels), describe(orjson.loads(found.json), 1, syntax))
    made = hashlib.sha256(values.tobytes()).hexdigest()
    assert (made == sha) == (name not in NOT_COMPARED)
