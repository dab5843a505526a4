"""Every error is a problem document with one sentence and the id under which the log has the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from app import errors
from app.web import access, app, problems, ranges
from tests import make
from tests.web import doors
from tests.web.doors import Archive

NOTHING = "/dicom-web/studies/1.2/series/1.2/instances/1.2"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/dicom-web", 404),
        ("GET", "/dicom-web/", 404),
        ("GET", "/dicom-web/studies/", 404),
        ("GET", "/dicom-web/studies/1.2/series/", 404),
        ("GET", "/page/nothing.js", 404),
        ("GET", "/page/..%2f..%2fstate.py", 404),
        ("GET", f"{NOTHING}/metadata", 404),
        ("GET", f"{NOTHING}/frames/1", 404),
        ("GET", f"{NOTHING}/bulkdata/7FE00010", 404),
        ("GET", f"{NOTHING}/rendered", 404),
        ("GET", f"{NOTHING}/nothing", 404),
        ("POST", "/dicom-web/series", 405),
        ("POST", f"{NOTHING}/metadata", 405),
        ("DELETE", NOTHING, 405),
        ("PUT", "/healthz", 405),
        ("OPTIONS", "/dicom-web/studies", 405),
        ("BREW", "/dicom-web/studies", 400),
        ("GET", "/dicom-web/studies?limit=x", 400),
        ("POST", "/dicom-web/studies", 415),
    ],
)
def test_an_error_is_a_problem_document(archive: Archive, method: str, path: str, status: int) -> None:
    answer = doors.request(method, archive.url + path)
    if method == "BREW":  # not even HTTP to the server
        assert answer.status_code in {400, 405}
        return
    doors.is_problem(answer, status)
    assert answer.headers["cache-control"] == "no-store"


def test_every_request_has_an_id_of_its_own(archive: Archive) -> None:
    """Whatever the client calls it: an id of ours cannot be forged into the log."""
    answers = [
        doors.get(archive.url + path, headers={"X-Request-ID": "mine"})
        for path in ("/dicom-web/studies", "/dicom-web/studies", "/nothing", "/healthz", "/")
    ]
    ids = [answer.headers.get_list("x-request-id") for answer in answers]
    assert all(len(each) == 1 and len(each[0]) == 32 for each in ids)
    assert len({each[0] for each in ids}) == len(ids)


def test_what_is_gone_from_the_storage_is_told_before_the_status(archive: Archive) -> None:
    """An object that is no more is a problem document, not half an answer."""
    (url,) = doors.stored(archive.root, make.instance())
    (key,) = archive.column(
        f"select object_key from instance where sop_instance_uid = '{url.rpartition('/')[2]}'"
    )
    Path(archive.folder / "storage" / key).unlink()
    for path in ("?accept=application/dicom", "", "/frames/1", "/bulkdata/7FE00010"):
        doors.is_problem(doors.get(url + path), 404)
    assert doors.get(f"{url}/metadata").status_code == 200


def failing(error: Exception) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        raise error

    return endpoint


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (errors.NotFound("It is gone."), 404, None),
        (errors.BadRequest("limit is wrong."), 400, None),
        (errors.NotAcceptable("It cannot be made."), 406, None),
        (errors.Unavailable("Later.", 7), 503, ("retry-after", "7")),
        (problems.UnsupportedMediaType("Not that."), 415, None),
        (problems.Stalled("Nothing came."), 408, ("connection", "close")),
        (ranges.Unsatisfiable(9), 416, ("content-range", "bytes */9")),
        (ranges.PreconditionFailed("Another one."), 412, None),
        (RuntimeError("Doe^Jane"), 500, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_each_refusal_has_its_status(
    error: Exception, status: int, header: tuple[str, str] | None
) -> None:
    """What nobody foresaw is 500, can be read by a viewer, and quotes nothing."""
    policy = access.Policy(allowed_hosts=frozenset({"testserver"}), cors_origins=("https://ohif.example",))
    made = app.create(policy, lifespan=None)  # type: ignore[arg-type] # nothing is opened for it
    made.router.add_route("/failing", failing(error))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="http://testserver") as client:
        answer = await client.get("/failing", headers={"Origin": "https://ohif.example"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == "https://ohif.example"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "Doe" not in answer.text
    assert header is None or answer.headers[header[0]] == header[1]
