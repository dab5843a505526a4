"""Deflated and big endian objects: kept as they came, served in little endian and inflated (PS3.5 A.3, A.5)."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from tests import make

WORDS = np.arange(48, dtype="<u2") * 301
SECRET = bytes(range(256)) * 8


def stored(server: str, syntax: str) -> tuple[str, bytes]:
    """The URL of a three-frame image with a large value in it, and what was sent."""
    pixels = WORDS.astype(">u2") if syntax == ExplicitVRBigEndian else WORDS
    sent = make.instance(syntax, NumberOfFrames=3, PixelData=pixels.tobytes(), ICCProfile=SECRET)
    answer = httpx.post(
        f"{server}/dicom-web/studies", content=sent, headers={"Content-Type": "application/dicom"}
    )
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    return url, sent


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_frames_and_bulk_data_are_little_endian_and_the_original_is_untouched(
    server: str, syntax: str
) -> None:
    """Values of the object are those that were written, whatever order or stream its bytes came in."""
    url, sent = stored(server, syntax)
    octets = {"Accept": "application/octet-stream"}
    for number in (1, 2, 3):
        frame = httpx.get(f"{url}/frames/{number}", headers=octets)
        assert frame.content == WORDS[16 * (number - 1) : 16 * number].tobytes()
    assert httpx.get(f"{url}/bulkdata/7FE00010", headers=octets).content == WORDS.tobytes()
    part = httpx.get(f"{url}/bulkdata/00282000", headers=octets | {"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, SECRET[100:300])
    whole = httpx.get(url, headers={"Accept": "application/dicom"})
    assert whole.content == sent
    assert whole.headers["content-type"] == f"application/dicom; transfer-syntax={syntax}"
    picture = httpx.get(f"{url}/rendered", headers={"Accept": "image/png"})
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
