"""What a file is, told by its first bytes and never by its name alone (PS3.10 7.1, 8.6)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from app.dicom import prologue

DICOMDIR: Final = "DICOMDIR"
_PACKED: Final = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}


class Kind(StrEnum):
    """Each is treated in its own way; what is nothing of them is no business of an import."""

    DICOM = "DICOM"
    DIRECTORY = "DICOMDIR"
    ZIP = "zip"
    TAR = "tar"
    PACKED = "packed"
    OTHER = "other"


def kind(first: bytes, last_name: str) -> Kind:
    """What begins so; a DICOMDIR is one by its name, which PS3.10 fixes."""
    if prologue.is_begun_by(first):
        return Kind.DIRECTORY if last_name.upper() == DICOMDIR else Kind.DICOM
    if first.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind.ZIP
    if first[257:262] == b"ustar":
        return Kind.TAR
    return Kind.OTHER if packing(first) is None else Kind.PACKED


def packing(first: bytes) -> str | None:
    """How something is compressed that may be a tar file."""
    return next((name for begin, name in _PACKED.items() if first.startswith(begin)), None)


def claims(last_name: str) -> bool:
    """Whether its name says that it should have been DICOM: what is broken must not pass for something else."""
    return last_name.lower().endswith((".dcm", ".dicom"))
