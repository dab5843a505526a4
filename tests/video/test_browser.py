"""What no decoder library can prove: Chromium plays the virtual file, and seeks in it by ranges."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests import browser, make_video
from tests.make_video import Clip
from tests.video.serving import serving
from tests.video.virtual import Sparse, virtual


async def answer(path: Path) -> tuple[bytes, str]:
    plan, file = await virtual(Sparse([(0, await asyncio.to_thread(path.read_bytes))]))
    return file.range(0, file.extents.length), plan.media_type


@pytest.mark.browser
async def test_chromium_plays_and_seeks(tmp_path: Path) -> None:
    """Pictures move, also beside sound that it does not know; seeking asks for the bytes there, and they come."""
    large = Clip(width=640, height=480, kilobits=8000, sound="aac", gop=24)
    files = {
        "aac": await answer(make_video.stream(tmp_path / "aac", Clip(sound="aac"), times=2)),
        "quicktime": await answer(make_video.stream(tmp_path / "mov", Clip(sound="aac"), "mov", times=2)),
        "ac3": await answer(make_video.stream(tmp_path / "ac3", Clip(sound="ac3"), times=2)),
        "pcm": await answer(make_video.stream(tmp_path / "pcm", Clip(sound="pcm_s16le"), "mov", times=2)),
        "large": await answer(make_video.stream(tmp_path / "large", large, times=24)),
    }
    async with serving(files) as origin, browser.chromium() as chromium:
        for name in files:
            state, asked = await browser.played(chromium, origin, f"{origin}/{name}", [0.9, 0.5])
            assert not state["error"], name
            assert state["position"] == pytest.approx(state["duration"] * 0.5, abs=1)
            assert {one.status for one in asked} == {206}
        assert (state["width"], state["height"]) == (640, 480)
        assert state["duration"] == pytest.approx(24 * 1.92, abs=0.1)
        jumps = [one.start / len(files["large"][0]) for one in asked if one.start]
        assert max(jumps) > 0.8
        assert any(0.3 < jump < 0.7 for jump in jumps)


@pytest.mark.browser
async def test_chromium_says_what_it_cannot_play(tmp_path: Path) -> None:
    """The player tells an error from silence, and sound alone from a video: Debian's chromium has no HEVC."""
    files = {
        "hevc": await answer(make_video.stream(tmp_path / "hevc", Clip("hevc"))),
        "heard": await answer(make_video.stream(tmp_path / "heard", Clip("hevc", sound="aac"))),
    }
    async with serving(files) as origin, browser.chromium() as chromium:
        state, _ = await browser.played(chromium, origin, f"{origin}/hevc", [0.5])
        assert "no supported streams" in state["error"]
        state, _ = await browser.played(chromium, origin, f"{origin}/heard")
        assert state["error"] == "no pictures"
