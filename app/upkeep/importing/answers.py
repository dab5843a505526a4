"""What another server says became of the instances of one request (PS3.18 10.5.3, I.2), as JSON or as XML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree import ElementTree as ET

import orjson

from app.errors import FailureReason

_FAILED: Final = "00081198"
_STORED: Final = "00081199"
_OTHER: Final = "0008119A"
_UID: Final = "00081155"
_FAILURE: Final = "00081197"
_WARNING: Final = "00081196"
_NOT_WHOLE: Final = {
    0xB006,
    0xB007,
}  # elements discarded, data set does not match: it is not there as it was sent

_MEANINGS: Final = {
    FailureReason.PROCESSING_FAILURE: "it failed",
    FailureReason.DUPLICATE_SOP_INSTANCE: "another instance is stored under the SOP Instance UID",
    0x0122: "its SOP Class is not supported",
    FailureReason.TRANSFER_SYNTAX_NOT_SUPPORTED: "it does not allow it",
    0xC122: "its transfer syntax is not supported",
    FailureReason.STUDY_MISMATCH: "its data set does not match",
    FailureReason.OUT_OF_RESOURCES: "it is out of resources",
    FailureReason.CANNOT_UNDERSTAND: "it cannot understand it",
}

Item = dict[str, Any]


@dataclass(slots=True)
class Answer:
    """UIDs of what was stored, with a warning or without, and of what was not; reasons of what it could not name."""

    stored: set[str] = field(default_factory=set)
    warned: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)

    @property
    def is_telling(self) -> bool:
        """It says something of some instance."""
        return bool(self.stored or self.warned or self.failed or self.other)


def read(body: bytes) -> Answer:
    """What can be understood of it; nothing where it is neither."""
    answer = Answer()
    for tag, item in _items(body):
        uid = item.get(_UID)
        if tag == _STORED:
            if uid and item.get(_WARNING) in _NOT_WHOLE:
                answer.warned[uid] = f"The other server warned of it: {item[_WARNING]:04X}."
            elif uid:
                answer.stored.add(uid)
        elif uid:
            answer.failed[uid] = _reason(item.get(_FAILURE))
        else:
            answer.other.append(_reason(item.get(_FAILURE)))
    return answer


def _reason(code: object) -> str:
    if not isinstance(code, int):
        return "The other server refused it."
    meaning = _MEANINGS.get(code)
    return f"The other server refused it: {code:04X}" + (f", {meaning}." if meaning else ".")


def _items(body: bytes) -> Iterator[tuple[str, Item]]:
    if body.lstrip()[:1] == b"<":
        yield from _of_xml(body)
        return
    try:
        module = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    if isinstance(module, list):  # some send an array of one
        module = module[0] if module else {}
    if isinstance(module, dict):
        yield from _of_json(module)


def _of_json(module: dict[str, Any]) -> Iterator[tuple[str, Item]]:
    for tag in (_FAILED, _STORED, _OTHER):
        element = module.get(tag)
        items = element.get("Value") if isinstance(element, dict) else None
        for item in items if isinstance(items, list) else []:
            if isinstance(item, dict):
                yield tag, {name: _first(item.get(name)) for name in (_UID, _FAILURE, _WARNING)}


def _first(element: object) -> Any:
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _of_xml(body: bytes) -> Iterator[tuple[str, Item]]:
    """The Native DICOM Model (PS3.19 A.1), whatever its name space."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - expat bounds what entities expand to
    except ET.ParseError:
        return
    for attribute in root.iter():
        tag = attribute.get("tag", "")
        if tag in {_FAILED, _STORED, _OTHER}:
            for item in attribute:
                yield tag, dict(_of_item(item))


def _of_item(item: ET.Element) -> Iterator[tuple[str, Any]]:
    for attribute in item:
        tag, value = attribute.get("tag", ""), next(iter(attribute), None)
        text = value.text if value is not None else None
        if text and tag in {_FAILURE, _WARNING}:
            yield tag, int(text.strip()[:9]) if text.strip().isdecimal() else None
        elif text and tag == _UID:
            yield tag, text.strip()
