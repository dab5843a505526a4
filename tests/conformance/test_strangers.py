"""What strangers stored, in Chromium: a PDF is seen, and nothing that was stored acts under our name."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image
from playwright.async_api import Error, Page

from tests import browser, make
from tests.conformance import videos

pytestmark = pytest.mark.browser

PDF = "1.2.840.10008.5.1.4.1.1.104.1"
CDA = "1.2.840.10008.5.1.4.1.1.104.2"
MARK = "ran-under-our-name"
SCRIPT = f"new Image().src = 'http://localhost/{MARK}';"
PAGE = f"<!doctype html><html><body><script>{SCRIPT}</script><img src=x onerror='{SCRIPT.replace(chr(39), '`')}'>"
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" onload="{SCRIPT}"><script>{SCRIPT}</script></svg>'
LOOKS = 100
SCRIPTS = [
    (PAGE, CDA, "text/html"),
    (PAGE, CDA, "text/xml"),
    (SVG, CDA, "image/svg+xml"),
    (PAGE, PDF, "application/pdf"),
    (PAGE, PDF, "text/html"),
]


def green_page() -> bytes:
    """A PDF of one page, all green."""
    drawing = "0 0.6 0 rg 0 0 400 300 re f"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 300] /Contents 4 0 R >>",
        f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream",
    ]
    made, table = "%PDF-1.7\n", "0000000000 65535 f \n"
    for number, content in enumerate(objects, 1):
        table += f"{len(made):010} 00000 n \n"
        made += f"{number} 0 obj\n{content}\nendobj\n"
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(made)}\n%%EOF\n"
    return f"{made}xref\n0 {len(objects) + 1}\n{table}{trailer}".encode()


async def stored(
    server: str, content: bytes, sop_class: str = PDF, media_type: str = "application/pdf"
) -> str:
    """The address of an encapsulated document."""
    without: dict[str, Any] = {"PixelData": None, "Rows": None, "Columns": None, "Modality": "DOC"}
    data = make.instance(
        SOPClassUID=sop_class,
        MIMETypeOfEncapsulatedDocument=media_type,
        EncapsulatedDocument=content + bytes(len(content) % 2),
        EncapsulatedDocumentLength=len(content),
        **without,
    )
    return await asyncio.to_thread(videos.sent, server, data)


async def greenness(page: Page) -> float:
    """How much of what is seen is green."""
    picture = Image.open(io.BytesIO(await page.screenshot())).convert("RGB").resize((64, 48))
    pixels = [picture.getpixel((x, y)) for x in range(64) for y in range(48)]
    return sum(isinstance(one, tuple) and one[1] > 130 > 2 * max(one[0], one[2]) for one in pixels) / len(
        pixels
    )


@contextmanager
def viewer(address: str, element: str) -> Iterator[str]:
    """A page of another origin that embeds the address; without an element the address itself.

    A real server: Chromium lets no page that it had from nowhere reach this machine.
    """
    source = "data" if element == "object" else "src"
    page = f'<{element} {source}="{address}" width="600" height="440"></{element}>'.encode()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    if not element:
        yield address
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()


@pytest.mark.parametrize("element", ["", "object", "iframe"])
async def test_a_stored_pdf_is_seen(server: str, element: str) -> None:
    """By its address, and in a viewer's page of another origin, as OHIF shows it: the sandbox is no hindrance."""
    address = f"{await stored(server, green_page())}/rendered"
    async with browser.chromium() as chromium:
        page = await chromium.new_page(viewport={"width": 640, "height": 480})
        with viewer(address, element) as here:
            await page.goto(here)
            for _ in range(LOOKS):
                if await greenness(page) > 0.1:
                    return
                await page.wait_for_timeout(200)
    pytest.fail("Chromium shows no page of the PDF.")


@pytest.mark.parametrize("element", ["", "object", "iframe"])
async def test_a_stored_script_does_not_run(server: str, element: str) -> None:
    """Opened or embedded, as bulk data and rendered, whatever its MIME type says: it is no page of ours."""
    wrong: list[str] = []
    async with browser.chromium() as chromium:
        page = await chromium.new_page()
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: wrong.append(request.url) if MARK in request.url else None)
        for content, sop_class, media_type in SCRIPTS:
            url = await stored(server, content.encode(), sop_class, media_type)
            for resource in ("bulkdata/00420011", "rendered"):
                with (
                    viewer(f"{url}/{resource}", element) as here,
                    suppress(Error),
                ):  # a download ends the visit
                    await page.goto(here)
                await page.wait_for_timeout(300)
        assert not wrong
        async with page.expect_request(lambda request: MARK in request.url):  # a script that runs is seen
            await page.goto(f"data:text/html,{quote(PAGE)}")
