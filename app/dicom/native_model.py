"""The Native DICOM Model in XML, read as DICOM JSON (PS3.19 A.1, PS3.18 F.3).

No document type is taken, so there are no entities: nothing expands, nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from xml.parsers import expat

from app.dicom import tags
from app.dicom.elements import VRS
from app.errors import FailureReason, Refused

_MOST_ELEMENTS: Final = 500_000
_DEEPEST: Final = 140  # XML elements; a sequence adds two
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_NAME_PARTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_INTEGERS: Final = frozenset(["IS", "SL", "SS", "SV", "UL", "US", "UV"])
_DECIMALS: Final = frozenset(["DS", "FD", "FL"])
_SAFE: Final = 1 << 53

Json = dict[str, Any]


class Reader:
    """Feed it a document in chunks of any size; `close` gives its data set. `Refused` may come from both."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._take_text
        self._parser.StartDoctypeDeclHandler = _refuse_doctype
        self._path: list[str] = []
        self._datasets: list[Json] = []
        self._attributes: list[Json] = []
        self._root: Json | None = None
        self._text: list[str] = []
        self._group: list[str] = []  # the parts of the name's component group at hand
        self._elements = 0

    def feed(self, chunk: bytes | memoryview) -> None:
        """The document's next bytes."""
        self._parse(chunk)

    def close(self) -> Json:
        """The data set as a DICOM JSON Model object."""
        self._parse(b"", is_last=True)
        assert self._root is not None  # expat asks for one element, and _start for which
        return self._root

    def _parse(self, chunk: bytes | memoryview, *, is_last: bool = False) -> None:
        try:
            self._parser.Parse(bytes(chunk), is_last)
        except expat.ExpatError as error:
            raise Refused(f"The metadata are no well-formed XML ({expat.ErrorString(error.code)}).") from None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(" ")[2]
        outer = self._path[-1] if self._path else ""
        self._elements += 1
        if self._elements > _MOST_ELEMENTS or len(self._path) >= _DEEPEST:
            raise Refused("The metadata have too many XML elements.", FailureReason.OUT_OF_RESOURCES)
        begin = _BEGINNINGS.get((outer, name))
        if begin is not None:
            begin(self, attributes)
        elif outer not in _GROUPS or name not in _NAME_PARTS:
            raise Refused("The metadata have an XML element that the Native DICOM Model has not.")
        self._path.append(name)
        self._text.clear()

    def _end(self, name: str) -> None:
        self._path.pop()
        text = "".join(self._text)
        self._text.clear()
        finish = _ENDS.get(name.rpartition(" ")[2])
        if finish is not None:
            finish(self, text)
        elif self._path and self._path[-1] in _GROUPS:
            self._group[_NAME_PARTS.index(name.rpartition(" ")[2])] = text

    def _take_text(self, text: str) -> None:
        self._text.append(text)

    # --- elements that begin --------------------------------------------------------------------------------

    def _begin_model(self, _attributes: dict[str, str]) -> None:
        self._root = {}
        self._datasets.append(self._root)

    def _begin_attribute(self, attributes: dict[str, str]) -> None:
        tag, vr = attributes.get("tag", "").upper(), attributes.get("vr", "")
        if vr not in VRS or len(tag) != 8:
            raise Refused("The metadata have an attribute without a tag, or of no VR.")
        self._attributes.append({"vr": vr})
        self._datasets[-1][self._placed(tag, attributes.get("privateCreator", ""))] = self._attributes[-1]

    def _placed(self, tag: str, creator: str) -> str:
        """A private tag in the block that its creator has in this data set (PS3.19 A.1.2, PS3.5 7.8.1)."""
        if not creator or len(tag) != 8 or not tags.is_private(tag) or tag[4:6] != "00":
            return tag
        dataset, group = self._datasets[-1], tag[:4]
        blocks = {f"{block:02X}": dataset.get(f"{group}00{block:02X}") for block in range(0x10, 0x100)}
        reserved = (block for block, held in blocks.items() if held and held.get("Value") == [creator])
        free = (block for block, held in blocks.items() if held is None)
        block = next(reserved, "") or next(free, "")
        if not block:
            raise Refused("The metadata have more private blocks than a group can hold.")
        dataset[f"{group}00{block}"] = {"vr": "LO", "Value": [creator]}
        return f"{group}{block}{tag[6:]}"

    def _begin_bulk(self, attributes: dict[str, str]) -> None:
        uri = attributes.get("uri") or attributes.get("uuid") or attributes.get("UUID")
        if not uri:
            raise Refused("The metadata have bulk data without a URI.")
        self._attributes[-1]["BulkDataURI"] = uri

    def _begin_numbered(self, attributes: dict[str, str]) -> None:
        """Value, Item, PersonName: in the order of their numbers, which has no gaps but empty values."""
        values = self._attributes[-1].setdefault("Value", [])
        number = attributes.get("number", "")
        wanted = int(number) - 1 if number.isascii() and number.isdigit() else len(values)
        if not len(values) <= wanted <= len(values) + 1024:
            raise Refused("The metadata have values whose numbers do not rise.")
        values.extend([None] * (wanted - len(values)))

    def _begin_item(self, attributes: dict[str, str]) -> None:
        self._begin_numbered(attributes)
        self._datasets.append({})
        self._attributes[-1]["Value"].append(self._datasets[-1])

    def _begin_name(self, attributes: dict[str, str]) -> None:
        self._begin_numbered(attributes)
        self._attributes[-1]["Value"].append({})

    def _begin_group(self, _attributes: dict[str, str]) -> None:
        self._group = [""] * len(_NAME_PARTS)

    def _begin_nothing(self, _attributes: dict[str, str]) -> None:
        pass

    # --- elements that end ----------------------------------------------------------------------------------

    def _end_group(self, group: str) -> None:
        if any(self._group):
            self._attributes[-1]["Value"][-1][group] = "^".join(self._group).rstrip("^")

    def _end_name(self, _text: str) -> None:
        values = self._attributes[-1]["Value"]
        values[-1] = values[-1] or None

    def _end_value(self, text: str) -> None:
        self._attributes[-1]["Value"].append(_value(self._attributes[-1]["vr"], text))

    def _end_inline(self, text: str) -> None:
        self._attributes[-1]["InlineBinary"] = "".join(text.split())

    def _end_item(self, _text: str) -> None:
        self._datasets.pop()

    def _end_attribute(self, _text: str) -> None:
        attribute = self._attributes.pop()
        if attribute.get("Value") in ([], [None]):
            del attribute["Value"]


def _refuse_doctype(*_told: object) -> None:
    raise Refused("The metadata declare a document type, which none of ours has.")


def _value(vr: str, text: str) -> object:
    """As the JSON model has it: numbers where a reader with doubles keeps every digit (PS3.18 F.2.3)."""
    stripped = text.strip()
    if not stripped:
        return text if text and vr not in _INTEGERS | _DECIMALS else None
    try:
        if vr in _INTEGERS:
            number = int(stripped)
            return number if -_SAFE <= number <= _SAFE else stripped
        if vr in {"FL", "FD"}:
            real = float(stripped)
            return real if real - real == 0 else stripped
    except ValueError:
        return stripped
    return stripped if vr == "DS" else text


_BEGINNINGS: Final[dict[tuple[str, str], Callable[[Reader, dict[str, str]], None]]] = {
    ("", "NativeDicomModel"): Reader._begin_model,  # noqa: SLF001 - its own
    ("NativeDicomModel", "DicomAttribute"): Reader._begin_attribute,  # noqa: SLF001
    ("Item", "DicomAttribute"): Reader._begin_attribute,  # noqa: SLF001
    ("DicomAttribute", "Value"): Reader._begin_numbered,  # noqa: SLF001
    ("DicomAttribute", "Item"): Reader._begin_item,  # noqa: SLF001
    ("DicomAttribute", "PersonName"): Reader._begin_name,  # noqa: SLF001
    ("DicomAttribute", "BulkData"): Reader._begin_bulk,  # noqa: SLF001
    ("DicomAttribute", "InlineBinary"): Reader._begin_nothing,  # noqa: SLF001
    **{("PersonName", group): Reader._begin_group for group in _GROUPS},  # noqa: SLF001
}
_ENDS: Final[dict[str, Callable[[Reader, str], None]]] = {
    "DicomAttribute": Reader._end_attribute,  # noqa: SLF001
    "Value": Reader._end_value,  # noqa: SLF001
    "Item": Reader._end_item,  # noqa: SLF001
    "PersonName": Reader._end_name,  # noqa: SLF001
    "InlineBinary": Reader._end_inline,  # noqa: SLF001
    **{group: lambda reader, _text, group=group: reader._end_group(group) for group in _GROUPS},  # type: ignore[misc]  # noqa: SLF001
}
