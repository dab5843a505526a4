"""What a setting's value may be, and what is said of one that may not; no sentence repeats a value."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from app import tokens

_HOST_NAMES = re.compile(r"\*|[0-9A-Za-z._~-]+|\[[0-9A-Fa-f:.]+\]")
_PREFIXES = re.compile(r"/?|(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+/?")


def _folded(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _split(value: object) -> object:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def is_loopback(host: str) -> bool:
    """True for addresses that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _url(value: str, *, one_host: bool = True) -> SplitResult:
    try:
        url = urlsplit(value)
        port = url.port if one_host else None  # PostgreSQL may have several
    except ValueError:
        port = 0
    if port == 0:  # outside the handler: the text of what was raised may repeat a secret
        raise ValueError("has a host or a port that is none")
    return url


def _postgresql(value: str) -> str:
    _url(value, one_host=False)
    if not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("must begin with postgresql://")
    return value


def _storage(value: str) -> str:
    url = _url(value, one_host=False)
    if url.query or url.fragment or "@" in url.netloc:
        raise ValueError("must have neither user, query nor fragment: keys come from AWS_ACCESS_KEY_ID, …")
    if url.scheme == "s3":
        if not url.netloc or ":" in url.netloc or not _PREFIXES.fullmatch(url.path):
            raise ValueError("must be s3://bucket/prefix (the prefix of letters, digits and ._-/, or none)")
    elif url.scheme != "file" or url.netloc or not url.path.startswith("/"):
        raise ValueError("must be s3://bucket/prefix or file:///folder with an absolute path, nothing else")
    return value


def _http(value: str) -> str:
    url = _url(value)
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment or url.username:
        raise ValueError("must be http:// or https:// with a host, and neither user, query nor fragment")
    return value.rstrip("/")


def _host_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(_HOST_NAMES.fullmatch, value)):
        raise ValueError("must be host names without scheme and port, or *, separated by commas")
    return value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for network in value:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ValueError(
                "must be addresses or networks such as 10.0.0.0/8, separated by commas"
            ) from None
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        url = _url(origin)
        if origin != "*" and (url.scheme not in {"http", "https"} or not url.netloc or url.path or url.query):
            raise ValueError(
                "must be origins such as https://viewer.example.org (no path), separated by commas"
            )
    return value


def _text(path: Path) -> str:
    if not (path.is_file() and os.access(path, os.R_OK)):
        raise ValueError("is not a file that can be read")
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise ValueError("is not a text file that can be read") from None


def _tokens(path: Path) -> Path:
    if not tokens.parse(_text(path)):
        raise ValueError("has no token in it: add the second line that `reelweb token` prints")
    return path


def _certificates(path: Path) -> Path:
    if "-----BEGIN CERTIFICATE-----" not in _text(path):
        raise ValueError("has no PEM certificate in it")
    return path


def _bare(host: str) -> str:
    return host.strip("[]")


AnyCase = BeforeValidator(_folded)
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Host = Annotated[str, Field(min_length=1), AfterValidator(_bare)]
PostgresqlUrl = Annotated[str, AfterValidator(_postgresql)]
StorageUrl = Annotated[str, AfterValidator(_storage)]
HttpUrl = Annotated[str, AfterValidator(_http)]
TokensFile = Annotated[Path, AfterValidator(_tokens)]
CertificatesFile = Annotated[Path, AfterValidator(_certificates)]
_CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
HostNames = Annotated[_CommaList, AfterValidator(_host_names)]
Networks = Annotated[_CommaList, AfterValidator(_networks)]
Origins = Annotated[_CommaList, AfterValidator(_origins)]
