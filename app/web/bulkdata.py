"""WADO-RS bulk data: one value's bytes, with ranges (PS3.18 10.4.1.1.5, 8.7.3.3.2)."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from app import retrieve
from app.retrieve import Value
from app.web import accept
from app.web.accept import Offer
from app.web.extents import ExtentsResponse, MultipartResponse, Part
from app.web.state import Request, accepted, root
from app.web.wado import VARY, url, validators

# What strangers stored is shown to nobody as a page of ours.
INERT: Final = {"Content-Security-Policy": "sandbox; default-src 'none'"} | VARY


async def bulkdata(request: Request) -> Response:
    """One value; of an encapsulated image with several frames, a part for each frame."""
    tools, path = request.state["tools"], request.path_params
    located = await retrieve.instance(tools, path["study"], path["series"], path["instance"])
    name = path["path"].strip("/").upper()
    value = await retrieve.bulkdata(tools, located, name)
    offer = accept.choose(accepted(request), _offers(value)).offer
    stall_s = request.state["policy"].write_timeout_s
    if offer.multipart:
        location = f"{url(root(request), located)}/bulkdata/{name}"
        parts = [Part(offer.content_type, extents, location) for extents in value.frames or [value.extents]]
        return MultipartResponse(tools.storage, offer.media_type, parts, headers=INERT, stall_s=stall_s)
    return ExtentsResponse(
        tools.storage,
        value.extents,
        offer.content_type,
        validators=validators(located, name.replace("/", "-")),
        headers=INERT,
        stall_s=stall_s,
    )


def _offers(value: Value) -> list[Offer]:
    """A single part comes first: it takes ranges. Frames that are joined cannot be told apart again."""
    forms = (True,) if len(value.frames) > 1 else (False, True)
    return [
        Offer(
            value.media_type, value.transfer_syntax_uid, multipart=multipart, also="application/octet-stream"
        )
        for multipart in forms
    ]
