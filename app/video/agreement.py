"""Where a data set says otherwise than the video's stream (PS3.5 8.2.5 to 8.2.12, PS3.3 C.7.6.3, C.7.6.5): the stream wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import inf
from typing import Any, Final

from app.dicom import transfer_syntax
from app.video import probe

Attributes = Mapping[str, Mapping[str, Any]]
Described = Mapping[str, Any]

_CODECS: Final = {
    "video/mpeg": frozenset({"mpeg1video", "mpeg2video"}),
    "video/mp4": frozenset({"h264"}),
    "video/H265": frozenset({"hevc"}),
}
_NAMES: Final = {"h264": "H.264", "hevc": "HEVC", "mpeg2video": "MPEG-2", "mpeg1video": "MPEG-1"}
_HEARD: Final = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "flac"})
_RATE: Final = Fraction(1, 200)  # FrameTime is a decimal string of few digits
_FIELDS: Final = 2  # samples may be fields

# The most that a syntax allows (PS3.5 8.2.7 to 8.2.11): the codec's own number of its level.
_LEVELS: Final = {
    **dict.fromkeys((102, 103), (41, "4.1")),
    **dict.fromkeys((104, 105, 106), (42, "4.2")),
    **dict.fromkeys((107, 108), (153, "5.1")),
}
_AVC_PROFILES: Final = ("Baseline", "Main", "High", "Stereo High", "Multiview High")
_HEVC_PROFILES: Final = {107: ("Main",), 108: ("Main", "Main 10")}


def warnings(
    attributes: Attributes, transfer_syntax_uid: str, described: Described, fragments: int
) -> list[str]:
    """One sentence for each disagreement; `attributes` is the data set's DICOM JSON."""
    return [
        *_coded(transfer_syntax_uid, described),
        *_wrapped(transfer_syntax_uid, described, fragments),
        *_sized(attributes, described),
        *_counted(attributes, described),
        *_paced(attributes, described),
        *_coloured(attributes, described),
        *_sounding(described),
    ]


def _coded(syntax: str, described: Described) -> Iterator[str]:
    codec = described["codec"]
    if codec not in _CODECS[transfer_syntax.media_type(syntax)]:
        yield f"The transfer syntax {syntax} is not that of the stream, which is {_NAMES.get(codec, codec)}."
        return
    number = _number(syntax)
    if number in _LEVELS and (described.get("level") or 0) > _LEVELS[number][0]:
        yield f"The stream's level is higher than {_LEVELS[number][1]}, the highest of its transfer syntax."
    profile = described.get("profile") or ""
    allowed = _HEVC_PROFILES.get(number, ()) if codec == "hevc" else _AVC_PROFILES
    plain = profile.removeprefix("Constrained ")
    if codec in {"h264", "hevc"} and profile and plain not in allowed:
        yield f"The stream's profile {profile} is none of its transfer syntax."


def _wrapped(syntax: str, described: Described, fragments: int) -> Iterator[str]:
    if described["container"] == "annexb" and transfer_syntax.media_type(syntax) == "video/mp4":
        yield "The stream is neither a transport stream nor an MP4, as PS3.5 8.2.7 asks for."
    if fragments > 1 and not syntax.endswith(".1") and transfer_syntax.media_type(syntax) != "video/H265":
        yield f"The stream lies in {fragments} fragments, which only the fragmentable form of its transfer syntax allows."


def _sized(attributes: Attributes, described: Described) -> Iterator[str]:
    for tag, name, side in (("00280010", "Rows", "height"), ("00280011", "Columns", "width")):
        told = _integer(attributes, tag)
        if told is not None and told != described[side]:
            yield f"{name} is {told}, the stream's {side} {described[side]}."


def _counted(attributes: Attributes, described: Described) -> Iterator[str]:
    told, found = _integer(attributes, "00280008"), described["samples"]
    if told is not None and found and told not in {found, found / _FIELDS}:
        yield f"NumberOfFrames is {told}, the stream has {found}."


def _paced(attributes: Attributes, described: Described) -> Iterator[str]:
    rate = probe.rate(described)
    if not rate:
        return
    frame_time = _decimal(attributes, "00181063")
    if frame_time and abs(1000 / frame_time / rate - 1) > _RATE:
        yield f"FrameTime is {float(frame_time):g} ms, the stream's {float(1000 / rate):.5g} ms."
    for tag, name in (("00180040", "CineRate"), ("00082144", "RecommendedDisplayFrameRate")):
        told = _integer(attributes, tag)
        if told and abs(told - rate) >= 1:
            yield f"{name} is {told}, the stream has {float(rate):.5g} pictures a second."


def _coloured(attributes: Attributes, described: Described) -> Iterator[str]:
    told = _first(attributes, "00280004")
    if told is not None and told != "YBR_PARTIAL_420":
        yield "PhotometricInterpretation is not YBR_PARTIAL_420, as the transfer syntax asks for."
    form = described.get("pixel_format") or ""
    if form and "420" not in form:
        yield f"The stream's colours are {form}, not subsampled as 4:2:0."
    bits, found = _integer(attributes, "00280101"), 10 if form.endswith("10le") else 8
    if bits is not None and form and bits != found:
        yield f"BitsStored is {bits}, the stream's samples have {found} bits."


def _sounding(described: Described) -> Iterator[str]:
    sound = described.get("sound")
    if sound and sound["codec"] not in _HEARD and described["container"] in {"ts", "ps", "fmp4"}:
        yield f"The sound is {sound['codec']}, which browsers do not play: the MP4 goes without it."


def _number(syntax: str) -> int:
    return int(syntax.removesuffix(".1").rpartition(".")[2])


def _first(attributes: Attributes, tag: str) -> object:
    values = attributes.get(tag, {}).get("Value") or [None]
    return values[0]


def _decimal(attributes: Attributes, tag: str) -> Fraction | None:
    try:
        found = float(str(_first(attributes, tag)))
    except ValueError:
        return None
    # Not of the text: of 1e9999999 a fraction would be worked out for half a minute.
    return Fraction(found) if 0 < found < inf else None


def _integer(attributes: Attributes, tag: str) -> int | None:
    found = _decimal(attributes, tag)
    return int(found) if found is not None else None
