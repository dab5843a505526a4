"""Debian's chromium, driven through playwright: plays a video as a page does and tells what it asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Response, async_playwright

CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# The page notes what happens; the test asks for it.
_PAGE = """<!doctype html><meta charset="utf-8"><title>player</title>
<link rel="icon" href="data:,">
<video id="video" muted playsinline preload="auto"></video>
<script>
const video = document.getElementById("video");
const once = (...names) => new Promise(resolve => names.forEach(
    name => video.addEventListener(name, () => resolve(name), {once: true})));
const state = () => ({
    error: video.error ? `${video.error.code} ${video.error.message}` : video.videoWidth ? "" : "no pictures",
    position: video.currentTime, duration: video.duration,
    width: video.videoWidth, height: video.videoHeight,
});
async function start(source) {
    const outcome = once("playing", "error");
    video.src = source;
    video.play().catch(() => {});
    if (await outcome === "playing")
        while (video.currentTime === 0 && !video.error) await new Promise(requestAnimationFrame);
    return state();
}
async function seek(fraction) {
    const outcome = once("seeked", "error");
    video.currentTime = fraction * video.duration;
    await outcome;
    return state();
}
</script>"""


@dataclass(frozen=True)
class Asked:
    """One request for the video and how it was answered."""

    range: str
    status: int
    content_range: str

    @property
    def start(self) -> int:
        """The first byte asked for."""
        return int(self.range.removeprefix("bytes=").split("-")[0] or 0) if self.range else 0


@dataclass
class Player:
    """A page of its own with one video; `asked` grows while it plays."""

    page: Page
    source: str
    asked: list[Asked] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def play(self) -> dict[str, Any]:
        """Plays from the start until pictures move, or until the browser gives up (`error`, else '')."""
        self.state = await self.page.evaluate("source => start(source)", self.source)
        return self.state

    async def seek(self, fraction: float) -> dict[str, Any]:
        """Jumps to a fraction of the duration and waits for the picture there."""
        self.state = await self.page.evaluate("fraction => seek(fraction)", fraction)
        return self.state

    async def _note(self, response: Response) -> None:
        async with self._turn:  # noted in the order in which they came
            headers = await response.request.all_headers()
            content_range = response.headers.get("content-range", "")
            self.asked.append(Asked(headers.get("range", ""), response.status, content_range))


def _require() -> None:
    if CHROMIUM.exists():
        return
    missing = f"{CHROMIUM} is not installed: apt-get install chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser with a fresh profile. Without chromium the test is skipped at a desk, and fails in CI."""
    _require()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def player(browser: Browser, origin: str, source: str, timeout_s: float = 30) -> AsyncIterator[Player]:
    """A page on `origin` whose video is `source`, an address on any origin."""
    page = await browser.new_page()
    page.set_default_timeout(timeout_s * 1000)
    made = Player(page, source)

    async def note(response: Response) -> None:
        if response.url == source:
            await made._note(response)

    page.on("response", note)
    address = f"{origin}/player-of-the-test"
    await page.route(address, lambda route: route.fulfill(body=_PAGE, content_type="text/html"), times=1)
    try:
        await page.goto(address)
        yield made
    finally:
        await page.close()


async def played(
    browser: Browser, origin: str, source: str, seeks: Sequence[float] = ()
) -> tuple[dict[str, Any], list[Asked]]:
    """Plays and seeks; the last state, and every request for the video in order."""
    async with player(browser, origin, source) as made:
        state = await made.play()
        for fraction in seeks:
            state = await made.seek(fraction) if not state["error"] else state
        async with asyncio.timeout(60):  # the browser shows the picture before it tells of the request
            while not made.asked:  # noqa: ASYNC110 - playwright tells by a list
                await asyncio.sleep(0.05)
        return state, made.asked
