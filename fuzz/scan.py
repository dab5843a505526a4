"""Hostile bytes for the scanner, its frame index and its JSON: a refusal or a sound description, and nothing else.

python fuzz/scan.py FOLDER -max_total_time=600      # arguments of libFuzzer; finds are added to FOLDER
python fuzz/scan.py --keep FOLDER                   # FOLDER becomes the kept corpus
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["app.dicom"]):
    import orjson

    from app.dicom import bulk_path, dicom_json
    from app.dicom.normalise import Normaliser
    from app.dicom.scanner import Limits, Pixels, Scan, Scanner
    from app.errors import Refused

from fuzz.kept import run

LIMITS = Limits(normalise=True, inflated_bytes=1 << 20, value_bytes=1 << 20, elements=10_000)
KEPT = Path(__file__).with_name("corpus.zip")
WANTED = frozenset({"00100010", "00080060", "00081115", "00200013"})


def outcome(data: bytes, size: int) -> Scan | str:
    """The scan in chunks of one size, or the sentence of a refusal."""
    scanner, view = Scanner(LIMITS, WANTED), memoryview(data)
    try:
        for at in range(0, len(data), size):
            for _ in scanner.steps(view[at : at + size]):
                pass
        return scanner.close()
    except Refused as refused:
        return str(refused)


def normalised(data: bytes) -> bytes:
    """The object that the extents refer to."""
    normaliser = Normaliser(LIMITS)
    return b"".join([*normaliser.feed(data), normaliser.close()])


def check(found: Scan, object_bytes: bytes) -> None:
    """What a scan says is true of the object that it speaks of."""
    json = orjson.loads(dicom_json.addressed(found.json, "http://host/studies"))
    for tag, value in found.fields.items():
        assert orjson.loads(value).keys() == json[tag].keys()
    for bulk in found.bulk:
        assert 0 <= bulk.offset <= bulk.offset + bulk.length <= len(object_bytes)
        assert bulk_path.normalised(bulk.path) == bulk.path
        assert bulk_path.tags(bulk.path)
    if found.pixels is not None:
        check_pixels(found.pixels, len(object_bytes))


def check_pixels(pixels: Pixels, size: int) -> None:
    """Frames lie within the object, in order."""
    fragments = list(struct.iter_unpack("<QQ", pixels.fragments))
    assert all(offset + length <= size for offset, length in fragments)
    starts = [start for (start,) in struct.iter_unpack("<I", pixels.frame_starts)]
    assert starts == sorted(set(starts))
    assert all(start < len(fragments) for start in starts)
    assert pixels.offset + pixels.length <= size
    assert pixels.stream_length <= size
    if pixels.frame_bits:
        assert pixels.number_of_frames * pixels.frame_bits <= pixels.length * 8
    elif starts:
        assert pixels.number_of_frames == len(starts)


def one(data: bytes) -> None:
    """The first byte says how the file is cut, the others are the file."""
    if not data:
        return
    file = data[1:]
    whole = outcome(file, 1 << 30)
    pieces = outcome(file, data[0] % 64 + 1)
    if isinstance(whole, str):
        assert isinstance(pieces, str)
        return
    assert pieces == whole
    object_bytes = normalised(file) if whole.normalised else file
    check(whole, object_bytes)
    if whole.normalised:
        again = outcome(object_bytes, 1 << 30)
        assert isinstance(again, Scan)
        assert (again.json, again.bulk, again.pixels) == (whole.json, whole.bulk, whole.pixels)


def seeds() -> Iterator[tuple[str, bytes]]:
    """The objects that the tests make."""
    from tests.dicom.corpus import generated  # noqa: PLC0415 - pydicom is not instrumented
    from tests.dicom.test_normalise import made  # noqa: PLC0415

    for file in [*generated(), *made()]:
        yield file.name, b"\7" + file.data


if __name__ == "__main__":
    run(one, KEPT, seeds)
