"""DICOM JSON as bytes: small objects written, bulk data addressed, objects joined (PS3.18 F)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import orjson

MARK: Final = b'"BulkDataURI":"@/'
"""How a scan writes where bulk data lie. It cannot stand inside a JSON string, where quotes are escaped."""

_AFTER_QUOTE: Final = b'"BulkDataURI":"'


def addressed(json: bytes, root: str) -> bytes:
    """Every BulkDataURI made an address below `root`, which ends in no slash."""
    address = orjson.dumps(root + "/")[1:-1]
    return json.replace(MARK, _AFTER_QUOTE + address)


def attribute(vr: str, *values: object) -> dict[str, object]:
    """One attribute of an answer that we write ourselves; empty when there are no values (PS3.18 F.2.5)."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def written(attributes: Mapping[str, object]) -> bytes:
    """A data set of our own, in the order of its tags."""
    return orjson.dumps(dict(attributes), option=orjson.OPT_SORT_KEYS)


def merged(json: bytes, more: Sequence[tuple[str, bytes]]) -> bytes:
    """A scanned object with attribute objects put before its end; none of them may be in it yet."""
    if not more:
        return json
    added = b",".join(b'"%b":%b' % (tag.encode(), value) for tag, value in more)
    return json[:-1] + (b"," if len(json) > len(b"{}") else b"") + added + b"}"


def array(objects: Iterable[bytes]) -> bytes:
    """The objects as one JSON array."""
    return b"[" + b",".join(objects) + b"]"
