"""WADO-RS frames, as stored or decoded (PS3.18 10.4.1.1.6, 8.7.3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Final

from starlette.responses import Response

from app import render, retrieve
from app.dicom import transfer_syntax
from app.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from app.errors import BadRequest
from app.index.located import Located
from app.web import accept
from app.web.accept import Offer
from app.web.extents import ExtentsResponse, MultipartResponse, Part
from app.web.state import Request, accepted, root
from app.web.wado import VARY, url, validators

OCTETS: Final = "application/octet-stream"
MOST: Final = 10_000  # frame numbers in one request


async def frames(request: Request) -> Response:
    """The frames of the path, in its order."""
    numbers = parse(request.path_params["frames"])
    tools, path = request.state["tools"], request.path_params
    located = await retrieve.instance(tools, path["study"], path["series"], path["instance"])
    stored = await retrieve.frames(tools, located, numbers)
    choice = accept.choose(accepted(request), _offers(located, len(numbers)))
    offer = choice.offer
    aligned = (await retrieve.pixels(tools, located)).frame_bits % 8 == 0
    parts: Sequence[Part] | AsyncGenerator[Part]
    here = url(root(request), located)
    if offer.transfer_syntax == _stored_syntax(located) and aligned:
        parts = [
            Part(offer.content_type, body, f"{here}/frames/{number}")
            for number, body in zip(numbers, stored, strict=True)
        ]
    else:
        parts = _decoded(request, located, offer, numbers)
    stall_s = request.state["policy"].write_timeout_s
    if offer.multipart:
        return MultipartResponse(tools.storage, offer.media_type, parts, headers=VARY, stall_s=stall_s)
    part = parts[0] if isinstance(parts, Sequence) else await anext(parts)
    tag = validators(located, f"{numbers[0]}-{offer.transfer_syntax.rpartition('.')[2]}")
    return ExtentsResponse(
        tools.storage, part.body, offer.content_type, validators=tag, headers=VARY, stall_s=stall_s
    )


async def _decoded(
    request: Request, located: Located, offer: Offer, numbers: Sequence[int]
) -> AsyncGenerator[Part]:
    """One frame at a time: only one is held."""
    here = url(root(request), located)
    for number in numbers:
        data = await render.decoded(request.state["tools"], located, number)
        yield Part(offer.content_type, data, f"{here}/frames/{number}")


def parse(text: str) -> list[int]:
    """Frame numbers from 1, separated by commas; raises BadRequest."""
    words = text.split(",")
    if len(words) > MOST or not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise BadRequest("Frames are asked for by numbers from 1, separated by commas.")
    numbers = [int(word) for word in words]
    if 0 in numbers:
        raise BadRequest("Frames are numbered from 1.")
    return numbers


def _stored_syntax(located: Located) -> str:
    """Frames that are not encapsulated are little endian whatever the data set was written in."""
    syntax = located.transfer_syntax_uid
    return syntax if transfer_syntax.is_encapsulated(syntax) else EXPLICIT_VR_LITTLE_ENDIAN


def _offers(located: Located, count: int) -> list[Offer]:
    """As stored first; decoded for those who ask for bytes that need no decoder."""
    syntax = _stored_syntax(located)
    media_type, is_coded = transfer_syntax.media_type(syntax), syntax != EXPLICIT_VR_LITTLE_ENDIAN
    # Who names octets and no syntax wants what needs no decoder, also where coded frames are octets themselves.
    kinds = [Offer(media_type, syntax, unnamed=not (is_coded and media_type == OCTETS), also=OCTETS)]
    if is_coded:
        kinds.append(Offer(OCTETS, EXPLICIT_VR_LITTLE_ENDIAN))
    forms = (True, False) if count == 1 else (True,)
    return [replace(kind, multipart=form) for form in forms for kind in kinds]
