"""Errors become status codes in one table, each with a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from app import errors
from app.web import multipart, ranges


class UnsupportedMediaType(errors.ReelwebError):
    """The request's body is of a type that this resource does not take."""


class UnsupportedContentEncoding(UnsupportedMediaType):
    """The request's body is coded in a way that this resource does not take."""


class ContentTooLarge(errors.ReelwebError):
    """The whole request is refused for its length, unread."""


class Stalled(multipart.Malformed):
    """The request's body stopped coming."""


STATUS: dict[type[Exception], HTTPStatus] = {
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.BadRequest: HTTPStatus.BAD_REQUEST,
    errors.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    ranges.PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    ranges.Unsatisfiable: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    ContentTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Stalled: HTTPStatus.REQUEST_TIMEOUT,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}


def problem(
    scope: Scope, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """One clear sentence, and the id under which the log has the request."""
    document = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "request_id": scope.get("request_id", ""),
    }
    return Response(
        orjson.dumps(document),
        status,
        {"Cache-Control": "no-store"} | dict(headers or {}),
        "application/problem+json",
    )


async def translate(request: Request, error: Exception) -> Response:
    """Answer one of our own errors."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return problem(request.scope, status, str(error), _headers(error))


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case errors.Unavailable():
            return {"Retry-After": str(error.retry_after_s)}
        case ranges.Unsatisfiable():
            return error.headers
        case UnsupportedContentEncoding():
            return {"Accept-Encoding": "gzip"}  # RFC 9110 15.5.16
        case Stalled():
            return {"Connection": "close"}
    return {}


async def translate_http(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: no such route, no such method."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = {
        HTTPStatus.NOT_FOUND: "There is no such resource.",
        HTTPStatus.METHOD_NOT_ALLOWED: "This resource does not take that method.",
    }.get(status, error.detail)
    return problem(request.scope, status, detail, error.headers)


HANDLERS = dict.fromkeys(STATUS, translate) | {HTTPException: translate_http}
