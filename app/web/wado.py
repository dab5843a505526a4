"""WADO-RS: instances of a study or series, or one of them, as stored (PS3.18 10.4, Table 10.4.1-1)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from starlette.responses import Response

from app import retrieve
from app.errors import NotAcceptable, NotFound
from app.index.located import Located
from app.web import accept
from app.web.accept import ANY, Choice, Offer
from app.web.extents import ExtentsResponse, MultipartResponse, Part
from app.web.ranges import Validators
from app.web.state import Request, accepted, root

DICOM: Final = "application/dicom"
MANY: Final = (Offer(DICOM, ANY, multipart=True),)
ONE: Final = (*MANY, Offer(DICOM, ANY))


async def instances(request: Request) -> Response:
    """All instances of a study or series."""
    choice = accept.choose(accepted(request), MANY)
    parts = _parts(request, choice)
    first = await anext(parts, None)
    if first is None:
        raise NotAcceptable("None of the instances is stored in an accepted transfer syntax.")
    stall_s = request.state["policy"].write_timeout_s
    storage = request.state["tools"].storage
    return MultipartResponse(storage, DICOM, _chained(first, parts), headers=VARY, stall_s=stall_s)


async def instance(request: Request) -> Response:
    """One instance, in one part or several of which there is one."""
    choice = accept.choose(accepted(request), ONE)
    tools, path = request.state["tools"], request.path_params
    located = await retrieve.instance(tools, path["study"], path["series"], path["instance"])
    if not choice.admits(located.transfer_syntax_uid):
        raise NotAcceptable(f"The instance is stored as {located.transfer_syntax_uid}.")
    part = _part(root(request), located)
    stall_s = request.state["policy"].write_timeout_s
    if choice.offer.multipart:
        return MultipartResponse(tools.storage, DICOM, [part], headers=VARY, stall_s=stall_s)
    name = f'attachment; filename="{located.sop_instance_uid}.dcm"'
    return ExtentsResponse(
        tools.storage,
        part.body,
        part.content_type,
        validators=validators(located),
        headers=VARY | {"Content-Disposition": name},
        stall_s=stall_s,
    )


VARY: Final = {"Vary": "Accept"}


def validators(located: Located, variant: str = "") -> Validators:
    """What names these bytes for ever: the digests of the object, and which part of it this is."""
    digest = f"{located.prefix_sha256.hex()[:8]}{located.dataset_sha256.hex()[:32]}"
    return Validators(f'"{digest}{variant and "-" + variant}"', located.stored_at)


async def _parts(request: Request, choice: Choice) -> AsyncGenerator[Part]:
    tools, path = request.state["tools"], request.path_params
    here, some = root(request), False
    async for page in retrieve.instances(tools, path["study"], path.get("series")):
        for located in page:
            some = True
            if choice.admits(located.transfer_syntax_uid):
                yield _part(here, located)
    if not some:
        raise NotFound("Nothing is stored under this study or series.")


def _part(here: str, located: Located) -> Part:
    return Part(
        f"{DICOM}; transfer-syntax={located.transfer_syntax_uid}", retrieve.whole(located), url(here, located)
    )


def url(here: str, located: Located) -> str:
    """The instance's own address."""
    return (
        f"{here}/studies/{located.study_instance_uid}/series/{located.series_instance_uid}"
        f"/instances/{located.sop_instance_uid}"
    )


async def _chained(first: Part, rest: AsyncGenerator[Part]) -> AsyncGenerator[Part]:
    yield first
    async for part in rest:
        yield part
