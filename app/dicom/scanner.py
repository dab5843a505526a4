"""Stand-in for the types of the scanner; never committed."""

from __future__ import annotations

from dataclasses import dataclass

SCANNER_VERSION = 1


@dataclass(frozen=True, slots=True)
class Head:
    """UIDs."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Bulk:
    """A bulk value."""

    path: str
    vr: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pixels."""

    tag: str
    vr: str
    offset: int
    length: int
    number_of_frames: int
    frame_bits: int
    fragments: bytes
    frame_starts: bytes
    stream_length: int
    container: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What was seen."""

    head: Head
    json: bytes
    fields: dict[str, bytes]
    bulk: tuple[Bulk, ...]
    pixels: Pixels | None
    dataset_offset: int
    size: int
