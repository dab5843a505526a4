"""A video is shown by its poster: whole, small, as JPEG or PNG, or with the reason why it cannot be."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app import render
from app.errors import NotAcceptable, Unavailable
from app.index import Index
from app.index.connection import Connection
from app.pixels.encode import Viewport
from app.pixels.picture import Options
from app.tools import Tools
from tests import make_video
from tests.make_video import Clip
from tests.working import opened, outcome, stored, working


@pytest.fixture
async def tools(index: Index, tmp_path: Path) -> AsyncIterator[Tools]:
    async with opened(index, tmp_path / "store") as tools:
        yield tools


async def test_a_video_is_shown_by_its_poster(tmp_path: Path, tools: Tools) -> None:
    """As it was made where nothing else is asked for; fitted, turned into PNG, at another quality where it is."""
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm"))
    async with working(tools):
        whole = await render.picture(tools, located, 1, Options())
    made = await outcome(tools, located, "poster")
    assert made.size == len(whole)
    for options, expected in (
        (Options(), ("JPEG", (160, 120))),
        (Options(quality=10), ("JPEG", (160, 120))),
        (Options("image/png"), ("PNG", (160, 120))),
        (Options("image/png", viewport=Viewport(80, 80, enlarge=False)), ("PNG", (80, 60))),
        (Options(viewport=Viewport(256, 256, enlarge=False)), ("JPEG", (160, 120))),
    ):
        shown = Image.open(io.BytesIO(await render.picture(tools, located, 1, options)))
        assert (shown.format, shown.size) == expected
    assert len(await render.picture(tools, located, 1, Options(quality=10))) < len(whole) / 2


async def test_other_pictures_of_a_video_are_not_shown_yet(tmp_path: Path, tools: Tools) -> None:
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm"))
    with pytest.raises(NotAcceptable, match="only the first"):
        await render.picture(tools, located, 2, Options())


async def test_a_poster_in_the_making_is_worth_waiting_for(tmp_path: Path, tools: Tools) -> None:
    """For a while; then whoever asks is told to come again."""
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm"))
    with pytest.raises(Unavailable) as caught:
        await render.picture(replace(tools, rendition_wait_s=0.05), located, 1, Options())
    assert caught.value.retry_after_s > 0
    async with working(tools):
        assert await render.picture(tools, located, 1, Options())


async def test_a_video_without_a_poster_says_why(tmp_path: Path, tools: Tools) -> None:
    (tmp_path / "text").write_text("#EXTM3U\n" * 100)
    located = await stored(tools, make_video.wrap(tmp_path / "video.dcm", tmp_path / "text", make_video.H264))
    async with working(tools):
        with pytest.raises(NotAcceptable, match="container is not one that can be decoded"):
            await render.picture(tools, located, 1, Options())


async def test_a_poster_that_nobody_asked_for_is_made(tmp_path: Path, tools: Tools, sql: Connection) -> None:
    """As for a video that an older version stored."""
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm", Clip()))
    await sql.execute("delete from rendition where kind = 'poster'")
    async with working(tools):
        assert await render.picture(tools, located, 1, Options())
