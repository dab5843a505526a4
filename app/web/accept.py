"""Which representation answers a request: Accept header or accept parameter (PS3.18 8.3.3.1, 8.7.5).

A door lists what it can make, best first; `choose` takes what the client likes most of it.
Elements that nobody understands are skipped, for a viewer's odd header shall not cost the picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final
from urllib.parse import unquote

from app.errors import NotAcceptable

ANY: Final = "*"
_SHORT: Final = 1024  # as long is what browsers and viewers send
_MOST: Final = 64  # elements that are looked at; no client names so many
# One alternative for each kind of first character: linear for whatever is sent.
_QUOTED: Final = r'"(?:\\.|[^"\\])*"?'
_ELEMENTS: Final = re.compile(rf'(?:[^,"]|{_QUOTED})+', re.DOTALL)
_PARAMETERS: Final = re.compile(rf'(?:[^;"]|{_QUOTED})+', re.DOTALL)
_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")
_UNESCAPED_PLUS: Final = re.compile(r"(?<=application/dicom) (?=json|xml)", re.IGNORECASE)
_ALIASES: Final = {  # what clients write for the types of Table 8.7.3-5
    "image/jhc": "image/jphc",
    "image/jpg": "image/jpeg",
    "image/x-dicom-rle": "image/dicom-rle",
    "image/x-jls": "image/jls",
    "video/mpeg2": "video/mpeg",
}
_FAMILIES: Final = {"avc3": "avc1", "hev1": "hvc1"}
_EVERY_TYPE: Final = "*/*"

_Fit = tuple[int, int, int]  # how closely the type, its being multipart and the transfer syntax were named


@dataclass(frozen=True, slots=True)
class Offer:
    """A representation that the door can make."""

    media_type: str
    transfer_syntax: str = ""  # ANY: each instance has its own; "": a type that knows none
    multipart: bool = False  # as multipart/related; type="media_type"
    unnamed: bool = True  # also for a client that names the type and no transfer syntax
    also: str = ""  # a type it answers to as well, when any transfer syntax will do
    codecs: str = ""  # of a video

    @property
    def content_type(self) -> str:
        """Of a single answer or of one part; never with an ANY."""
        syntax = f"; transfer-syntax={self.transfer_syntax}" if self.transfer_syntax not in {"", ANY} else ""
        codecs = f'; codecs="{self.codecs}"' if self.codecs else ""
        return f"{self.media_type}{syntax}{codecs}"

    def __str__(self) -> str:
        """As a client could ask for it."""
        if not self.multipart:
            return self.content_type
        return f'multipart/related; type="{self.media_type}"' + self.content_type[len(self.media_type) :]


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header; of a multipart one, `type` is the type of its parts."""

    type: str
    multipart: bool
    q: float
    transfer_syntaxes: tuple[str, ...]
    codecs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The offer taken, and the transfer syntaxes that the client named for it, in its order."""

    offer: Offer
    transfer_syntaxes: tuple[str, ...]

    def admits(self, transfer_syntax: str) -> bool:
        """Whether an instance may go out in this syntax: where none was named, the door decides."""
        named = self.transfer_syntaxes
        return not named or ANY in named or transfer_syntax in named


def asked(headers: Iterable[str], parameters: Iterable[str] = ()) -> tuple[MediaRange, ...]:
    """What the client accepts: the accept parameters, else the Accept headers, else everything."""
    text = ",".join(parameters)
    text = _UNESCAPED_PLUS.sub("+", text) if text else ",".join(headers)
    return _ranges(text) if len(text) <= _SHORT else _ranges.__wrapped__(text)


@lru_cache  # a client asks the same way for range after range
def _ranges(text: str) -> tuple[MediaRange, ...]:
    if not text.strip():
        return (MediaRange(_EVERY_TYPE, multipart=False, q=1.0, transfer_syntaxes=(), codecs=()),)
    elements = (found[0] for found in islice(_ELEMENTS.finditer(text), _MOST))
    return tuple(media for element in elements if (media := _media_range(element)))


def names(accepted: Iterable[MediaRange], beginning: str) -> bool:
    """Whether a type that starts so is asked for by name, as `video/` is by a player."""
    return any(media.type.startswith(beginning) and media.q > 0 for media in accepted)


def choose(accepted: Sequence[MediaRange], offers: Sequence[Offer], otherwise: Offer | None = None) -> Choice:
    """The offer that the client likes best: by q, then the more exactly named, then the door's order.

    Nothing fits: `otherwise`, or `NotAcceptable` that tells what could be had.
    """
    best: tuple[float, _Fit] = (0.0, (0, 0, 0))
    choice = Choice(otherwise, ()) if otherwise else None
    for offer in offers:
        fits = [(fit, media) for media in accepted if (fit := _fit(media, offer))]
        closest = max((fit for fit, _media in fits), default=(0, 0, 0))
        liked = max((media.q for fit, media in fits if fit == closest), default=0.0)
        if liked and (liked, closest) > best:
            best = liked, closest
            choice = Choice(offer, _named([media for _fit, media in fits if media.q == liked]))
    if choice:
        return choice
    available = ", ".join(dict.fromkeys(map(str, offers)))
    raise NotAcceptable(
        f"None of the accepted media types can be made here. There is: {available or 'nothing'}."
    )


def _media_range(element: str) -> MediaRange | None:
    first, *rest = _PARAMETERS.findall(element) or [""]
    kind = first.strip().lower()
    parameters = [_parameter(text) for text in rest]
    multipart = kind.startswith("multipart/")
    if multipart:
        kind = next((value.strip().lower() for name, value in parameters if name == "type"), _EVERY_TYPE)
    if not _TYPE.fullmatch(kind):
        return None
    syntaxes = tuple(
        dict.fromkeys(unquote(value).strip() for name, value in parameters if name == "transfer-syntax")
    )
    codecs = tuple(
        _family(codec) for name, value in parameters if name == "codecs" for codec in value.split(",")
    )
    return MediaRange(_ALIASES.get(kind, kind), multipart, _quality(parameters), syntaxes, codecs)


def _parameter(text: str) -> tuple[str, str]:
    name, _equals, value = text.partition("=")
    value = value.strip()
    if value.startswith('"'):
        value = re.sub(r"\\(.)", r"\1", value.strip('"'), flags=re.DOTALL)
    return name.strip().lower(), value


def _quality(parameters: Iterable[tuple[str, str]]) -> float:
    text = next((value for name, value in parameters if name == "q"), "1")
    try:
        quality = float(text)
    except ValueError:
        return 1.0
    return quality if 0 <= quality <= 1 else 1.0


def _fit(media: MediaRange, offer: Offer) -> _Fit | None:
    """How closely this range names the offer; None when the offer is not in it."""
    type_fit = _type_fit(media, offer)
    if not type_fit or (media.codecs and offer.codecs and not _plays(media.codecs, offer.codecs)):
        return None
    named = media.transfer_syntaxes
    if offer.transfer_syntax in named:
        return type_fit, media.multipart, 1
    if offer.transfer_syntax in {"", ANY} or ANY in named:
        return type_fit, media.multipart, 0
    if not named and (offer.unnamed or ANY in media.type):
        return type_fit, media.multipart, 0
    return None


def _type_fit(media: MediaRange, offer: Offer) -> int:
    """3 for the type itself, less the vaguer the range is, 0 for another type."""
    asks_single = not media.multipart and media.type != _EVERY_TYPE
    if (media.multipart and not offer.multipart) or (asks_single and offer.multipart):
        return 0
    if media.type == offer.media_type.lower() or (
        media.type == offer.also and ANY in media.transfer_syntaxes
    ):
        return 3
    if media.type == _EVERY_TYPE:
        return 1
    kind, _slash, inner = media.type.partition("/")
    return 2 if inner == ANY and offer.media_type.startswith(f"{kind}/") else 0


def _named(ranges: Iterable[MediaRange]) -> tuple[str, ...]:
    """The syntaxes that these ranges name; none when one of them leaves it to the default."""
    found = [media.transfer_syntaxes or ((ANY,) if ANY in media.type else ()) for media in ranges]
    return tuple(dict.fromkeys(name for names in found for name in names)) if all(found) else ()


def _plays(families: Iterable[str], codecs: str) -> bool:
    """Whether the video's picture is coded in one of the asked ways, whatever profile and level."""
    return _family(codecs.partition(",")[0]) in families


def _family(codec: str) -> str:
    name = codec.strip().partition(".")[0].lower()
    return _FAMILIES.get(name, name)
