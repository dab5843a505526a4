"""Routes, middleware and error handlers: the whole API on one page (PS3.18 10.3 to 10.7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import Lifespan

from app.web import (
    access,
    bulkdata,
    contract,
    delete,
    docs,
    figures,
    frames,
    health,
    metadata,
    observe,
    page,
    problems,
    qido,
    rendered,
    stow,
    wado,
)
from app.web.state import Request

Handler = Callable[[Request], Awaitable[Response]]


class _Uid(Convertor[str]):
    """What could be stored; other words are no address, reach neither the database nor the log."""

    regex = "[0-9A-Za-z.]{1,64}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("uid", _Uid())

STUDY = "/studies/{study:uid}"
SERIES = STUDY + "/series/{series:uid}"
INSTANCE = SERIES + "/instances/{instance:uid}"


def by_method(**handlers: Handler) -> Handler:
    """One resource, several methods: so that a refused method is told all that are allowed."""

    async def handle(request: Request) -> Response:
        chosen = handlers["GET" if request.method == "HEAD" else request.method]
        request.scope["endpoint"] = chosen  # what log and metrics tell
        return await chosen(request)

    return handle


DICOMWEB = [  # tried in this order: what is asked for most comes first
    Route(INSTANCE + "/rendered", rendered.instance, methods=["GET"]),
    Route(INSTANCE + "/stream", rendered.stream, methods=["GET"]),
    Route(INSTANCE + "/frames/{frames}", frames.frames, methods=["GET"]),
    Route(INSTANCE + "/frames/{frame}/rendered", rendered.frame, methods=["GET"]),
    Route(INSTANCE + "/frames/{frame}/thumbnail", rendered.thumbnail, methods=["GET"]),
    Route(INSTANCE + "/bulkdata/{path:path}", bulkdata.bulkdata, methods=["GET"]),
    Route("/studies", by_method(GET=qido.studies, POST=stow.studies), methods=["GET", "POST"]),
    Route("/series", qido.series, methods=["GET"]),
    Route("/instances", qido.instances, methods=["GET"]),
    Route(STUDY + "/series", qido.series, methods=["GET"]),
    Route(STUDY + "/instances", qido.instances, methods=["GET"]),
    Route(SERIES + "/instances", qido.instances, methods=["GET"]),
    *(Route(f"{level}/metadata", metadata.metadata, methods=["GET"]) for level in (STUDY, SERIES, INSTANCE)),
    *(
        Route(f"{level}/thumbnail", rendered.thumbnail, methods=["GET"])
        for level in (STUDY, SERIES, INSTANCE)
    ),
]

STORED: dict[str, dict[str, Handler]] = {
    STUDY: {"GET": wado.instances, "POST": stow.studies},
    SERIES: {"GET": wado.instances},
    INSTANCE: {"GET": wado.instance},
}


def routes(*, allow_delete: bool) -> list[BaseRoute]:
    """Every resource; where deleting is not allowed no resource takes the method."""
    more: dict[str, Handler] = {"DELETE": delete.instances} if allow_delete else {}
    stored = [
        Route(path, by_method(**handlers, **more), methods=[*handlers, *more])
        for path, handlers in STORED.items()
    ]
    return [
        Mount(access.ROOT, Router([*DICOMWEB, *stored], redirect_slashes=False)),
        Route("/", page.index, methods=["GET"]),
        Mount("/page", StaticFiles(directory=page.FOLDER)),
        Route("/docs", docs.docs, methods=["GET"]),
        Route("/openapi.json", contract.document, methods=["GET"]),
        Route("/healthz", health.alive, methods=["GET"]),
        Route("/readyz", health.ready, methods=["GET"]),
        Route("/metrics", figures.metrics, methods=["GET"]),
    ]


def create(policy: access.Policy, lifespan: Lifespan[Starlette]) -> Starlette:
    """The application; who may come in is decided from the outside to the inside."""
    cors = Middleware(
        access.Cors,
        allow_origins=policy.cors_origins,
        allow_methods=["GET", "HEAD", "POST", *(["DELETE"] if policy.allow_delete else [])],
        allow_headers=["Accept", "Authorization", "Content-Type", "Range", "If-None-Match", "If-Range"],
        expose_headers=access.EXPOSED,
    )
    middleware = [
        Middleware(observe.Observe),
        *([cors] if policy.cors_origins else []),
        Middleware(observe.Failures),
        Middleware(access.Hosts, policy=policy),
        Middleware(access.Tokens, policy=policy),
    ]
    app = Starlette(
        routes=routes(allow_delete=policy.allow_delete),
        middleware=middleware,
        exception_handlers=problems.HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would not know the public address
    return app
