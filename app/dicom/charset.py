"""Specific Character Set to text, with code extensions (PS3.5 6.1, PS3.3 C.12.1.1.2)."""

from __future__ import annotations

import re
from codecs import charmap_decode
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final

Decode = Callable[[bytes], str]

# Python's codecs; ISO_IR 13 is a subset of Shift JIS, the default repertoire is read as Latin-1.
_SINGLE: Final = {
    "6": "latin-1",
    "13": "shift_jis",
    "100": "latin-1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "126": "iso8859_7",
    "127": "iso8859_6",
    "138": "iso8859_8",
    "144": "iso8859_5",
    "148": "iso8859_9",
    "166": "tis_620",
    "203": "iso8859_15",
}
_MULTI: Final = {"87": "iso2022_jp", "159": "iso2022_jp_2", "149": "euc_kr", "58": "gb2312"}
_ALONE: Final = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}
_CODECS: Final = {
    **{f"ISO_IR {number}": codec for number, codec in _SINGLE.items()},
    **{f"ISO 2022 IR {number}": codec for number, codec in (_SINGLE | _MULTI).items()},
    **_ALONE,
    "ISO 2022 GBK": "gbk",
    "ISO 2022 58": "gb2312",
}

_TABLES: Final = {
    codec: bytes(range(256)).decode(codec, "replace")
    for codec in _SINGLE.values()
    if codec not in {"latin-1", "shift_jis"}
}

# Escape sequences (PS3.3 Tables C.12-3 and C.12-4) and whether Python's codec eats them itself.
_ESCAPES: Final = {
    b"\x1b(B": "latin-1",
    b"\x1b-A": "latin-1",
    b"\x1b)I": "shift_jis",
    b"\x1b(J": "shift_jis",
    b"\x1b$B": "iso2022_jp",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7",
    b"\x1b-G": "iso8859_6",
    b"\x1b-H": "iso8859_8",
    b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9",
    b"\x1b-T": "tis_620",
    b"\x1b-b": "iso8859_15",
    b"\x1b$)C": "euc_kr",
    b"\x1b$(D": "iso2022_jp_2",
    b"\x1b$)A": "gb2312",
}
_ESCAPED_BY_CODEC: Final = frozenset({"iso2022_jp", "iso2022_jp_2"})
_PIECES: Final = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_RESET: Final = re.compile(rb"[\\\r\n\t\f]")
# Misspellings that are met: ISO-IR 100, ISO_IR_100, ISO 2022-IR 100, ISO_2022_IR_6.
_LONGEST: Final = 256  # of a Specific Character Set; all defined terms together are no longer
_MOST_ESCAPES: Final = 8192  # in one value; what has more is no text
_MISSPELT: Final = re.compile(r"ISO[^A-Z0-9]?(2022[^A-Z0-9])?IR[^A-Z0-9]?(\d+)")


def default(value: bytes) -> str:
    """The default repertoire; what is outside it is read as Latin-1."""
    return value.decode("latin-1")


def decoder(value: bytes) -> Decode:
    """The reading that a value of (0008,0005) asks for; what is unknown counts as the default."""
    return _decoder(value[:_LONGEST])


@lru_cache(maxsize=256)
def _decoder(value: bytes) -> Decode:
    terms = [term.strip(" \0") for term in value.decode("latin-1").split("\\")]
    codecs = [_codec(term) for term in terms]
    if codecs[0] == "latin-1" and len(codecs) == 1:
        return _decode_latin
    if len(codecs) == 1 or terms[0] in _ALONE:
        return partial(_decode_simple, codecs[0], frozenset(codecs[:1]))
    extensions = frozenset(codec for term, codec in zip(terms, codecs, strict=True) if term not in _ALONE)
    return partial(_decode_simple, codecs[0], extensions)


def _codec(term: str) -> str:
    known = _CODECS.get(term)
    if known is not None:
        return known
    misspelt = _MISSPELT.fullmatch(term.upper())
    if misspelt is None:
        return "latin-1"
    return _CODECS.get(f"{'ISO 2022 IR' if misspelt[1] else 'ISO_IR'} {misspelt[2]}", "latin-1")


def _decode_latin(value: bytes) -> str:
    return value.decode("latin-1") if b"\x1b" not in value else _decode_simple("latin-1", frozenset(), value)


def _decode_simple(first: str, extensions: frozenset[str], value: bytes) -> str:
    if b"\x1b" not in value or value.count(b"\x1b") > _MOST_ESCAPES:
        return _text(first, value)
    return "".join(_decode_piece(first, extensions, piece) for piece in _PIECES.findall(value))


def _text(codec: str, value: bytes) -> str:
    """What no character has is told by U+FFFD; of one-byte codecs by a table, since errors one by one are slow."""
    table = _TABLES.get(codec)
    return charmap_decode(value, "strict", table)[0] if table else value.decode(codec, "replace")


def _decode_piece(first: str, extensions: frozenset[str], piece: bytes) -> str:
    """A piece begins with an escape sequence, or is what stood before the first one."""
    width = 4 if piece.startswith((b"\x1b$(", b"\x1b$)")) else 3
    codec = _ESCAPES.get(piece[:width])
    if codec is None or (codec not in extensions and codec != "latin-1"):
        return _text(first, piece)
    if codec in _ESCAPED_BY_CODEC:
        return piece.decode(codec, "replace")
    text = piece[width:]
    reset = _RESET.search(text)
    if reset is None:
        return _text(codec, text)
    # A delimiter calls the first character set back (PS3.5 6.1.2.5.3).
    return _text(codec, text[: reset.start()]) + _text(first, text[reset.start() :])
