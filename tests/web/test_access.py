"""Who may come in, and under which address we answer."""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import pytest

from app.web.access import LOOPBACK_NAMES, Policy, host_of, networks, root
from app.web.connection import DRAINED
from tests import cluster, make
from tests.web import doors
from tests.web.doors import Archive

DIGEST = sha256(b"secret").hexdigest()


def scope(host: str | None = "127.0.0.1:8080", client: str = "10.0.0.9", **headers: str) -> dict[str, Any]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if host is not None:
        raw.append((b"host", host.encode()))
    return {
        "type": "http",
        "scheme": "http",
        "headers": raw,
        "client": (client, 4711),
        "server": ("127.0.0.1", 8080),
    }


PROXIED = Policy(trusted_proxies=networks(("10.0.0.0/24",)))


@pytest.mark.parametrize(
    ("asked", "policy", "expected"),
    [
        pytest.param(scope(), Policy(), "http://127.0.0.1:8080/dicom-web", id="host with its port"),
        pytest.param(
            scope("localhost"), Policy(), "http://localhost:8080/dicom-web", id="client leaves the port out"
        ),
        pytest.param(scope("[::1]:9000"), Policy(), "http://[::1]:9000/dicom-web", id="IPv6 with a port"),
        pytest.param(scope("[::1]"), Policy(), "http://[::1]:8080/dicom-web", id="IPv6 without"),
        pytest.param(
            scope("evil"),
            Policy(public_url="https://pacs.example/x/"),
            "https://pacs.example/x/dicom-web",
            id="told",
        ),
        pytest.param(
            scope("inner", x_forwarded_proto="https", x_forwarded_host="pacs.example"),
            PROXIED,
            "https://pacs.example/dicom-web",
            id="a trusted proxy tells",
        ),
        pytest.param(
            scope("inner", forwarded='for=1.2.3.4;proto=https;host="pacs.example"'),
            PROXIED,
            "https://pacs.example/dicom-web",
            id="a trusted proxy tells by RFC 7239",
        ),
        pytest.param(
            scope("inner:1", client="192.168.0.1", x_forwarded_proto="https", x_forwarded_host="evil"),
            PROXIED,
            "http://inner:1/dicom-web",
            id="a stranger is not believed",
        ),
    ],
)
def test_answers_carry_the_address_that_the_client_can_reach(
    asked: dict[str, Any], policy: Policy, expected: str
) -> None:
    assert root(asked, policy) == expected


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://PACS.example:8443/x", "pacs.example"),
        ("http://[::1]:80", "[::1]"),
        ("https://u:p@h.example", "h.example"),
    ],
)
def test_the_host_of_a_url_is_written_as_in_a_host_header(url: str, host: str) -> None:
    assert host_of(url) == host


def test_loopback_names_are_let_in_by_default() -> None:
    assert {"localhost", "127.0.0.1", "[::1]"} == LOOPBACK_NAMES


# Through a socket

SECRETS = {"reader": "read", "writer": "write", "both": "read,write"}
OHIF = "https://ohif.example"


@pytest.fixture(scope="module")
def guarded(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """A server with tokens, a second name, a page that may read, and a proxy that is believed."""
    folder = tmp_path_factory.mktemp("guarded")
    tokens = folder / "tokens"
    lines = (f"{name} {scopes} {sha256(name.encode()).hexdigest()}" for name, scopes in SECRETS.items())
    tokens.write_text("\n".join(lines))
    with doors.serving(
        migrated,
        folder,
        tokens_file=tokens,
        allowed_hosts=("127.0.0.1", "PACS.example"),
        cors_origins=(OHIF,),
        trusted_proxies=("127.0.0.0/8",),
    ) as archive:
        yield archive
    cluster.clear(migrated)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"whoever:{password}".encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        {"Authorization": "Bearer"},
        basic("wrong"),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic ü"},
        {"Authorization": "Digest reader"},
        {"Authorization": "reader"},
    ],
    ids=["none", "wrong", "empty", "wrong password", "not base64", "umlaut", "another scheme", "bare"],
)
@pytest.mark.parametrize("path", ["/dicom-web/studies", "/dicom-web/nothing", "/metrics", "/page"])
def test_without_a_token_nothing_is_told(guarded: Archive, headers: dict[str, str], path: str) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = doors.get(guarded.url + path, headers=raw)
    doors.is_problem(answer, 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="reelweb", Basic realm="reelweb"'


@pytest.mark.parametrize("headers", [bearer("reader"), basic("reader"), {"Authorization": "bearer reader"}])
def test_a_token_opens_what_its_scopes_name(guarded: Archive, headers: dict[str, str]) -> None:
    assert doors.get(f"{guarded.root}/studies", headers=headers).status_code == 200
    assert doors.get(f"{guarded.url}/metrics", headers=headers).status_code == 200
    answer = doors.post(f"{guarded.root}/studies", content=b"x", headers=headers | doors.MULTIPART)
    assert "write" in doors.is_problem(answer, 403)


def test_who_may_only_write_reads_nothing(guarded: Archive) -> None:
    answer = doors.store(guarded.root, make.instance(), **bearer("writer"))
    assert answer.status_code == 200
    url = answer.json()["00081190"]["Value"][0]
    assert "read" in doors.is_problem(doors.get(url, headers=bearer("writer")), 403)
    assert doors.get(url, headers=bearer("both")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json", "/page/page.js"])
def test_what_holds_nothing_of_a_patient_is_open(guarded: Archive, path: str) -> None:
    assert doors.get(guarded.url + path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page/../dicom-web/studies", "/page/%2e%2e/dicom-web/studies", "//dicom-web/studies"]
)
def test_no_way_leads_around_the_tokens(guarded: Archive, path: str) -> None:
    with doors.connected(guarded.url) as connection:
        answer = doors.spoken(connection, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert answer.split(b" ")[1] in {b"401", b"404"}


def test_a_body_without_a_token_is_read_within_a_bound(guarded: Archive) -> None:
    """So that who sends on sees the answer, and who sends for ever does not keep the server busy."""
    head = b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n"
    with doors.connected(guarded.url) as connection:
        assert doors.spoken(connection, head, bytes(1 << 20)).startswith(b"HTTP/1.1 401 ")
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall(bytes(3 * DRAINED))


def test_a_body_without_a_token_is_not_asked_for(guarded: Archive) -> None:
    """Expect: 100-continue is answered with 401 at once."""
    head = (
        b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/dicom\r\n"
        b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    )
    with doors.connected(guarded.url) as connection:
        assert doors.spoken(connection, head).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("pacs.example", 200),
        ("Pacs.Example:8443", 200),
        ("evil.example", 421),
        ("pacs.example.evil.example", 421),
        ("evil.example:80", 421),
        ("localhost", 421),
        ("", 421),
        ('pacs.example:80"', 400),
        ("pacs.example:80/x", 400),
        ("pacs.example@evil.example", 400),
        ("pacs.example, evil.example", 400),
        ("[::1", 400),
        ("pacs.example:123456", 400),
    ],
)
def test_only_known_names_are_answered(guarded: Archive, host: str, status: int) -> None:
    """DNS rebinding; and nothing that ends a string or a host gets into an answer."""
    with doors.connected(guarded.url) as connection:
        request = f"GET /dicom-web/studies HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer reader\r\n\r\n"
        answer = doors.spoken(connection, request.encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    if status != 200:
        assert doors.problem_of(answer)["detail"].endswith(".")


@pytest.mark.parametrize("hosts", [b"Host: 127.0.0.1\r\nHost: evil\r\n", b""], ids=["two", "none"])
def test_a_request_has_one_host(guarded: Archive, hosts: bytes) -> None:
    with doors.connected(guarded.url) as connection:
        request = b"GET /dicom-web/studies HTTP/1.1\r\n%bAuthorization: Bearer reader\r\n\r\n" % hosts
        assert doors.spoken(connection, request).startswith(b"HTTP/1.1 400 ")


def test_health_is_asked_by_any_name(guarded: Archive) -> None:
    assert doors.get(f"{guarded.url}/healthz", headers={"Host": "10.1.2.3"}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(
    "headers", ["accept", "content-type", "accept,content-type", "authorization", "range"]
)
def test_a_viewer_of_an_allowed_origin_may_ask(guarded: Archive, method: str, headers: str) -> None:
    """The preflight of OHIF needs no token."""
    answer = preflight(guarded, OHIF, method, headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == OHIF
    assert method in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert set(headers.split(",")) <= set(allowed)


def preflight(archive: Archive, origin: str, method: str, headers: str) -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    return doors.options(f"{archive.root}/studies", headers=asked)


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://evil.example", "GET", "accept"),
        ("https://ohif.example.evil.example", "GET", "accept"),
        ("null", "GET", "accept"),
        (OHIF, "DELETE", "accept"),
        (OHIF, "GET", "x-anything"),
    ],
)
def test_a_preflight_that_is_refused_says_so(
    guarded: Archive, origin: str, method: str, headers: str
) -> None:
    answer = preflight(guarded, origin, method, headers)
    doors.is_problem(answer, 400)
    assert answer.headers.get("access-control-allow-origin") in {None, OHIF}
    assert (origin == OHIF) == ("access-control-allow-origin" in answer.headers)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/dicom-web/studies", bearer("reader"), 200),
        ("/dicom-web/studies", {}, 401),
        ("/dicom-web/studies?limit=x", bearer("reader"), 400),
        ("/dicom-web/nothing", bearer("reader"), 404),
        ("/dicom-web/studies", bearer("reader") | {"Accept": "image/jpeg"}, 406),
        ("/dicom-web/studies", bearer("reader") | {"Host": "evil"}, 421),
    ],
)
def test_a_viewer_can_read_every_answer(
    guarded: Archive, path: str, headers: dict[str, str], status: int
) -> None:
    """Errors too: what CORS hides is told as a failed network."""
    answer = doors.get(guarded.url + path, headers=headers | {"Origin": OHIF})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == OHIF
    assert "Origin" in answer.headers["vary"]
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"Content-Range", "Accept-Ranges", "Content-Length", "ETag", "Warning", "X-Request-ID"}
    stranger = doors.get(guarded.url + path, headers=headers | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


def test_without_origins_nobody_is_allowed(archive: Archive) -> None:
    answer = doors.get(f"{archive.root}/studies", headers={"Origin": OHIF})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("headers", "root_url"),
    [
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example"}, "https://a.example"),
        ({"X-Forwarded-Proto": "https"}, "https://127.0.0.1"),
        ({"Forwarded": 'proto=https;host="a.example:8443"'}, "https://a.example:8443"),
        ({"X-Forwarded-Host": 'a"b', "X-Forwarded-Proto": "javascript"}, "http://127.0.0.1"),
        ({"X-Forwarded-Host": "a.example/evil?"}, "http://127.0.0.1"),
    ],
    ids=["host and scheme", "scheme", "RFC 7239", "nonsense", "a path"],
)
def test_a_believed_proxy_tells_the_address(guarded: Archive, headers: dict[str, str], root_url: str) -> None:
    answer = doors.store(guarded.root, make.instance(), Host="127.0.0.1", **bearer("both"), **headers)
    url = answer.json()["00081190"]["Value"][0]
    assert url.startswith(f"{root_url}/dicom-web/studies/")


def test_nobody_else_is_believed(archive: Archive) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    answer = doors.store(archive.root, make.instance(), **forged)
    assert "evil" not in answer.text
