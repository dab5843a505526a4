"""STOW in, QIDO and WADO out: every file of the corpora through a real socket, in one request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import orjson
import pytest

from tests import corpus, make
from tests.dicom.corpus import comparable, expected_json, read

FILES = corpus.everything()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # the corpus breaks rules on purpose


@pytest.fixture(scope="module")
def told(server: str) -> Mapping[str, Any]:
    """The answer to one request with all files of all corpora."""
    body = make.multipart(file.data for file in FILES.values())
    answer = httpx.post(
        f"{server}/dicom-web/studies",
        content=body,
        headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary="reelweb-test"'},
        timeout=120,
    )
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/dicom+json"
    module: dict[str, Any] = answer.json()
    return module


def urls(told: Mapping[str, Any]) -> dict[str, str]:
    """The URL of each stored instance by its SOP Instance UID."""
    return {item["00081155"]["Value"][0]: item["00081190"]["Value"][0] for item in told["00081199"]["Value"]}


def expected(kind: str) -> list[str]:
    return [name for name, file in FILES.items() if file.expected.startswith(kind)]


def test_every_part_has_an_outcome(told: Mapping[str, Any]) -> None:
    """Nothing is lost in silence: stored, failed and unreadable add up to what was sent."""
    counts = [len(told.get(tag, {}).get("Value", ())) for tag in ("00081199", "00081198", "0008119A")]
    assert sum(counts) == len(FILES)


@pytest.mark.parametrize("name", expected("stored"))
def test_what_should_be_stored_comes_back_identical_and_is_found(
    told: Mapping[str, Any], server: str, name: str
) -> None:
    file = FILES[name]
    uid = str(read(file.data).SOPInstanceUID)
    url = urls(told)[uid]
    whole = httpx.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert whole.status_code == 200
    assert whole.content == file.data
    found = httpx.get(f"{server}/dicom-web/instances", params={"SOPInstanceUID": uid}).json()
    assert [instance["00080018"]["Value"] for instance in found] == [[uid]]
    (told_by_us,) = httpx.get(f"{url}/metadata").json()
    told_by_us.pop("00083002", None)  # ours: the video can be played
    if name != "structure/every-vr.dcm":  # pydicom cannot write it
        assert comparable(orjson.dumps(told_by_us)) == expected_json(file.data)


@pytest.mark.parametrize("name", expected("refused"))
def test_what_lacks_a_needed_uid_is_refused(told: Mapping[str, Any], name: str) -> None:
    uid = read(FILES[name].data).get("SOPInstanceUID") if FILES[name].data else None
    assert uid is None or str(uid) not in urls(told)


def test_each_refusal_has_a_reason(told: Mapping[str, Any]) -> None:
    for tag in ("00081198", "0008119A"):
        for item in told[tag]["Value"]:
            (reason,) = item["00081197"]["Value"]
            assert 0x0100 <= reason <= 0xFFFF, json.dumps(item)
