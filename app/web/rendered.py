"""WADO-RS rendered: a picture, or the video as MP4 with byte ranges (PS3.18 8.3.5.1, 8.7.4, 10.4.1.1.3)."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from typing import Final

import orjson
from starlette.datastructures import QueryParams
from starlette.responses import Response

from app import __version__, render, retrieve
from app.dicom import sop_class, transfer_syntax
from app.errors import BadRequest
from app.index.located import Located
from app.pixels import encode
from app.pixels.encode import Viewport
from app.pixels.image import MAX_PIXELS, Function, Window
from app.pixels.picture import Options
from app.render import Video
from app.web import accept
from app.web.accept import Offer
from app.web.bulkdata import INERT
from app.web.extents import ExtentsResponse, UnmadeResponse
from app.web.frames import parse as parse_frames
from app.web.ranges import is_unchanged
from app.web.state import Request, accepted, root
from app.web.wado import VARY, validators

PICTURES: Final = (Offer("image/jpeg"), Offer("image/png"))
DOCUMENT: Final = (Offer("application/pdf"),)
MP4: Final = Offer("video/mp4")
HEVC: Final = Offer("video/h265")
MPEG2: Final = Offer("video/mpeg")
# What may be had of each kind of syntax. An MPEG-2 stream as it is comes only to who asks for it by name: players don't.
VIDEOS: Final = {"video/mp4": (MP4,), "video/H265": (MP4, HEVC), "video/mpeg": (MP4, MPEG2)}
AVC: Final = "avc1"
MOST_WARNINGS: Final = 8
FUNCTIONS: Final = {
    "linear": Function.LINEAR,
    "linear-exact": Function.LINEAR_EXACT,
    "sigmoid": Function.SIGMOID,
}
SMALL: Final = 256


async def instance(request: Request) -> Response:
    """The video, the document, or the instance's first frame."""
    tools, path = request.state["tools"], request.path_params
    found = await retrieve.playable(tools, path["study"], path["series"], path["instance"])
    located, wanted = found.located, accepted(request)
    offer = accept.choose(wanted, _offers(located)).offer
    if offer is MPEG2:
        return await _as_it_is(request, located)
    if offer in {MP4, HEVC}:
        video = await render.video(tools, found)
        offer = accept.choose(wanted, _as_coded(video)).offer
        if offer.media_type.startswith("video/"):
            return _played(request, located, video)
    if offer in DOCUMENT:
        return await _document(request, located)
    return await _picture(request, located, 1, options(request.query_params, offer.media_type))


async def frame(request: Request) -> Response:
    """One frame as a picture."""
    located = await _located(request)
    offer = accept.choose(accepted(request), PICTURES).offer
    return await _picture(request, located, _number(request), options(request.query_params, offer.media_type))


async def thumbnail(request: Request) -> Response:
    """A small picture that stands for a study, a series, an instance or a frame, whatever is accepted."""
    tools, path = request.state["tools"], request.path_params
    if "instance" in path:
        located = await _located(request)
    else:
        located = await retrieve.representative(tools, path["study"], path.get("series"))
    offer = accept.choose(accepted(request), PICTURES, otherwise=PICTURES[0]).offer
    asked = options(request.query_params, offer.media_type, Viewport(SMALL, SMALL, enlarge=False))
    return await _picture(request, located, _number(request) if "frame" in path else 1, asked)


async def _located(request: Request) -> Located:
    path = request.path_params
    return await retrieve.instance(request.state["tools"], path["study"], path["series"], path["instance"])


def _number(request: Request) -> int:
    numbers = parse_frames(request.path_params["frame"])
    if len(numbers) != 1:
        raise BadRequest("One frame is rendered at a time.")
    return numbers[0]


def _offers(located: Located) -> tuple[Offer, ...]:
    syntax = located.transfer_syntax_uid
    if located.sop_class_uid == sop_class.ENCAPSULATED_PDF:
        return DOCUMENT
    videos = VIDEOS[transfer_syntax.media_type(syntax)] if transfer_syntax.is_video(syntax) else ()
    return (*videos, *PICTURES)


def _as_coded(video: Video) -> tuple[Offer, ...]:
    """What may be had of a video, by how its pictures are coded and not by what the data set says."""
    codecs = video.media_type.partition('codecs="')[2].rstrip('"')
    return (replace(MP4, codecs=codecs), HEVC, *PICTURES) if codecs else (replace(MP4, codecs=AVC), *PICTURES)


def _played(request: Request, located: Located, video: Video) -> Response:
    answer = ExtentsResponse(
        request.state["tools"].storage,
        video.extents,
        video.media_type,
        validators=validators(located, video.version),
        headers=VARY,
        stall_s=request.state["policy"].write_timeout_s,
    )
    for text in video.warnings[:MOST_WARNINGS]:
        answer.headers.append("Warning", f'299 {root(request)} "{text}"')
    return answer


async def _as_it_is(request: Request, located: Located) -> Response:
    stream = await render.mpeg(request.state["tools"], located)
    return ExtentsResponse(
        request.state["tools"].storage,
        stream,
        MPEG2.media_type,
        validators=validators(located, "mpeg"),
        headers=VARY,
        stall_s=request.state["policy"].write_timeout_s,
    )


async def stream(request: Request) -> Response:
    """What the instance's video is, and where the data set says otherwise."""
    accept.choose(accepted(request), (JSON,))
    described = await render.described(request.state["tools"], await _located(request))
    return Response(orjson.dumps(described), headers=VARY | UNKEPT, media_type=JSON.media_type)


JSON: Final = Offer("application/json")
UNKEPT: Final = {"Cache-Control": "private, no-cache"}


async def _document(request: Request, located: Located) -> Response:
    tools = request.state["tools"]
    return ExtentsResponse(
        tools.storage,
        await render.document(tools, located),
        DOCUMENT[0].content_type,
        validators=validators(located, "document"),
        headers=INERT | {"Content-Disposition": f'inline; filename="{located.sop_instance_uid}.pdf"'},
        stall_s=request.state["policy"].write_timeout_s,
    )


async def _picture(request: Request, located: Located, number: int, asked: Options) -> Response:
    tools = request.state["tools"]
    version = sha256(f"{__version__} {number} {asked}".encode()).hexdigest()[:16]
    tag = validators(located, version)
    if request.method == "HEAD" or is_unchanged(request.headers, tag):
        await render.source(tools, located, number)
        return UnmadeResponse(asked.media_type, validators=tag, headers=VARY)
    data = await render.picture(tools, located, number, asked)
    return ExtentsResponse(tools.storage, data, asked.media_type, validators=tag, headers=VARY)


def options(query: QueryParams, media_type: str, viewport: Viewport | None = None) -> Options:
    """The rendering that the parameters ask for; raises BadRequest that names the one that is wrong."""
    return Options(media_type, _quality(query), _window(query), _viewport(query) or viewport)


def _quality(query: QueryParams) -> int | None:
    text = query.get("quality")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= 100):
        raise BadRequest("quality is a number from 1 to 100.")
    return int(text)


def _window(query: QueryParams) -> Window | None:
    text = query.get("window")
    if text is None:
        return None
    words = [*text.split(","), "linear"]
    try:
        window = Window(_decimal(words[0]), _decimal(words[1]), FUNCTIONS[words[2].lower().replace("_", "-")])
    except (ValueError, LookupError):
        raise BadRequest(WINDOW) from None
    if len(words) > 4 or not window.valid:
        raise BadRequest(WINDOW)
    return window


WINDOW: Final = "window is center,width or center,width,function with linear, linear-exact or sigmoid."


def _decimal(text: str) -> float:
    """A finite number in its plainest form; raises ValueError."""
    if not DECIMAL.fullmatch(text):
        raise ValueError(text)
    return float(text)


DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{0,15})?")


def _viewport(query: QueryParams) -> Viewport | None:
    text = query.get("viewport")
    if text is None:
        return None
    words = text.split(",")
    try:
        width, height = _decimal(words[0]), _decimal(words[1])
        source = [_decimal(word) if word.strip() else None for word in words[2:]]
    except (ValueError, IndexError):
        raise BadRequest(VIEWPORT) from None
    x, y, source_width, source_height, *more = source + [None] * (4 - len(source))
    fits = all(1 <= side <= encode.MAX_SIDE and side.is_integer() for side in (width, height))
    if more or not fits or width * height > MAX_PIXELS or 0 in {source_width, source_height}:
        raise BadRequest(VIEWPORT)
    return Viewport(int(width), int(height), x or 0, y or 0, source_width, source_height)


VIEWPORT: Final = (
    "viewport is width,height in pixels, and the part of the frame that is shown: x,y,width,height."
)
