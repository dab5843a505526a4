"""What every journey sends, and what it is told."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from tests import make

MULTIPART = 'multipart/related; type="application/dicom"; boundary=reelweb-test'
FAILED, OTHER, STORED, REASON = "00081198", "0008119A", "00081199", "00081197"

get = httpx.get


def post(url: str, *instances: bytes) -> httpx.Response:
    body, headers = make.multipart(instances), {"Content-Type": MULTIPART}
    return httpx.post(f"{url}/dicom-web/studies", content=body, headers=headers, timeout=120)


def paths(answer: httpx.Response) -> list[str]:
    return [urlsplit(item["00081190"]["Value"][0]).path for item in answer.json()[STORED]["Value"]]


def reasons(answer: httpx.Response) -> list[int]:
    told = answer.json()
    return [
        item[REASON]["Value"][0] for tag in (FAILED, OTHER) for item in told.get(tag, {}).get("Value", ())
    ]


def assert_there(url: str, path: str, data: bytes) -> None:
    assert get(url + path, headers={"Accept": "application/dicom"}, timeout=60).content == data
