"""The page at / in Chromium, as a newcomer meets it: store, find, look, play; nothing of it runs a stranger's name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import ConsoleMessage, Page, Request, Route, expect

from app.settings import Settings
from tests import browser, cluster, make, make_video
from tests.conformance import videos
from tests.make_video import Clip
from tests.running import running

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)  # as long as a busy machine may take

HOSTILE = "<img src=x onerror=alert(1)>"
WIDE, NARROW = 1200, 375
_PLAYED = "async video => { while (video.currentTime < 0.2) await new Promise(requestAnimationFrame); }"
_MADE = re.compile(r"/(rendered|thumbnail)(\?|$)")
_WATCH = (
    """addEventListener('securitypolicyviolation', event => console.error('CSP', event.violatedDirective));"""
)


@dataclass
class Seen:
    """A page, and what must not happen on it; that something is still being made may."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def console(self, message: ConsoleMessage) -> None:
        is_made = not ("status of 503" in message.text and _MADE.search(message.location["url"]))
        if message.type in {"error", "warning"} and is_made:
            self.wrong.append(f"{message.type}: {message.text}")

    async def fits(self) -> bool:
        """Whether nothing sticks out to the right."""
        width: int = await self.page.evaluate("document.documentElement.scrollWidth")
        return width <= (self.page.viewport_size or {"width": 0})["width"]


@asynccontextmanager
async def opened(server: str, width: int = WIDE, fragment: str = "") -> AsyncIterator[Seen]:
    """The page; at the end: no error, no violation of its policy, no dialogue, nothing from elsewhere."""
    async with browser.chromium() as chromium:
        page = await chromium.new_page(viewport={"width": width, "height": 800})
        seen = Seen(page)

        def request(asked: Request) -> None:
            if not asked.url.startswith((f"{server}/", "data:")):
                seen.wrong.append(f"fetched {asked.url}")

        page.on("console", seen.console)
        page.on("pageerror", lambda error: seen.wrong.append(f"thrown: {error}"))
        page.on("dialog", lambda dialog: seen.wrong.append(f"dialogue: {dialog.message}"))
        page.on("request", request)
        await page.add_init_script(_WATCH)
        await page.goto(f"{server}/{fragment}")
        yield seen
        assert not seen.wrong


def study(folder: Path) -> tuple[str, list[Path]]:
    """A study with a picture, a multi-frame, a report and a video, each in its series."""
    uid = make.uid()
    common: dict[str, Any] = {"StudyInstanceUID": uid, "PatientName": "Roe^Richard", "PatientID": "PAGE-1"}
    common |= {"StudyDescription": HOSTILE, "StudyDate": "20261123"}
    without: dict[str, Any] = {"PixelData": None, "Rows": None, "Columns": None}
    frames: dict[str, Any] = {"NumberOfFrames": 3, "PixelData": bytes(range(96))}
    files = {
        "ct": make.instance(**common, SeriesDescription="Axial"),
        "mr": make.instance(**common, **frames, Modality="MR", SeriesNumber=2, SeriesDescription=HOSTILE),
        "sr": make.instance(**common, **without, Modality="SR", SeriesNumber=3),
    }
    for name, data in files.items():
        (folder / f"{name}.dcm").write_bytes(data)
    clip = Clip(sound="aac", width=320, height=240)
    video = make_video.instance(folder / "es.dcm", clip, times=3, **common, SeriesNumber=4)
    return uid, [*(folder / f"{name}.dcm" for name in files), video.path]


@pytest.fixture
def empty(postgresql: str, worker_id: str, tmp_path: Path) -> Iterator[str]:
    """The address of a server in which nothing is stored yet."""
    database = cluster.database(postgresql, f"reelweb_empty_{worker_id}")
    with running(Settings(database_url=database, data_dir=tmp_path / "data")) as address:
        yield address


async def test_it_begins_empty_and_fills_by_upload(empty: str, tmp_path: Path) -> None:
    """A curl line for the empty archive; a file chosen is stored and listed; one refused is named with a reason."""
    uid, files = study(tmp_path)
    bad = tmp_path / "notes.txt"
    bad.write_text("no DICOM" * 99)
    async with opened(empty) as seen:
        page = seen.page
        await expect(page.locator("pre")).to_contain_text(
            f"--data-binary @FILE.dcm {empty}/dicom-web/studies"
        )
        await page.set_input_files("#files", files)
        await expect(page.get_by_role("status")).to_contain_text("4 of 4 files stored.")
        row = page.get_by_role("row").filter(has_text="Roe, Richard")
        for text in ("PAGE-1", "2026-11-23", "CT ES MR SR", HOSTILE):
            await expect(row).to_contain_text(text)
        await page.get_by_role("link", name="Open the study").click()
        await expect(page.get_by_role("heading", level=2)).to_have_text("Roe, Richard")
        assert page.url.endswith(f"#studies/{uid}")
        assert not seen.wrong
        await page.set_input_files("#files", bad)
        status = page.get_by_role("status")
        await expect(status).to_have_text("0 of 1 file stored.\nnotes.txt: it cannot be read as DICOM")
        assert all("409" in text for text in seen.wrong)  # the browser itself reports the refusal
        seen.wrong.clear()


@pytest.mark.parametrize("width", [WIDE, NARROW])
async def test_a_study_is_looked_at_and_played(server: str, tmp_path: Path, width: int) -> None:
    """By keyboard from the list: series in order, pictures that loaded, a video that runs, and back."""
    _uid, files = study(tmp_path)
    for file in files[:-1]:
        await asyncio.to_thread(videos.store, server, file)
    await asyncio.to_thread(videos.playable, server, files[-1])
    async with opened(server, width) as seen:
        page = seen.page
        await page.get_by_role("link", name="Roe, Richard").first.focus()
        assert await seen.fits()
        await page.keyboard.press("Enter")
        headings = page.get_by_role("heading", level=3)
        await expect(headings).to_have_text(
            [r"CTAxial1 instance", f"MR{HOSTILE}1 instance", "SRSeries 31 instance", "ESSeries 41 instance"]
        )
        await expect(page.locator("figcaption").nth(1)).to_contain_text("3 frames")
        await expect(page.locator("figure").nth(2)).to_contain_text("No picture")
        for picture in await page.locator("img").all():
            await picture.scroll_into_view_if_needed()
            assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert await page.locator("img").count() == 2
        await page.locator("video").evaluate("video => { video.muted = true; return video.play(); }")
        await page.locator("video").evaluate(_PLAYED)
        assert await page.locator("video").evaluate("video => video.videoWidth") == 320
        assert await seen.fits()
        await page.get_by_role("link", name="All studies").click()
        await expect(page.get_by_role("heading", level=2)).to_have_text("Newest studies")


@pytest.mark.parametrize("width", [WIDE, NARROW])
async def test_the_contract_is_read_from_the_page(server: str, width: int) -> None:
    """One link away; an entry opens by keyboard, and by its address; nothing sticks out of a narrow screen."""
    async with opened(server, width) as seen:
        page = seen.page
        await page.get_by_role("link", name="Docs").click()
        await expect(page.get_by_role("heading", level=2)).to_contain_text("DICOMweb")
        entry = page.locator("details").filter(has_text="Search for studies")
        await entry.locator("summary").focus()
        await page.keyboard.press("Enter")
        await expect(entry.get_by_text("fuzzymatching", exact=True)).to_be_visible()
        await page.goto(f"{server}/docs#renderInstance")
        await page.reload()
        for told in (page.locator("#renderInstance dd").first, page.locator("#renderInstance .s4").first):
            await expect(told).to_be_visible()
        await page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert await seen.fits()


async def test_names_and_what_is_missing_are_shown_as_text(server: str) -> None:
    """A name is nobody's markup, its parts are readable, and what is empty says so."""
    names = {
        HOSTILE: "<img src",
        "<b>Doe</b>^'\"&": "<b>Doe</b>, '\"&",
        "Roe^Ann^Mary^Dr^PhD": "Roe, Dr Ann Mary, PhD",
    }
    for name in names:
        await _stored(server, make.instance(PatientName=name))
    await _stored(server, make.instance(PatientName="", PatientID=HOSTILE, StudyDate="", Modality=""))
    async with opened(server) as seen:
        for text in [*names.values(), "No name"]:
            await expect(seen.page.get_by_role("link", name=text, exact=True)).to_have_text(text)
        row = seen.page.get_by_role("row").filter(has_text="No name")
        await expect(row).to_have_text(f"No name{HOSTILE}–––1 instance")
        assert await seen.page.locator("main img, main b").count() == 0


async def test_what_cannot_be_shown_says_why(server: str, tmp_path: Path) -> None:
    """An unknown study, a video that this browser does not play and one that none plays."""
    common: dict[str, Any] = {"StudyInstanceUID": make.uid()}
    hevc = make_video.instance(tmp_path / "hevc.dcm", Clip("hevc"), **common)
    stream = make_video.instance(tmp_path / "ts.dcm", Clip("mpeg2video", bframes=0), "ts", **common)
    for made in (hevc, stream):
        await asyncio.to_thread(videos.playable, server, made.path)
    async with opened(server, fragment="#studies/1.2.3") as seen:
        await expect(seen.page.get_by_role("status")).to_have_text("There is no such study here.")
        await seen.page.goto(f"{server}/#studies/{hevc.study_instance_uid}")
        told = seen.page.locator(".nothing")
        await expect(told).to_contain_text(["This browser does not play video/mp4", "MPEG-2"])
        assert all("406" in text for text in seen.wrong)
        seen.wrong.clear()


async def test_a_video_that_was_being_made_is_played(server: str, tmp_path: Path) -> None:
    """Also when it is there by the time that the page asks why it was not."""
    made = make_video.instance(tmp_path / "es.dcm", Clip(width=320, height=240))
    await asyncio.to_thread(videos.playable, server, made.path)
    async with opened(server) as seen:
        making = {"status": 503, "headers": {"Retry-After": "1"}, "body": ""}
        await seen.page.route("**/rendered", lambda route: route.fulfill(**making), times=1)
        await seen.page.goto(f"{server}/#studies/{made.study_instance_uid}")
        player = seen.page.locator("video")
        await expect(player).to_have_js_property("videoWidth", 320)
        assert await seen.page.locator(".nothing").count() == 0


async def test_a_picture_that_could_not_be_made_yet_is_asked_for_again(server: str) -> None:
    """Of many at a time some are told to come back; one that cannot be made is not asked for on and on."""
    common = {"StudyInstanceUID": make.uid(), "SeriesInstanceUID": make.uid()}
    await _stored(server, make.instance(**common, Rows=8, Columns=8, PixelData=bytes(128)))
    async with opened(server) as seen:
        busy = {"status": 503, "headers": {"Retry-After": "1"}, "body": ""}
        await seen.page.route("**/thumbnail", lambda route: route.fulfill(**busy), times=2)
        await seen.page.goto(f"{server}/#studies/{common['StudyInstanceUID']}")
        image = seen.page.locator("main img")
        await expect(image).to_have_js_property("naturalWidth", 8)
        # While a server starts anew nobody answers.
        await seen.page.route("**/thumbnail", lambda route: route.abort(), times=2)
        await seen.page.reload()
        await expect(image).to_have_js_property("naturalWidth", 8)
        assert all("ERR_FAILED" in text for text in seen.wrong)  # the browser itself reports it
        seen.wrong.clear()
        broken = {"status": 200, "headers": {"Content-Type": "image/jpeg"}, "body": "no picture"}
        await seen.page.route("**/thumbnail", lambda route: route.fulfill(**broken))
        await seen.page.reload()
        await expect(seen.page.locator(".nothing")).to_have_text("No picture can be made of this instance")


@pytest.mark.parametrize(
    "told", [{}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}], ids=["nothing", "a date"]
)
async def test_who_does_not_say_how_long_it_takes_is_not_asked_on_and_on(
    server: str, tmp_path: Path, told: dict[str, str]
) -> None:
    """A proxy whose server is away, say."""
    made = make_video.instance(tmp_path / "es.dcm", Clip(width=320, height=240))
    await asyncio.to_thread(videos.playable, server, made.path)
    asked = list[str]()
    async with opened(server) as seen:

        async def away(route: Route) -> None:
            asked.append(route.request.url)
            await route.fulfill(status=503, headers=told, body="")

        await seen.page.route("**/rendered", away)
        await seen.page.goto(f"{server}/#studies/{made.study_instance_uid}")
        await seen.page.wait_for_timeout(3000)
        assert 1 < len(asked) < 10
        await seen.page.unroute("**/rendered")
        await expect(seen.page.locator("video")).to_have_js_property("videoWidth", 320)


async def test_more_is_shown_when_asked_for(server: str) -> None:
    """A long series begins with some of its pictures; the rest comes by a button that goes when all are there."""
    common = {"StudyInstanceUID": make.uid(), "SeriesInstanceUID": make.uid()}
    stored = (_stored(server, make.instance(**common, InstanceNumber=number)) for number in range(30))
    await asyncio.gather(*stored)
    async with opened(server, fragment=f"#studies/{common['StudyInstanceUID']}") as seen:
        await seen.page.get_by_role("button", name="Show more (24 of 30)").click()
        await expect(seen.page.locator("figure")).to_have_count(30)
        await expect(seen.page.get_by_role("button", name="Show more")).to_have_count(0)


async def _stored(server: str, data: bytes) -> None:
    await asyncio.to_thread(videos.sent, server, data)
