"""Searches find what PS3.4 C.2.2.2 says, tell what PS3.18 10.6.3.3 says, in one statement."""

from __future__ import annotations

from typing import Any

import orjson

from app import query
from app.dicom import matching
from app.dicom.attributes import Level
from app.index import Index
from tests.index import scans
from tests.index.scans import element, name


async def ask(index: Index, level: Level, *params: tuple[str, str], study: str | None = None) -> list[Any]:
    found = await query.search(index, matching.parse(level, study, None, params))
    return [orjson.loads(row) for row in found.rows]


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
