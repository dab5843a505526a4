"""A search asks exactly what its parameters say (PS3.18 8.3.4, PS3.4 C.2.2.2)."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dicom import matching, names
from app.dicom.attributes import Level
from app.dicom.matching import NOTHING, Between, Like, Match, Named, OneOf, Query
from app.errors import BadRequest


def parse(*params: tuple[str, str], level: Level = Level.STUDY) -> Query:
    return matching.parse(level, None, None, params)


def value(name: str, key: str, level: Level = Level.INSTANCE) -> Any:
    matches = parse((name, key), level=level).matches
    return matches[0].value if matches else None


NEW, OLD = date(2026, 11, 22), date(2020, 1, 1)


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("StudyInstanceUID", "1.2,1.3\\1.4", OneOf(("1.2", "1.3", "1.4"))),
        ("StudyInstanceUID", "1" * 65, NOTHING),
        ("0020000d", "1.2 ", OneOf(("1.2",))),
        ("PatientID", " 007 ", OneOf(("007",))),
        ("PatientID", "*a_%", Like(("*a_%",))),
        ("PatientID", "7" * 65, NOTHING),
        ("AccessionNumber", "7" * 17, NOTHING),
        ("StudyDescription", "Knee LEFT", OneOf(("knee left",))),
        ("ModalitiesInStudy", "ct,MR", OneOf(("CT", "MR"))),
        ("ModalitiesInStudy", "C*\\MR", Like(("C*", "MR"))),
        ("StudyDate", "20261122", Between(NEW, NEW)),
        ("StudyDate", "2026.11.22", Between(NEW, NEW)),
        ("StudyDescription", "K" * 64, OneOf(("k" * 64,))),
        ("StudyDescription", "K" * 65, NOTHING),
        ("StudyDate", "20200101-20261122", Between(OLD, NEW)),
        ("StudyDate", "20200101-", Between(OLD, None)),
        ("StudyDate", "-20261122", Between(None, NEW)),
        ("StudyTime", "1015", Between("101500.000000", "101559.999999")),
        ("StudyTime", "10:15:30", Between("101530.000000", "101530.999999")),
        ("StudyTime", "10-11", Between("100000.000000", "115959.999999")),
        ("StudyTime", "-235960.5", Between(None, "235960.599999")),
        ("PatientName", "Müller", Named(("*^muller^*",))),
        ("PatientName", "doe^J*", Named(("*=^doe^j*^*",))),
        ("PatientName", "doe^^x^", Named(("*=^doe^*^x^*",))),
        ("PatientName", "Yamada=山田", Named(("*^yamada^*", "*^山田^*"))),
        ("PatientName", "^", None),
        ("PatientName", "x" * 65, NOTHING),
        ("SeriesNumber", "+03", OneOf((3,))),
        ("SeriesNumber", "three", NOTHING),
        ("RequestAttributesSequence.ScheduledProcedureStepID", "S1", OneOf(("S1",))),
        ("00400275.00401001", "R?", Like(("R?",))),
    ],
)
def test_a_key_is_understood_by_its_kind(name: str, key: str, expected: Any) -> None:
    assert value(name, key) == expected


@pytest.mark.parametrize("key", ["", "*", "**", " ", "\0"])
@pytest.mark.parametrize("tag", sorted(matching.KEYS))
def test_an_empty_key_is_universal(tag: str, key: str) -> None:
    assert value(tag, key) is None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("StudyDate", "2026112"),
        ("StudyDate", "20261322"),
        ("StudyDate", "-"),
        ("StudyDate", "20200101-x"),
        ("StudyDate", "2026*"),
        ("StudyTime", "2515"),
        ("StudyTime", "1"),
        ("PatientBirthDate", "19700101-19800101-"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", "9" * 101),
        ("offset", "1.5"),
        ("0010001", "x"),
        ("0010,0010", "x"),
        ("0010001G", "x"),
        ("RequestAttributesSequence.Nonsense", "x"),
    ],
)
def test_what_cannot_be_understood_is_named(name: str, key: str) -> None:
    """The message names the parameter, and never holds its value."""
    with pytest.raises(BadRequest) as refused:
        value(name, key)
    assert name in str(refused.value)
    assert len(key) < 3 or key not in str(refused.value)


def test_what_is_not_known_is_ignored() -> None:
    """Unknown parameters, deeper levels, empty names, known attributes that no key exists for."""
    params = [
        ("", ""),
        ("foo", "x"),
        ("_", "1"),
        ("Modality", "CT"),
        ("PatientWeight", "80"),
        ("accept", "x"),
    ]
    assert parse(*params) == Query(Level.STUDY)


def test_keys_of_levels_above_match_below() -> None:
    assert value("PatientID", "1", Level.SERIES) == OneOf(("1",))
    assert value("Modality", "CT", Level.INSTANCE) == OneOf(("CT",))
    assert value("Modality", "CT", Level.STUDY) is None


@pytest.mark.parametrize(
    ("day", "time", "low", "high"),
    [
        ("20200101-20261122", "10-11", (OLD, "100000.000000"), (NEW, "115959.999999")),
        ("20261122", "10", (NEW, "100000.000000"), (NEW, "105959.999999")),
        ("20200101-", "10-", (OLD, "100000.000000"), None),
        ("20200101-20261122", "-11", (OLD, "000000.000000"), (NEW, "115959.999999")),
        ("20200101-20261122", "10-", (OLD, "100000.000000"), (NEW, "235960.999999")),
    ],
)
def test_date_and_time_are_one_range(day: str, time: str, low: Any, high: Any) -> None:
    assert parse(("StudyTime", time), ("StudyDate", day)).matches == (Match("00080020", Between(low, high)),)


def test_the_study_list_of_ohif() -> None:
    """Recorded on the wire: fields by comma in one parameter, some of another level."""
    query = parse(
        ("limit", "101"),
        ("offset", "0"),
        ("fuzzymatching", "true"),
        ("includefield", "00081030,00080060,00080090,00100030"),
        ("ModalitiesInStudy", "CT,MR"),
        ("PatientName", "*doe*"),
    )
    assert (query.limit, query.offset, query.fuzzy) == (101, 0, True)
    assert query.includefield == {"00081030", "00080060", "00080090", "00100030"}
    assert query.matches == (Match("00080061", OneOf(("CT", "MR"))), Match("00100010", Named(("*^*doe*^*",))))


def test_includefield_by_keyword_tag_path_and_all() -> None:
    """Repeated and by comma; nonsense is ignored."""
    query = parse(
        ("includefield", "PatientSex,00100021,nonsense"), ("includefield", "0040,all"), ("limit", "5000")
    )
    assert query.includefield == {"00100040", "00100021"}
    assert query.include_all
    assert query.limit == 1000


@given(st.text(max_size=40))
def test_folding_is_stable(text: str) -> None:
    """A folded text folds to itself."""
    once = names.fold(text)
    assert names.fold(once) == once


@given(st.lists(st.text(alphabet="abÄ^ *?%_\\山", max_size=12), min_size=1, max_size=3))
def test_a_name_without_wildcards_matches_itself(groups: list[str]) -> None:
    """Each group of a name, taken as a key, is like the key of the name."""
    literal = [group.replace("*", "").replace("?", "") for group in groups]
    key = names.key(literal)
    for group in literal:
        if pattern := names.pattern(group):
            pieces = [piece for piece in pattern.split("*") if piece]
            at = 0
            for piece in pieces:
                at = key.find(piece, at)
                assert at >= 0
                at += len(piece)


_PARAMS = st.sampled_from([*matching.KEYS, "limit", "offset", "includefield", "fuzzymatching", "x", ""])


@given(st.sampled_from(list(Level)), st.lists(st.tuples(_PARAMS, st.text(max_size=30)), max_size=5))
def test_any_parameters_give_a_query_or_a_reason(level: Level, params: list[tuple[str, str]]) -> None:
    with suppress(BadRequest):
        query = matching.parse(level, None, None, params)
        assert 0 <= query.limit <= 1000
        assert all(match.tag in matching.KEYS for match in query.matches)
