"""A request that would go on in another protocol goes on in this one, its body included (RFC 9110 7.8).

Java's client asks so with its first request, whatever that is. The parser believes that what follows such a header
is the other protocol, and would take the body for the next request: it would be lost, and what a stranger hides in
it would be obeyed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import httptools

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


def framing(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields that say where a body ends; none where there is no body."""
    return [field for field in headers if field[0] in _FRAMING and field[1] != b"0"]


def parser(protocol: object, fields: Iterable[tuple[bytes, bytes]]) -> httptools.HttpRequestParser:
    """One that stands where the body begins, and goes on with the requests behind it."""
    callbacks = _Muted(protocol)
    made = httptools.HttpRequestParser(callbacks)
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    made.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % lines)
    callbacks.is_muted = False
    return made


class _Muted:
    """Tells the protocol what is parsed, but for the header that it has heard of already."""

    def __init__(self, protocol: object) -> None:
        self._protocol: Any = protocol
        self.is_muted = True

    def on_message_begin(self) -> None:
        if not self.is_muted:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self.is_muted:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_muted:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.is_muted:
            self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        self._protocol.on_message_complete()
