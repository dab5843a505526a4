"""Searches find what PS3.4 C.2.2.2 says, tell what PS3.18 10.6.3.3 says, in one statement."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from app import query
from app.dicom import matching, names
from app.dicom.attributes import Level
from app.errors import BadRequest
from app.index import Index
from app.index.connection import Connection
from app.index.found import PLACEHOLDER
from tests.index import scans
from tests.index.scans import counted, element, name


async def ask(index: Index, level: Level, *params: tuple[str, str], study: str | None = None) -> list[Any]:
    found = await query.search(index, matching.parse(level, study, None, params))
    return [orjson.loads(row) for row in found.rows]


async def uids(index: Index, *params: tuple[str, str]) -> list[str]:
    return [row["0020000D"]["Value"][0] for row in await ask(index, Level.STUDY, *params)]


async def test_a_study_tells_the_defaults_and_the_counters(index: Index) -> None:
    """Table 10.6.3-3: the type R attributes without a value when they are not known."""
    await scans.add(index, scans.scan({"PatientName": name("Doe^Jane"), "Modality": element("CS", "CT")}))
    (study,) = await ask(index, Level.STUDY)
    assert study == {
        "00080020": {"vr": "DA"},
        "00080030": {"vr": "TM"},
        "00080050": {"vr": "SH"},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": ["CT"]},
        "00080090": {"vr": "PN"},
        "00081190": {"vr": "UR", "Value": ["@/studies/1.2.3"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": {"vr": "LO"},
        "00100030": {"vr": "DA"},
        "00100040": {"vr": "CS"},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00200010": {"vr": "SH"},
        "00201206": {"vr": "IS", "Value": [1]},
        "00201208": {"vr": "IS", "Value": [1]},
    }
    assert list(study) == sorted(study)


async def test_series_and_instances_tell_theirs_and_what_the_address_leaves_open(index: Index) -> None:
    """Tables 10.6.3-4 and -5; attributes of the levels above only where no address fixes them."""
    one = {"PatientID": element("LO", "P1"), "SeriesNumber": element("IS", 4), "Rows": element("US", 512)}
    await scans.add(index, scans.scan(one, sop="1.9"))
    (series,) = await ask(index, Level.SERIES, study="1.2.3")
    assert set(series) == {"00080056", "00080060", "00081190", "0020000D", "0020000E", "00200011", "00201209"}
    assert series["00081190"]["Value"] == ["@/studies/1.2.3/series/1.2.3.4"]
    (series,) = await ask(index, Level.SERIES)
    assert series["00100020"]["Value"] == ["P1"]
    assert series["00201208"]["Value"] == [1]
    (instance,) = await ask(index, Level.INSTANCE)
    assert instance["00280010"]["Value"] == [512]
    assert instance["00200011"]["Value"] == [4]
    assert instance["00100020"]["Value"] == ["P1"]
    assert instance["00081190"]["Value"] == ["@/studies/1.2.3/series/1.2.3.4/instances/1.9"]
    found = await query.search(index, matching.parse(Level.INSTANCE, "1.2.3", "1.2.3.4", []))
    assert set(orjson.loads(found.rows[0])) == {
        "00080016", "00080018", "00080056", "00081190", "0020000D", "0020000E", "00200013", "00280010"
    }  # fmt: skip
    assert found.rows[0].count(PLACEHOLDER) == 1


async def test_unknown_addresses_find_nothing(index: Index) -> None:
    await scans.add(index, scans.scan())
    assert await ask(index, Level.SERIES, study="9.9") == []
    assert await ask(index, Level.INSTANCE, study="9.9") == []
    found = await query.search(index, matching.parse(Level.INSTANCE, "1.2.3", "9.9", []))
    assert (found.rows, found.remaining) == ([], 0)


async def test_fields_are_included_from_rows_and_from_the_data_set(index: Index) -> None:
    """Own fields, fields of levels above, nested, private and all; fields of deeper levels are ignored."""
    elements = {
        "StudyDescription": element("LO", 'Knee \n "left" 山'),
        "PatientWeight": element("DS", 80.5),
        "00091001": element("LO", "private"),
        "KVP": element("DS", 120),
        "RequestAttributesSequence": element("SQ", {"00400009": element("SH", "S1")}),
        "EncapsulatedDocument": {"vr": "OB", "BulkDataURI": "@/00420011"},
    }
    await scans.add(index, scans.scan(elements, sop="1.9"))
    (study,) = await ask(index, Level.STUDY, ("includefield", "00081030,00080060,00080090,00100030"))
    assert study["00081030"] == elements["StudyDescription"]
    assert "00080060" not in study
    assert "00101030" not in study
    (study,) = await ask(index, Level.STUDY, ("includefield", "all"))
    assert study["00101030"] == elements["PatientWeight"]
    paths = "KVP,00091001,PatientWeight,RequestAttributesSequence.ScheduledProcedureStepID,00420011"
    (instance,) = await ask(index, Level.INSTANCE, ("includefield", paths), study="1.2.3")
    assert instance["00180060"] == elements["KVP"]
    assert instance["00091001"] == elements["00091001"]
    assert instance["00101030"] == elements["PatientWeight"]
    assert instance["00400275"] == elements["RequestAttributesSequence"]
    address = "studies/1.2.3/series/1.2.3.4/instances/1.9"
    assert instance["00420011"]["BulkDataURI"] == f"@/{address}/bulkdata/00420011"
    (instance,) = await ask(index, Level.INSTANCE, ("includefield", "all"), study="1.2.3")
    assert set(elements) - set(instance) == {
        "StudyDescription",
        "PatientWeight",
        "KVP",
        "RequestAttributesSequence",
        "EncapsulatedDocument",
    }
    assert {"00081030", "00101030", "00180060", "00400275"} <= set(instance)
    assert list(instance) == sorted(instance)


async def test_a_matched_attribute_is_returned(index: Index) -> None:
    """10.6.3.3.1: what was passed as a match is in the answer."""
    await scans.add(index, scans.scan({"StudyDescription": element("LO", "Knee")}))
    (study,) = await ask(index, Level.STUDY, ("StudyDescription", "KN*"))
    assert study["00081030"]["Value"] == ["Knee"]


_NAMES = [
    "Doe^Jane",
    "doe^jörg",
    "Müller^Doe^X",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Жуков^Георгий",
    "100%^a_b",
    "",
]
_MODALITIES = ["CT", "MR", "US", "XA", ""]
_DATES = ["20200101", "20200102", "20261122", "", "nonsense"]
_TIMES = ["090000", "10", "101530.5", "", "2359"]
_IDS = ["007", "7", "a%b", "a_b", "P*1", "p1", ""]
_DESCRIPTIONS = ["Knee left", "KNEE RIGHT", "Schädel", "", "50%\\"]

_PARAMS: list[tuple[str, list[str]]] = [
    ("PatientName", ["doe", "DOE^j*", "*o*", "jorg", "山田", "*山*", "жуков", "100%*", "a_b", "?oe", "Müller^^X", "x=山田", "^jane"]),
    ("PatientID", ["007", "7", "a%b", "a_b", "P?1", "p*", "*", "*0*", "nope"]),
    ("StudyDate", ["20200101", "20200101-20200102", "20200102-", "-20261122", "19990101"]),
    ("StudyTime", ["09", "0900-1015", "10-", "-0930", "2359"]),
    ("ModalitiesInStudy", ["CT", "CT,MR", "us", "C?", "X*\\MR", "NM"]),
    ("StudyDescription", ["knee left", "*knee*", "SCHÄDEL", "*%*", "schadel"]),
    ("StudyInstanceUID", ["1.0.1,1.0.2\\1.0.3", "1.0.4", "nope"]),
]  # fmt: skip


def like(pattern: str) -> Callable[[str], bool]:
    """The oracle's wildcard: as PS3.4 C.2.2.2.4 says, one character at a time."""
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return lambda value: re.fullmatch(expression, value, re.DOTALL) is not None


def in_range(key: str, value: Any, low: Callable[[str], Any], high: Callable[[str], Any]) -> bool:
    start, dash, end = key.partition("-")
    end = end if dash else start
    return value is not None and not (start and value < low(start)) and not (end and value > high(end))


def oracle(study: dict[str, Any], params: dict[str, str]) -> bool:
    """Does this study match? Written from the standard, one attribute after the other."""
    for key, wanted in params.items():
        have = study[key]
        match key:
            case "PatientName":
                framed = "".join(f"^{part}^=" for part in have.split("=") if part)
                folded = names.fold(f"={framed}")
                hit = (
                    all(like(names.pattern(group))(folded) for group in wanted.split("="))
                    if framed
                    else False
                )
            case "PatientID":
                hit = like(wanted)(have)
            case "StudyDescription":
                hit = like(wanted.casefold())(have.casefold())
            case "ModalitiesInStudy":
                hit = any(like(one.upper())(got) for one in re.split(r"[,\\]", wanted) for got in have if got)
            case "StudyInstanceUID":
                hit = have in re.split(r"[,\\]", wanted)
            case _:
                hit = True
        if not hit:
            return False
    return _in_time(study, params)


def _in_time(study: dict[str, Any], params: dict[str, str]) -> bool:
    day, time = matching.day(study["StudyDate"]), matching.clock(study["StudyTime"])

    def last(text: str) -> Any:
        return matching.clock(text, last=True)

    if "StudyDate" in params and "StudyTime" in params:
        days, times = params["StudyDate"].partition("-"), params["StudyTime"].partition("-")
        low_day, high_day = days[0], days[2] if days[1] else days[0]
        low_time, high_time = times[0], times[2] if times[1] else times[0]
        if day is None:
            return False
        low = (matching.day(low_day), matching.clock(low_time or "00")) if low_day else None
        high = (matching.day(high_day), last(high_time) if high_time else "24") if high_day else None
        if time is None:  # decided by the day alone, or not at all
            return not (low and day <= low[0]) and not (high and day >= high[0])  # type: ignore[operator]
        return not (low and (day, time) < low) and not (high and (day, time) > high)
    if "StudyDate" in params:
        return in_range(params["StudyDate"], day, matching.day, matching.day)
    return "StudyTime" not in params or in_range(params["StudyTime"], time, matching.clock, last)


async def _some_studies(index: Index, chance: random.Random) -> list[dict[str, Any]]:
    studies = []
    for number in range(40):
        modalities = chance.sample(_MODALITIES, 2)
        study: dict[str, Any] = {
            "StudyInstanceUID": f"1.0.{number}",
            "PatientName": chance.choice(_NAMES),
            "PatientID": chance.choice(_IDS),
            "StudyDate": chance.choice(_DATES),
            "StudyTime": chance.choice(_TIMES),
            "StudyDescription": chance.choice(_DESCRIPTIONS),
            "ModalitiesInStudy": modalities,
        }
        studies.append(study)
        elements = {
            "PatientName": name(study["PatientName"]) if study["PatientName"] else element("PN"),
            "PatientID": element("LO", study["PatientID"]),
            "StudyDate": element("DA", study["StudyDate"]),
            "StudyTime": element("TM", study["StudyTime"]),
            "StudyDescription": element("LO", study["StudyDescription"]),
        }
        for modality in modalities:
            one = scans.scan(
                elements | {"Modality": element("CS", modality)},
                study=f"1.0.{number}",
                series=f"1.0.{number}.{_MODALITIES.index(modality)}",
            )
            await scans.add(index, one)
    return studies


async def test_every_combination_of_keys_equals_the_oracle(index: Index) -> None:
    """Each key alone, and hundreds of random combinations, find what a program finds that reads every study."""
    chance = random.Random(7)
    studies = await _some_studies(index, chance)
    asked = [{key: one} for key, values in _PARAMS for one in values]
    asked += [
        {key: chance.choice(values) for key, values in chance.sample(_PARAMS, chance.randint(2, 4))}
        for _ in range(300)
    ]
    hits = 0
    for params in asked:
        expected = {one["StudyInstanceUID"] for one in studies if oracle(one, params)}
        assert set(await uids(index, *params.items())) == expected, params
        hits += len(expected)
    assert hits > 300


async def test_series_and_instances_match_theirs_and_the_levels_above(index: Index) -> None:
    requested = element("SQ", {"00401001": element("SH", "R1")}, {"00401001": element("SH", "R2", "R3")})
    one = {
        "PatientName": name("Doe^Jane"),
        "Modality": element("CS", "CT"),
        "SeriesNumber": element("IS", 3),
        "InstanceNumber": element("IS", 5),
        "PerformedProcedureStepStartDate": element("DA", "20261122"),
        "PerformedProcedureStepStartTime": element("TM", "1015"),
        "RequestAttributesSequence": requested,
    }
    await scans.add(index, scans.scan(one, sop="1.9"))
    await scans.add(index, scans.scan(sop="2.8", series="1.2.3.5"))
    for params in (
        [("Modality", "ct,MR"), ("PatientName", "doe")],
        [("SeriesNumber", "3"), ("ModalitiesInStudy", "CT"), ("SeriesInstanceUID", "1.2.3.4")],
        [("RequestAttributesSequence.RequestedProcedureID", "R3")],
        [("00400275.00401001", "?2")],
        [("PerformedProcedureStepStartDate", "20261122"), ("PerformedProcedureStepStartTime", "10-11")],
    ):
        (series,) = await ask(index, Level.SERIES, *params)
        assert series["0020000E"]["Value"] == ["1.2.3.4"]
        (instance,) = await ask(index, Level.INSTANCE, *params, ("SOPClassUID", scans.CT))
        assert instance["00080018"]["Value"] == ["1.9"]
    assert len(await ask(index, Level.INSTANCE, ("InstanceNumber", "5"))) == 1
    assert await ask(index, Level.INSTANCE, ("InstanceNumber", "x")) == []
    assert await ask(index, Level.INSTANCE, ("InstanceNumber", "9999999999")) == []
    assert await ask(index, Level.SERIES, ("RequestAttributesSequence.RequestedProcedureID", "R9")) == []


async def test_what_ohif_sends(index: Index) -> None:
    """The study list, the series panel and the thumbnails of OHIF, as recorded."""
    one = {
        "PatientName": name("Doe^Jane"),
        "StudyDate": element("DA", "20261122"),
        "PatientID": element("LO", "P1"),
    }
    await scans.add(index, scans.scan(one | {"SeriesDate": element("DA", "20261121")}, sop="1.9"))
    listed = [("limit", "101"), ("offset", "0"), ("fuzzymatching", "false")]
    fields = ("includefield", "00081030,00080060,00080090,00100030")
    filters = [("PatientName", "*do*"), ("00100020", "*1*"), ("StudyDate", "19700102-20261122")]
    assert await uids(index, *filters, *listed, fields, ("StudyInstanceUID", "1.2.3\\3.4")) == ["1.2.3"]
    assert await uids(index, *listed, fields, ("ModalitiesInStudy", "CT,MR")) == []
    (series,) = await ask(index, Level.SERIES, ("includefield", "00080021,00080031,0008103E"), study="1.2.3")
    assert series["00080021"]["Value"] == ["20261121"]
    rows = await ask(index, Level.INSTANCE, ("limit", "1"), ("includefield", "00080018"), study="1.2.3")
    assert rows[0]["00080018"]["Value"] == ["1.9"]


async def test_pages_cross_the_border_of_studies_without_a_date(index: Index) -> None:
    """Newest first, without a date last, and no page loses or repeats one."""
    days = ["20261122", "20200101", "", "20200101", ""]
    for number, day in enumerate(days):
        await scans.add(
            index, scans.scan({"StudyDate": element("DA", *([day] * bool(day)))}, study=f"1.{number}")
        )
    whole = await uids(index)
    assert [days[int(uid[2:])] for uid in whole] == ["20261122", "20200101", "20200101", "", ""]
    for size in (1, 2, 3):
        paged = [
            uid
            for at in range(0, 6, size)
            for uid in await uids(index, ("limit", str(size)), ("offset", str(at)))
        ]
        assert paged == whole


async def test_how_many_remain(index: Index, sql: Connection) -> None:
    """Exact up to a thousand further ones, then only that there are more; a page of none tells it too."""
    await sql.execute(_MANY_STUDIES, 2500)
    for params, expected in (
        ([("limit", "100"), ("offset", "2300")], (100, 100)),
        ([("limit", "500"), ("offset", "1000")], (500, 1000)),
        ([("limit", "100")], (100, 1001)),
        ([("limit", "0"), ("offset", "2490")], (0, 10)),
        ([("limit", "100"), ("offset", "2500")], (0, 0)),
        ([("limit", "100"), ("offset", "9" * 100)], (0, 0)),
        ([("limit", "100"), ("PatientID", "7"), ("StudyInstanceUID", "1.7")], (1, 0)),
    ):
        found = await query.search(index, matching.parse(Level.STUDY, None, None, params))
        assert (len(found.rows), found.remaining) == expected, params


_MANY_STUDIES = """
insert into study (study_instance_uid, described_by, study_date, accession_number, referring_physician_name_key,
    patient_name_key, patient_id, issuer_of_patient_id, patient_sex, study_id, study_description_key, attributes)
select '1.' || n, '1', date '2020-01-01' + n % 1000, n, '', '=^doe' || n || '^=', n, '', '', '', '',
    '"0020000D":{"vr":"UI","Value":["1.' || n || '"]}'
from generate_series(1, $1::integer) n"""


async def test_a_search_is_one_statement(index: Index) -> None:
    """Whatever is asked at whatever level, with fields from the data set or without."""
    await scans.add(index, scans.scan())
    for level in Level:
        for params in (
            [],
            [("includefield", "all")],
            [("PatientName", "*"), ("PatientID", "x"), ("limit", "1")],
        ):
            async with counted(index) as statements:
                await query.search(index, matching.parse(level, None, None, params))
            assert len(statements) == 1


async def test_deep_pages_are_read_from_the_index(index: Index, sql: Connection) -> None:
    """The rows before the page are passed over in the index alone, not fetched."""
    await sql.execute(_MANY_STUDIES, 40_000)
    await sql.execute("vacuum analyze study")
    from app.index.search import _statement  # noqa: PLC0415

    statement, arguments = _statement(matching.parse(Level.STUDY, None, None, [("offset", "20000")]))
    plan = "\n".join(row[0] for row in await sql.fetch(f"explain analyze {statement}", *arguments))
    assert "Index Only Scan using study_newest" in plan


@pytest.mark.parametrize(("name_", "key"), [("StudyDate", "x"), ("limit", "-1"), ("0010001", "x")])
def test_a_bad_parameter_never_reaches_the_database(name_: str, key: str) -> None:
    with pytest.raises(BadRequest, match=name_):
        matching.parse(Level.STUDY, None, None, [(name_, key)])
