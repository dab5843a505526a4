"""Attribute matching: what a search asks for, as values (PS3.18 8.3.4, PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from app.dicom import names, uids
from app.dicom.attributes import Level, keyword_of, tag_of
from app.errors import BadRequest

Moment = tuple[date, str]
"""A date and a time as `clock` writes it."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Equal to any of these; with none of them, nothing matches."""

    values: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """Equal to any of these, where `*` is any run of characters and `?` any one."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A name key (app.dicom.names) that matches every one of these patterns."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """From low to high, both included; an absent end is open."""

    low: date | str | Moment | None
    high: date | str | Moment | None


Value = OneOf | Like | Named | Between
NOTHING = OneOf(())


@dataclass(frozen=True, slots=True)
class Match:
    """One attribute, by tag or path of tags, and what it must be."""

    tag: str
    value: Value


@dataclass(frozen=True, slots=True)
class Limits:
    """How many rows one answer has when nobody says, and at most."""

    default_limit: int = 100
    max_limit: int = 1000


@dataclass(frozen=True, slots=True)
class Query:
    """A search; `unapplied` names the matching modes that were asked for and are not done."""

    level: Level
    study: str | None = None
    series: str | None = None
    matches: tuple[Match, ...] = ()
    includefield: frozenset[str] = field(default_factory=frozenset)
    include_all: bool = False
    limit: int = 100
    offset: int = 0
    unapplied: frozenset[str] = field(default_factory=frozenset)

    @property
    def fuzzy(self) -> bool:
        """Fuzzy matching was asked for; matching is literal all the same, so the door warns."""
        return "fuzzymatching" in self.unapplied


# How a stored value becomes the key it is matched by; a key of a search goes the same way.

_PADS = " \0"


def identifier(text: str) -> str:
    """Identifiers match exactly, but for the pads around them (PS3.5 6.2: SH and LO)."""
    return text.replace("\0", "").strip()


def code(text: str) -> str:
    """CS has capitals only; who asks with small ones is understood."""
    return identifier(text).upper()


def text(value: str) -> str:
    """Descriptions match whatever the case."""
    return identifier(value).casefold()


_NO_NUMBER = 2**31 - 1

_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)(?:\.(\d{1,6}))?)?)?", re.ASCII)


def day(value: str) -> date | None:
    """A date of DA, also in the form of ACR-NEMA (2026.11.22); None when it is none."""
    parts = _DATE.fullmatch(value.strip(_PADS).replace(".", ""))
    try:
        return date(*(int(part) for part in parts.groups())) if parts else None
    except ValueError:
        return None


def clock(value: str, *, last: bool = False) -> str | None:
    """A time of TM as HHMMSS.FFFFFF, so that text compares; what it leaves out is its first or `last`."""
    parts = _TIME.fullmatch(value.strip(_PADS).replace(":", ""))
    if not parts:
        return None
    hour, minute, second, fraction = parts.groups()
    fill = ("59", "59", "9") if last else ("00", "00", "0")
    return f"{hour}{minute or fill[0]}{second or fill[1]}.{(fraction or '').ljust(6, fill[2])}"


# How a key of a search is understood, by kind.


def _uids(tag: str, key: str) -> Value | None:
    """C.2.2.2.2: a list by backslash, and by comma as PS3.18 8.3.4.1 has it."""
    return OneOf(
        tuple(uid for part in re.split(r"[\\,]", key) if uids.is_acceptable(uid := uids.normalised(part)))
    )


def _codes(tag: str, key: str) -> Value | None:
    wanted = tuple(code(part) for part in re.split(r"[\\,]", key) if len(part.strip(_PADS)) <= 16)
    return _listed(tuple(one for one in wanted if one))


def _listed(wanted: tuple[str, ...]) -> Value | None:
    if any(set(one) == {"*"} for one in wanted):
        return None
    return Like(wanted) if any("*" in one or "?" in one for one in wanted) else OneOf(wanted)


def _exact(longest: int) -> Callable[[str, str], Value | None]:
    def understand(tag: str, key: str) -> Value | None:
        wanted = identifier(key)
        return NOTHING if len(wanted) > longest else _listed((wanted,))

    return understand


def _described(longest: int) -> Callable[[str, str], Value | None]:
    def understand(tag: str, key: str) -> Value | None:
        return NOTHING if len(identifier(key)) > longest else _listed((text(key),))

    return understand


def _person(tag: str, key: str) -> Value | None:
    groups = key.split("=")
    if len(groups) > 3 or any(len(group.strip()) > 64 for group in groups):
        return NOTHING
    patterns = tuple(pattern for group in groups if (pattern := names.pattern(group)))
    return Named(patterns) if patterns else None


def _number(tag: str, key: str) -> Value | None:
    """A key that is no number of IS is equal to none."""
    wanted = key.strip(_PADS)
    if not re.fullmatch(r"[+-]?\d{1,11}", wanted, re.ASCII) or abs(int(wanted)) >= _NO_NUMBER:
        return NOTHING
    return OneOf((int(wanted),))


def _ends(tag: str, key: str) -> tuple[str, str]:
    """The ends of a range (C.2.2.2.5); a single value is both."""
    low, dash, high = key.strip(_PADS).partition("-")
    if dash and not (low or high):
        raise BadRequest(f"{keyword_of(tag)}: a range needs at least one end.")
    return low, high if dash else low


def _days(tag: str, key: str) -> Between:
    low, high = _ends(tag, key)
    found = Between(day(low), day(high))
    if (low and found.low is None) or (high and found.high is None):
        raise BadRequest(f"{keyword_of(tag)}: not a date or range of dates (YYYYMMDD-YYYYMMDD).")
    return found


def _times(tag: str, key: str) -> Between:
    low, high = _ends(tag, key)
    found = Between(clock(low), clock(high, last=True))
    if (low and found.low is None) or (high and found.high is None):
        raise BadRequest(f"{keyword_of(tag)}: not a time or range of times (HHMMSS-HHMMSS).")
    return found


KEYS: dict[str, tuple[Level, Callable[[str, str], Value | None]]] = {
    "0020000D": (Level.STUDY, _uids),
    "00080020": (Level.STUDY, _days),
    "00080030": (Level.STUDY, _times),
    "00080050": (Level.STUDY, _exact(16)),
    "00080061": (Level.STUDY, _codes),
    "00080090": (Level.STUDY, _person),
    "00081030": (Level.STUDY, _described(64)),
    "00100010": (Level.STUDY, _person),
    "00100020": (Level.STUDY, _exact(64)),
    "00100021": (Level.STUDY, _exact(64)),
    "00100030": (Level.STUDY, _days),
    "00100040": (Level.STUDY, _codes),
    "00200010": (Level.STUDY, _exact(16)),
    "0020000E": (Level.SERIES, _uids),
    "00080021": (Level.SERIES, _days),
    "00080060": (Level.SERIES, _codes),
    "0008103E": (Level.SERIES, _described(64)),
    "00180015": (Level.SERIES, _codes),
    "00200011": (Level.SERIES, _number),
    "00400244": (Level.SERIES, _days),
    "00400245": (Level.SERIES, _times),
    "00400275.00400009": (Level.SERIES, _exact(16)),
    "00400275.00401001": (Level.SERIES, _exact(16)),
    "00080018": (Level.INSTANCE, _uids),
    "00080016": (Level.INSTANCE, _uids),
    "00200013": (Level.INSTANCE, _number),
}
"""What can be matched: Table 10.6.1-5 and what viewers ask beside it."""

_DATES_WITH_TIMES = {"00080020": "00080030", "00400244": "00400245"}
_DEPTH = {Level.STUDY: 0, Level.SERIES: 1, Level.INSTANCE: 2}
_MODES = frozenset({"fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
_MANY = 2**53


def parse(
    level: Level,
    study: str | None,
    series: str | None,
    params: Sequence[tuple[str, str]],
    limits: Limits | None = None,
) -> Query:
    """What decoded query parameters ask for; BadRequest names the parameter that cannot be understood.

    Unknown parameters, attributes of a deeper level and empty names are ignored, an empty key is universal.
    """
    limits = limits or Limits()
    included = [name.strip() for key, value in params if key == "includefield" for name in value.split(",")]
    asked = {key: value for key, value in params if key in _MODES or key in {"limit", "offset"}}
    return Query(
        level=level,
        study=study,
        series=series,
        matches=_combined(_matches(level, params)),
        includefield=frozenset(tag for name in included if (tag := tag_of(name))),
        include_all="all" in included,
        limit=min(_count("limit", asked, limits.default_limit), limits.max_limit),
        offset=min(_count("offset", asked, 0), _MANY),
        unapplied=frozenset(mode for mode in _MODES if asked.get(mode, "").lower() == "true"),
    )


def _count(name: str, asked: dict[str, str], default: int) -> int:
    value = asked.get(name, "").strip()
    if value and not re.fullmatch(r"\d{1,100}", value, re.ASCII):
        raise BadRequest(f"{name}: not a whole number from 0.")
    return int(value) if value else default


def _matches(level: Level, params: Iterable[tuple[str, str]]) -> list[Match]:
    found = []
    for name, key in params:
        tag = _attribute(name)
        if tag not in KEYS or not key.strip("* \0"):  # C.2.2.2.3: universal
            continue
        own, understand = KEYS[tag]
        if _DEPTH[own] <= _DEPTH[level] and (value := understand(tag, key)):
            found.append(Match(tag, value))
    return found


def _attribute(name: str) -> str | None:
    """The tag of a parameter; a word that nobody knows is some other parameter."""
    if tag := tag_of(name):
        return tag
    if "." in name or re.match(r"[0-9(]", name):
        raise BadRequest(f"{name[:80]!r}: not an attribute.")
    return None


def _combined(matches: list[Match]) -> tuple[Match, ...]:
    """A date and a time key are one range of moments (C.2.2.2.5.4), as dcm4chee has it without negotiation."""
    for tag, partner in _DATES_WITH_TIMES.items():
        given = {match.tag: match.value for match in matches if match.tag in {tag, partner}}
        days, times = given.get(tag), given.get(partner)
        if isinstance(days, Between) and isinstance(times, Between):
            matches = [match for match in matches if match.tag not in given]
            low = _moment(days.low, times.low, "000000.000000")
            matches.append(Match(tag, Between(low, _moment(days.high, times.high, "235960.999999"))))
    return tuple(matches)


def _moment(day_: object, time: object, open_end: str) -> Moment | None:
    return (day_, time if isinstance(time, str) else open_end) if isinstance(day_, date) else None
