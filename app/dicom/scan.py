"""What a scan says of an instance: nouns that every room may hold (PS3.10, PS3.18 F)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is read of a header, and the length above which a binary value is bulk data.

    `metadata_bytes` bounds what comes of an instance as DICOM JSON or XML.
    `normalise` takes objects that must be inflated or byte-swapped to be served; `inflated_bytes` bounds what
    comes out of one, `inflation_ratio` how much of it an input byte may become beyond the first mebibytes.
    """

    header_bytes: int = 64 << 20
    elements: int = 1_000_000
    depth: int = 64
    value_bytes: int = 16 << 20
    bulk_threshold: int = 1024
    meta_bytes: int = 512 << 10
    json_bytes: int = 32 << 20
    metadata_bytes: int = 16 << 20
    bulk_values: int = 100_000
    normalise: bool = False
    inflated_bytes: int = 4 << 30
    inflation_ratio: int = 200


@dataclass(frozen=True, slots=True)
class Head:
    """Which instance this is: the data set's UIDs, trimmed, and the file meta's transfer syntax."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Bulk:
    """Where a long value lies: path '7FE00010' or '54000100/1/54001010' as `bulk_path` tells."""

    path: str
    vr: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where the pixels lie.

    Native: `offset` and `length` are the value's, `frame_bits` the length of a frame (1-bit frames may start
    inside a byte), `number_of_frames` what was declared and fits.

    Encapsulated: `offset` and `length` run from the Basic Offset Table's item up to the sequence delimiter;
    `fragments` holds '<QQ' (offset, length) a fragment, the table excluded; `frame_starts` holds '<I' a frame,
    the index of its first fragment, and nothing when frame n is fragment n or all are one stream (a video, whose
    `number_of_frames` is the declared one). `stream_length` is the length of all fragments joined without the pad.
    """

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
    """One instance described; `json` names bulk data as "@/PATH", `fields` are the wanted attribute objects.

    `dataset_offset` and `size` are of the bytes that were fed. When `normalised`, all extents (bulk, pixels,
    fragments) lie in the object that `Normaliser` makes of them, and frames and bulk data there are little endian.
    """

    head: Head
    json: bytes
    fields: dict[str, bytes]
    bulk: tuple[Bulk, ...]
    pixels: Pixels | None
    dataset_offset: int
    size: int
    normalised: bool = False
