"""A data set that says otherwise than its stream is heard, and one that is right is left alone."""

from __future__ import annotations

import time
from typing import Any

import pytest

from app.video import agreement

ATTRIBUTES: dict[str, Any] = {
    "00280010": {"vr": "US", "Value": [1080]},
    "00280011": {"vr": "US", "Value": [1920]},
    "00280008": {"vr": "IS", "Value": [300]},
    "00280004": {"vr": "CS", "Value": ["YBR_PARTIAL_420"]},
    "00280101": {"vr": "US", "Value": [8]},
    "00181063": {"vr": "DS", "Value": [33.37]},
    "00180040": {"vr": "IS", "Value": [30]},
}
DESCRIBED: dict[str, Any] = {
    "container": "ts",
    "codec": "h264",
    "profile": "High",
    "level": 41,
    "width": 1920,
    "height": 1080,
    "pixel_format": "yuv420p",
    "rate": "30000/1001",
    "samples": 300,
    "sound": {"codec": "aac", "samples_per_s": 48000, "channels": 2},
}
ROOT = "1.2.840.10008.1.2.4."


def warned(syntax: str = "102", fragments: int = 1, told: Any = None, **found: Any) -> list[str]:
    return agreement.warnings(ATTRIBUTES | (told or {}), ROOT + syntax, DESCRIBED | found, fragments)


def one(value: Any) -> dict[str, Any]:
    return {"vr": "IS", "Value": [value]}


@pytest.mark.parametrize(
    ("syntax", "found"),
    [
        *((f"{number}{form}", {}) for number in range(102, 107) for form in ("", ".1")),
        *((f"{number}{form}", {"codec": "mpeg2video"}) for number in (100, 101) for form in ("", ".1")),
        ("107", {"codec": "hevc", "profile": "Main", "level": 153}),
        ("108", {"codec": "hevc", "profile": "Main 10", "level": 153}),
    ],
)
def test_what_agrees_is_no_news(syntax: str, found: dict[str, Any]) -> None:
    """In every video syntax of PS3.5, fragmentable or not."""
    assert warned(syntax, **found) == []


def test_a_data_set_that_says_little_is_no_news() -> None:
    assert agreement.warnings({}, ROOT + "102", DESCRIBED, 1) == []
    assert agreement.warnings({}, ROOT + "102", DESCRIBED | {"rate": None, "pixel_format": None}, 1) == []


@pytest.mark.parametrize("tag", list(ATTRIBUTES))
@pytest.mark.parametrize("value", ["", "x", None, -1, 0, 1e400, [], {}, "1/0"])
def test_nonsense_is_no_error(tag: str, value: Any) -> None:
    """Whatever stands in an attribute: it was never checked."""
    warned(told={tag: one(value)})
    warned(told={tag: {"vr": "XX"}})
    warned(told={tag: {"vr": "XX", "Value": []}})


@pytest.mark.parametrize(
    ("sentence", "arguments"),
    [
        ("which is HEVC", {"codec": "hevc"}),
        ("which is MPEG-2", {"codec": "mpeg2video"}),
        ("higher than 4.1", {"level": 42}),
        ("higher than 4.2", {"level": 50, "syntax": "104"}),
        ("profile High 10 is none", {"profile": "High 10"}),
        ("profile Main 10 is none", {"codec": "hevc", "profile": "Main 10", "syntax": "107", "level": 120}),
        ("neither a transport stream nor an MP4", {"container": "annexb"}),
        ("in 3 fragments", {"fragments": 3}),
        ("Rows is 1080, the stream's height 1088.", {"height": 1088}),
        ("Columns is 1920, the stream's width 720.", {"width": 720}),
        ("NumberOfFrames is 300, the stream has 299.", {"samples": 299}),
        ("FrameTime is 33.37 ms, the stream's 40 ms.", {"rate": "25"}),
        ("CineRate is 30, the stream has 25 pictures", {"rate": "25"}),
        ("RecommendedDisplayFrameRate is 60", {"told": {"00082144": one(60)}}),
        ("PhotometricInterpretation is not", {"told": {"00280004": one("RGB")}}),
        ("colours are yuv422p", {"pixel_format": "yuv422p"}),
        ("BitsStored is 8, the stream's samples have 10 bits.", {"pixel_format": "yuv420p10le"}),
        ("The sound is mp2", {"sound": {"codec": "mp2"}}),
    ],
)
def test_each_disagreement_is_one_sentence(sentence: str, arguments: dict[str, Any]) -> None:
    found = warned(**arguments)
    assert any(sentence in text for text in found), found
    assert all(text.isascii() and '"' not in text and text.endswith(".") for text in found)


@pytest.mark.parametrize("value", ["1e9999999", "1e-9999999", "-1e9999999", "1/3", "inf", "nan", 10**400])
@pytest.mark.parametrize("tag", ["00280010", "00280008", "00181063", "00180040", "00280101"])
def test_a_number_that_nobody_can_mean_is_passed_over_at_once(tag: str, value: Any) -> None:
    """Whatever stands in a decimal string costs no time, and is no news."""
    started = time.thread_time()
    assert warned(told={tag: one(value)}) == []
    assert time.thread_time() - started < 0.5
