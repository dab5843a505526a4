"""What every handler may use: the opened tools and the policy of the one who runs the server."""

from __future__ import annotations

from typing import TypedDict

from starlette.requests import Request as _Request

from app.tools import Tools
from app.web import access
from app.web.accept import MediaRange, asked
from app.web.again import Again
from app.web.ahead import Room
from app.web.places import Uploads


class State(TypedDict):
    """The lifespan's state, shared by all requests of one process."""

    tools: Tools
    policy: access.Policy
    uploads: Uploads
    room: Room
    again: Again


Request = _Request[State]


def root(request: Request) -> str:
    """The public address of the DICOMweb root, as this request must see it."""
    return access.root(request.scope, request.state["policy"])


def accepted(request: Request) -> tuple[MediaRange, ...]:
    """What the client accepts, by parameter or header."""
    return asked(request.headers.getlist("accept"), request.query_params.getlist("accept"))
