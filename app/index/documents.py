"""Metadata documents as streams: composed from stored JSON, compressed and joined in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence

import asyncpg
import orjson
from isal import isal_zlib

from app.index import members
from app.index.found import BULK_PLACEHOLDER

_GZIP = 31  # window bits of zlib that mean a gzip stream
_LEVEL = 1
_PIECE = 256 << 10

# What OHIF plays: its list of transfer syntaxes. Others are told as what their MP4 is once it is ready.
_PLAYED = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in range(102, 109))
_AVAILABLE = "00083002"


class Composer:
    """One gzip stream of a JSON array of instances, and the digest of its text."""

    def __init__(self, root: str, study: str, series: str) -> None:
        quoted = orjson.dumps(root)[1:-1]
        self._base = b'"BulkDataURI":"%s/studies/%s/series/%s/instances/' % (
            quoted,
            study.encode(),
            series.encode(),
        )
        self._digest = hashlib.sha256()
        self._gzip = isal_zlib.compressobj(_LEVEL, wbits=_GZIP)
        self._content = bytearray()
        self._next = b"["

    def add(self, rows: Sequence[asyncpg.Record]) -> None:
        """CPU work: a few MB at once."""
        for row in rows:
            text = isal_zlib.decompress(row["metadata"])
            if row["is_playable"]:
                text = _spliced(text, row["transfer_syntax_uid"])
            uri = b"%s%s/bulkdata/" % (self._base, row["sop_instance_uid"].encode())
            self._write(self._next)
            self._write(text.replace(BULK_PLACEHOLDER, uri))
            self._next = b","

    def close(self) -> tuple[bytes, bytes]:
        """SHA-256 of the text, and the stream."""
        self._write(b"]")
        self._content += self._gzip.flush()
        return self._digest.digest(), bytes(self._content)

    def _write(self, text: bytes) -> None:
        self._digest.update(text)
        self._content += self._gzip.compress(text)


def _spliced(text: bytes, transfer_syntax_uid: str) -> bytes:
    """With Available Transfer Syntax UID: one value of OHIF's list."""
    base = transfer_syntax_uid.removesuffix(".1")  # the fragmentable form of a video syntax
    played = base if base in _PLAYED else "1.2.840.10008.1.2.4.102"
    found = dict(members.split(text))
    found[_AVAILABLE] = f'"{_AVAILABLE}":{{"vr":"UI","Value":["{played}"]}}'
    return members.joined(found[tag] for tag in sorted(found))


async def compressed(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """One gzip stream of these pieces."""
    gzip = isal_zlib.compressobj(_LEVEL, wbits=_GZIP)
    async for piece in pieces:
        if out := gzip.compress(piece):
            yield out
    yield gzip.flush()


async def array(streams: Iterable[AsyncIterable[bytes]]) -> AsyncIterator[bytes]:
    """The arrays in these gzip streams as one array of text."""
    opening = b"["
    for stream in streams:
        last = b""  # held back: the last byte of an array closes it
        first = True
        async for piece in _inflated(stream):
            text = last + (piece[1:] if first else piece)
            if first:
                yield opening
            first, opening, last = False, b",", text[-1:]
            yield text[:-1]
    yield b"]" if opening == b"," else b"[]"


async def _inflated(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    inflate = isal_zlib.decompressobj(wbits=_GZIP)
    async for piece in stream:
        rest = piece
        while rest:
            out = inflate.decompress(rest, _PIECE)
            rest = inflate.unconsumed_tail
            if out:
                yield out
    if out := inflate.flush():
        yield out
