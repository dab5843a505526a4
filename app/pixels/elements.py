"""Values out of a parsed DICOM JSON object, wrong ones as good as absent (PS3.18 F.2)."""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Elements:
    """One data set or sequence item; `needs` gathers the bulk values that were looked for and not at hand."""

    data: Mapping[str, Any]
    bulk: Mapping[str, bytes] = field(default_factory=dict)
    path: str = ""
    needs: list[str] = field(default_factory=list)

    def __contains__(self, tag: str) -> bool:
        return isinstance(self.data.get(tag), dict)

    def vr(self, tag: str) -> str:
        """The value representation, or nothing."""
        element = self.data.get(tag)
        vr = element.get("vr") if isinstance(element, dict) else None
        return vr if isinstance(vr, str) else ""

    def values(self, tag: str) -> list[Any]:
        """What stands under Value."""
        element = self.data.get(tag)
        values = element.get("Value") if isinstance(element, dict) else None
        return values if isinstance(values, list) else []

    def text(self, tag: str) -> str:
        """The first value without its blanks."""
        values = self.values(tag)
        return values[0].strip(" \0") if values and isinstance(values[0], str) else ""

    def texts(self, tag: str) -> list[str]:
        """All values that are text."""
        return [value.strip(" \0") for value in self.values(tag) if isinstance(value, str)]

    def numbers(self, tag: str) -> list[float]:
        """The leading finite numbers; DS and IS may be strings (F.2.3.1)."""
        numbers = []
        for value in self.values(tag):
            number = _number(value)
            if number is None:
                break
            numbers.append(number)
        return numbers

    def number(self, tag: str, default: float) -> float:
        """The first number."""
        numbers = self.numbers(tag)
        return numbers[0] if numbers else default

    def integer(self, tag: str) -> int | None:
        """The first number when it is whole."""
        numbers = self.numbers(tag)
        return int(numbers[0]) if numbers and numbers[0].is_integer() else None

    def item(self, tag: str, number: int = 1) -> Elements | None:
        """An item of a sequence, from 1."""
        items = self.values(tag)
        if not 1 <= number <= len(items) or not isinstance(items[number - 1], dict):
            return None
        return Elements(items[number - 1], self.bulk, f"{self.path}{tag}/{number}/", self.needs)

    def binary(self, tag: str) -> bytes | None:
        """The bytes of an inline or bulk value, little endian; None notes a missing bulk value."""
        element = self.data.get(tag)
        if not isinstance(element, dict):
            return None
        path = self.path + tag
        if path in self.bulk:
            return self.bulk[path]
        inline = element.get("InlineBinary")
        if isinstance(inline, str):
            try:
                return binascii.a2b_base64(inline)
            except ValueError:  # binascii.Error, or characters beyond ASCII
                return None
        if "BulkDataURI" in element:
            self.needs.append(path)
        return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
