"""The tables of attributes are consistent, and names of attributes are read as PS3.18 8.3.4.1 writes them."""

from __future__ import annotations

import pytest

from app.dicom import attributes
from app.dicom.attributes import ATTRIBUTES, Level, tag_of


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("PatientName", "00100010"),
        ("00100010", "00100010"),
        ("0020000d", "0020000D"),
        ("RequestAttributesSequence.ScheduledProcedureStepID", "00400275.00400009"),
        ("00400275.00400009", "00400275.00400009"),
        ("00091001", "00091001"),
        ("patientname", None),
        ("0010001", None),
        ("", None),
        ("PatientName.", None),
        (".", None),
        ("٠٠١٠٠٠١٠", None),
    ],
)
def test_a_name_is_a_keyword_a_tag_or_a_path(name: str, tag: str | None) -> None:
    assert tag_of(name) == tag


def test_keywords_come_back() -> None:
    path = "00400275.00400009"
    assert attributes.keyword_of(path) == "RequestAttributesSequence.ScheduledProcedureStepID"
    assert attributes.keyword_of("00091001") == "00091001"


def test_every_attribute_is_listed_once_a_level() -> None:
    """Ascending by tag; only Timezone Offset From UTC is of all levels."""
    assert len({(one.tag, one.level) for one in ATTRIBUTES}) == len(ATTRIBUTES)
    assert [one.tag for one in ATTRIBUTES] == sorted(one.tag for one in ATTRIBUTES)
    several = [tag for tag in attributes.STORED if sum(one.tag == tag for one in ATTRIBUTES) > 1]
    assert several == ["00080201"]


def test_required_attributes_are_defaults() -> None:
    for level in Level:
        assert set(attributes.REQUIRED[level]) <= attributes.DEFAULTS[level] <= attributes.OF_LEVEL[level]
        assert not attributes.COMPUTED[level] & attributes.OF_LEVEL[level]
