"""Who may come in, and under which address we answer."""

from hashlib import sha256
from typing import Any

import pytest

from app.web.access import LOOPBACK_NAMES, Policy, host_of, networks, read_tokens, root

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


def test_the_tokens_file_is_names_scopes_and_digests() -> None:
    """Blank lines and remarks are passed over; the secret itself stands nowhere."""
    (token,) = read_tokens(f"# who\n\nviewer read,write {DIGEST}  # ward 3\n")
    assert (token.name, token.scopes) == ("viewer", frozenset({"read", "write"}))
    assert token.sha256.hex() == DIGEST


@pytest.mark.parametrize(
    "line", ["viewer", f"viewer admin {DIGEST}", "viewer read 1234", "viewer read xyz", "a b c d"]
)
def test_a_wrong_line_is_told_by_its_number_and_never_by_its_content(line: str) -> None:
    with pytest.raises(ValueError, match="line 2") as told:
        read_tokens(f"ok read {DIGEST}\n{line}\n")
    assert "viewer" not in str(told.value)


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
