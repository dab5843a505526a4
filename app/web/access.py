"""Who may come in: host names, tokens and scopes; and under which address we answer."""

from __future__ import annotations

import hmac
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.tokens import Token
from app.web.problems import problem

ROOT = "/dicom-web"
OPEN = frozenset({"/", "/docs", "/healthz", "/readyz", "/openapi.json"})  # nothing of a patient
PROBES = frozenset({"/healthz", "/readyz"})  # orchestrators ask by address
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
EXPOSED = (
    "Content-Range",
    "Accept-Ranges",
    "Content-Length",
    "ETag",
    "Warning",
    "X-Request-ID",
    "Retry-After",
)
# What answers may repeat: nothing that ends a JSON string, a header or a URL's host.
AUTHORITY = re.compile(r"(?:[0-9A-Za-z._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_BELIEVABLE = {"proto": re.compile("https?"), "host": AUTHORITY}
DEFAULT_PORTS = {"http": 80, "https": 443}
SCOPE_OF = {"GET": "read", "HEAD": "read", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the one who runs the server decided; no tokens means that everybody may do everything."""

    tokens: tuple[Token, ...] | None = None
    allowed_hosts: frozenset[str] = LOOPBACK_NAMES
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = field(default=())
    public_url: str | None = None
    upload_idle_timeout_s: float = 60.0
    write_timeout_s: float = 60.0
    allow_delete: bool = False
    upload_min_rate: int = 0


def networks(names: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Addresses and networks of proxies that are believed; raises ValueError."""
    return tuple(ip_network(name, strict=False) for name in names)


class Cors(CORSMiddleware):
    """Web pages of the allowed origins may read; a refused preflight is a problem document as well."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """What the page may do."""
        answer = super().preflight_response(request_headers)
        return answer if answer.status_code == HTTPStatus.OK else _RefusedPreflight(answer)


class _RefusedPreflight(Response):
    def __init__(self, answer: Response) -> None:
        names = ("access-control-", "vary")
        self._kept = {name: text for name, text in answer.headers.items() if name.startswith(names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = (
            "REELWEB_CORS_ORIGINS does not name this origin, or its page asks for more than may be asked."
        )
        await problem(scope, HTTPStatus.BAD_REQUEST, detail, self._kept)(scope, receive, send)


class Hosts:
    """Refuses foreign Host headers, so that no web page reaches a private server by a name of its own."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._allowed = policy.allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it in, or answer 400 or 421."""
        refusal = self._refusal(scope) if scope["type"] == "http" and scope["path"] not in PROBES else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await problem(scope, *refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[HTTPStatus, str] | None:
        hosts = Headers(scope=scope).getlist("host")
        if not hosts and scope["http_version"] == "1.1":  # RFC 9112 3.2
            return HTTPStatus.BAD_REQUEST, "The Host header is missing."
        hosts = hosts or [""]
        if len(hosts) > 1 or (hosts[0] and not AUTHORITY.fullmatch(hosts[0])):
            return HTTPStatus.BAD_REQUEST, "The Host header is not a host name with or without a port."
        if "*" in self._allowed or _without_port(hosts[0]).lower() in self._allowed:
            return None
        return (
            HTTPStatus.MISDIRECTED_REQUEST,
            "This server does not answer under that host name; REELWEB_ALLOWED_HOSTS names those it does.",
        )


class Tokens:
    """Asks for a token with the scope that the method needs, before the first byte of a body is read."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._tokens = policy.tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it in, or answer 401 or 403."""
        if scope["type"] == "http" and self._tokens is not None and not _is_open(scope["path"]):
            refusal = self._refusal(scope)
            if refusal is not None:
                status, detail = refusal
                headers = {"WWW-Authenticate": 'Bearer realm="reelweb", Basic realm="reelweb"'}
                await problem(scope, status, detail, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[HTTPStatus, str] | None:
        token = self._token(Headers(scope=scope).get("authorization", ""))
        if token is None:
            return HTTPStatus.UNAUTHORIZED, "This server asks for a token."
        needed = SCOPE_OF.get(scope["method"], "write")
        if needed not in token.scopes:
            return HTTPStatus.FORBIDDEN, f"This token lacks the scope {needed}."
        return None

    def _token(self, authorization: str) -> Token | None:
        digest = sha256(_secret(authorization)).digest()
        found = None
        for token in self._tokens or ():  # all of them, so that the time tells nothing
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/page/")


def _secret(authorization: str) -> bytes:
    """The token of a Bearer header, or the password of a Basic one, which browsers and curl can send."""
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip().encode()
    if scheme.lower() == "basic":
        try:
            return b64decode(credentials, validate=True).partition(b":")[2]
        except ValueError:  # not base64, or not even ASCII
            return b""
    return b""


def root(scope: Scope, policy: Policy) -> str:
    """The public address of the DICOMweb root, without a slash at the end."""
    if policy.public_url:
        return policy.public_url.rstrip("/") + ROOT
    headers = Headers(scope=scope)
    scheme, host = scope["scheme"], headers.get("host", "")
    if _is_trusted(scope, policy):
        forwarded = _forwarded(headers)
        scheme, host = forwarded.get("proto", scheme), forwarded.get("host", host)
        return f"{scheme}://{host}{ROOT}"
    return f"{scheme}://{_with_port(scope, scheme, host)}{ROOT}"


def _is_trusted(scope: Scope, policy: Policy) -> bool:
    client = scope.get("client")
    if not client or not policy.trusted_proxies:
        return False
    address = ip_address(client[0])
    return any(address in network for network in policy.trusted_proxies)


def _forwarded(headers: Headers) -> Mapping[str, str]:
    """`proto` and `host` as the proxy nearest to the client tells them (RFC 7239, and its forerunners)."""
    told: dict[str, str] = {}
    for pair in headers.get("forwarded", "").partition(",")[0].split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() in {"proto", "host"} and value:
            told[name.strip().lower()] = value.strip().strip('"')
    for name in ("proto", "host"):
        value = headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip()
        if value:
            told.setdefault(name, value)
    return {name: value for name, value in told.items() if _BELIEVABLE[name].fullmatch(value)}


def _with_port(scope: Scope, scheme: str, host: str) -> str:
    """The host as the client must write it: some clients leave the port out of their Host header."""
    server = scope.get("server")
    if _without_port(host) != host or not server or server[1] == DEFAULT_PORTS.get(scheme):
        return host
    return f"{host or server[0]}:{server[1]}"


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def host_of(url: str) -> str:
    """The host name of a URL, as a Host header writes it."""
    return _without_port(urlsplit(url).netloc.rpartition("@")[2]).lower()
