"""DICOM JSON as the Native DICOM Model in XML (PS3.19 A.1), for whoever asks for application/dicom+xml."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from app.dicom import tags

OPENING: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM" xml:space="preserve">'
)
CLOSING: Final = b"</NativeDicomModel>\n"
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_NAME_PARTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
# Characters that no XML 1.0 document can hold; they are no part of any text VR but a few that are met.
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(dataset: Mapping[str, Any]) -> bytes:
    """One data set as a whole document."""
    return OPENING + attributes(dataset) + CLOSING


def attributes(dataset: Mapping[str, Any]) -> bytes:
    """A data set's attributes, in the order of their tags."""
    return "".join(_attributes(dataset)).encode()


def opened(tag: str, vr: str) -> bytes:
    """The beginning of an attribute, for a sequence that is written item by item."""
    return f"<DicomAttribute{_names(tag, vr, '')}>".encode()


def item(dataset: Mapping[str, Any], number: int) -> bytes:
    """One item of such a sequence, counted from 1."""
    return b'<Item number="%d">' % number + attributes(dataset) + b"</Item>"


CLOSED: Final = b"</DicomAttribute>"


def _attributes(dataset: Mapping[str, Any]) -> Iterator[str]:
    for tag in sorted(dataset):
        attribute = dataset[tag]
        creator = _creator(tag, dataset)
        if creator:
            yield f"<DicomAttribute{_names(f'{tag[:4]}00{tag[6:]}', attribute['vr'], creator)}>"
        else:
            yield f"<DicomAttribute{_names(tag, attribute['vr'], '')}>"
        yield from _content(attribute)
        yield "</DicomAttribute>"


def _names(tag: str, vr: str, creator: str) -> str:
    keyword = "" if creator else tags.keyword_of(tag)
    named = f' keyword="{keyword}"' if keyword else ""
    private = f" privateCreator={_quoted(creator)}" if creator else ""
    return f' tag="{tag}" vr="{vr}"{named}{private}'


def _creator(tag: str, dataset: Mapping[str, Any]) -> str:
    """Who reserved the block of a private tag (PS3.5 7.8.1)."""
    if not tags.is_private(tag) or tag[4:6] == "00":
        return ""
    values = dataset.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value", [""])
    return str(values[0] or "")


def _content(attribute: Mapping[str, Any]) -> Iterator[str]:
    if "BulkDataURI" in attribute:
        yield f"<BulkData uri={_quoted(attribute['BulkDataURI'])}/>"
    elif "InlineBinary" in attribute:
        yield f"<InlineBinary>{attribute['InlineBinary']}</InlineBinary>"
    for number, value in enumerate(attribute.get("Value", ()), 1):
        if attribute["vr"] == "SQ":
            yield f'<Item number="{number}">'
            yield from _attributes(value or {})
            yield "</Item>"
        elif attribute["vr"] == "PN":
            yield from _name(value, number)
        else:
            yield f'<Value number="{number}">{_escaped("" if value is None else str(value))}</Value>'


def _name(value: Any, number: int) -> Iterator[str]:
    yield f'<PersonName number="{number}">'
    groups = value if isinstance(value, dict) else {_GROUPS[0]: value or ""}
    for group in _GROUPS:
        if groups.get(group):
            parts = str(groups[group]).split("^", len(_NAME_PARTS) - 1)
            told = zip(_NAME_PARTS, parts, strict=False)
            inner = "".join(f"<{part}>{_escaped(text)}</{part}>" for part, text in told if text)
            yield f"<{group}>{inner}</{group}>"
    yield "</PersonName>"


def _escaped(text: str) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", text), {"\r": "&#13;"})


def _quoted(text: str) -> str:
    return quoteattr(_FORBIDDEN.sub("\ufffd", text))
