"""Chromium plays what was stored through STOW-RS from /rendered, and seeks in it by ranges (PS3.18 8.7.4)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests import browser, make_video
from tests.conformance import videos
from tests.make_video import Clip

pytestmark = pytest.mark.browser

LARGE = 120_000_000  # at a rate at which a tenth of it is more than the ten seconds that Chromium reads ahead
FRAGMENT = 32 << 20


@pytest.mark.timeout(300)
async def test_every_video_plays(server: str, tmp_path: Path) -> None:
    """Pictures of the right size move, to the end that was asked for, without an error."""
    async with browser.chromium() as chromium:
        for name in [*videos.NAMES, *videos.BARE]:
            path = await asyncio.to_thread(videos.file, name, tmp_path)
            address = await asyncio.to_thread(videos.playable, server, path)
            state, asked = await browser.played(chromium, server, f"{address}/rendered", [0.5])
            width, height = videos.size(path)
            assert not state["error"], name
            assert (state["width"], state["height"]) == (width, height), name
            assert state["position"] == pytest.approx(state["duration"] * 0.5, abs=1), name
            assert {one.status for one in asked} == {206}, name


async def test_seeking_in_a_large_video_asks_for_the_bytes_there(server: str, tmp_path: Path) -> None:
    """To 90 % and back to 10 %: each jump is a request that starts further in, answered 206 from there."""
    clip = Clip(sound="aac", width=640, height=480, kilobits=4000, gop=24)
    unit = make_video.stream(tmp_path / "unit", clip).stat().st_size
    large = make_video.instance(tmp_path / "large.dcm", clip, times=LARGE // unit, fragment_size=FRAGMENT)
    assert large.length > LARGE / 2
    assert len(large.fragments) > 2
    source = f"{await asyncio.to_thread(videos.playable, server, large.path)}/rendered"
    async with browser.chromium() as chromium, browser.player(chromium, server, source) as player:
        assert not (await player.play())["error"]
        for fraction in (0.9, 0.1):
            state = await player.seek(fraction)
            assert not state["error"]
            assert state["position"] == pytest.approx(state["duration"] * fraction, abs=1)
            async with asyncio.timeout(60):  # the browser shows the picture before it tells of the request
                while not any(abs(one.start / large.length - fraction) < 0.05 for one in player.asked[1:]):  # noqa: ASYNC110 - playwright tells by a list
                    await asyncio.sleep(0.05)
    assert player.asked[0].start == 0
    assert all(one.start > 0 for one in player.asked[1:])
    for one in player.asked:
        assert (one.status, one.content_range.partition("-")[0]) == (206, f"bytes {one.start}")
