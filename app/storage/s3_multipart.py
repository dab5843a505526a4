"""Unfinished multipart uploads of an S3 bucket, listed and aborted: what obstore has no call for.

Requests are signed with the keys of the environment (AWS_ACCESS_KEY_ID and its sisters, Signature Version 4).
Where credentials come another way (instance roles), a lifecycle rule of the bucket must do this.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

_EMPTY: Final = hashlib.sha256(b"").hexdigest()
_TIMEOUT_S: Final = 30.0
Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Keys:
    """Who signs."""

    access: str
    secret: str
    token: str = ""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Keys | None:
        """Those of the environment, if it has any."""
        access, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
        return cls(access, secret, environment.get("AWS_SESSION_TOKEN", "")) if access and secret else None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was begun."""

    key: str
    upload_id: str
    age: timedelta


class Multipart:
    """The uploads below `prefix` of the bucket at `url`; its methods wait, so call them in a thread."""

    def __init__(
        self, url: str, region: str, keys: Keys, prefix: str = "", ca_bundle: Path | None = None
    ) -> None:
        self._url, self._region, self._keys, self._prefix = url.rstrip("/"), region, keys, prefix
        self._tls = ssl.create_default_context(cafile=ca_bundle) if url.startswith("https:") else None

    def unfinished(self) -> Iterator[Unfinished]:
        """All of them, aged by the store's own clock."""
        marker: dict[str, str] = {}
        while True:
            answer, date = self._ask("GET", "", {"uploads": "", "prefix": self._prefix} | marker)
            root = ET.fromstring(answer)  # noqa: S314 - the store that keeps our objects is trusted
            for item in root.iterfind("{*}Upload"):
                begun = datetime.fromisoformat(_text(item, "Initiated"))
                yield Unfinished(_text(item, "Key"), _text(item, "UploadId"), date - begun)
            if _text(root, "IsTruncated") != "true":
                return
            marker = {
                "key-marker": _text(root, "NextKeyMarker"),
                "upload-id-marker": _text(root, "NextUploadIdMarker"),
            }

    def abort(self, upload: Unfinished) -> None:
        """Remove its parts; one that has just ended is no error."""
        try:
            self._ask("DELETE", upload.key, {"uploadId": upload.upload_id})
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def _ask(self, method: str, key: str, query: Query) -> tuple[bytes, datetime]:
        url = urlsplit(f"{self._url}/{quote(key)}" if key else self._url)
        asked = "&".join(f"{quote(name, '')}={quote(query[name], '')}" for name in sorted(query))
        headers = self._signed(method, url.netloc, url.path or "/", asked, datetime.now(UTC))
        request = urllib.request.Request(  # noqa: S310 - the address is the operator's
            url._replace(query=asked).geturl(), method=method, headers=headers
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._tls) as answer:  # noqa: S310
            date = (
                parsedate_to_datetime(answer.headers["Date"])
                if "Date" in answer.headers
                else datetime.now(UTC)
            )
            return answer.read(), date

    def _signed(self, method: str, host: str, path: str, query: str, now: datetime) -> dict[str, str]:
        """The headers of Signature Version 4 for a request without a body."""
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        headers = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": stamp}
        if self._keys.token:
            headers["x-amz-security-token"] = self._keys.token
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{_EMPTY}"
        scope = f"{day}/{self._region}/s3/aws4_request"
        text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
        key = f"AWS4{self._keys.secret}".encode()
        for step in (day, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, step.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"Credential={self._keys.access}/{scope}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


def _text(element: ET.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""
