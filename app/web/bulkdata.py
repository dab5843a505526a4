"""WADO-RS bulk data: one value's bytes, with ranges (PS3.18 10.4.1.1.5, 8.7.3.3.2)."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from app import retrieve
from app.dicom import bulk_path
from app.errors import NotFound
from app.retrieve import Value
from app.web import accept
from app.web.accept import Offer
from app.web.extents import ExtentsResponse, MultipartResponse, Part
from app.web.state import Request, accepted, root
from app.web.wado import VARY, url, validators

OCTETS: Final = "application/octet-stream"
# What strangers stored is shown to nobody as a page of ours.
INERT: Final = {"Content-Security-Policy": "sandbox; default-src 'none'"} | VARY


async def bulkdata(request: Request) -> Response:
    """One value; of an encapsulated image with several frames, a part for each frame."""
    tools, path = request.state["tools"], request.path_params
    located = await retrieve.instance(tools, path["study"], path["series"], path["instance"])
    name = bulk_path.normalised(path["path"])
    if not name.isprintable():  # the database holds no NUL, not even in a question
        raise NotFound("The instance has no bulk data under this path.")
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
    """A single part comes first: it takes ranges. Frames that are joined cannot be told apart again.

    Who asks for octets without a transfer syntax gets the stored ones too: nothing is decoded here (8.7.3).
    """
    forms = (True,) if len(value.frames) > 1 else (False, True)
    types = dict.fromkeys((value.media_type, OCTETS))
    return [
        Offer(media_type, value.transfer_syntax_uid, multipart=multipart)
        for multipart in forms
        for media_type in types
    ]
