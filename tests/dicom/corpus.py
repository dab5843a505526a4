"""Files to scan: those that the tests make, and the public ones beside the clone where they are present."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
from pydicom import Dataset, Sequence, config, dcmread
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    MPEG4HP41,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from app.dicom.normalise import Normaliser
from app.dicom.scanner import Limits, Scan, Scanner
from tests.make import encapsulated, instance

_BESIDE = Path(__file__).parents[2].parent / "shared" / "data"
SHARED = Path(os.environ.get("REELWEB_TEST_DATA", _BESIDE))


@dataclass(frozen=True)
class File:
    """One file of the corpus; `expected` is the manifest's column `stow`."""

    name: str
    data: bytes
    expected: str = "stored"
    stream_sha256: str = ""


def scan(data: bytes, chunks: Iterable[bytes | memoryview] | None = None, **options: Any) -> Scan:
    """The whole file at once, or in these chunks."""
    scanner = Scanner(**options)
    for chunk in [data] if chunks is None else chunks:
        scanner.feed(chunk)
    return scanner.close()


def normalised(data: bytes, chunks: Iterable[bytes | memoryview] | None = None) -> bytes:
    """The object that the extents of a normalised scan refer to."""
    normaliser = Normaliser()
    made = [piece for chunk in ([data] if chunks is None else chunks) for piece in normaliser.feed(chunk)]
    return b"".join([*made, normaliser.close()])


def sliced(data: bytes, size: int) -> Iterator[memoryview]:
    """The file in chunks of one size."""
    view = memoryview(data)
    return (view[at : at + size] for at in range(0, len(data), size))


def read(data: bytes) -> Dataset:
    """The data set by pydicom, its warnings unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(BytesIO(data), force=True)


def pydicom_json(data: bytes) -> dict[str, Any]:
    """The data set by pydicom as DICOM JSON; values over 1024 bytes are bulk data as by the default limits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(
            read(data).to_json_dict(
                # It measures the Base64 text: 1024 bytes are 1368 characters.
                bulk_data_threshold=Limits().bulk_threshold // 3 * 4 + 4,
                bulk_data_element_handler=lambda element: "somewhere",
            )
        )


def odd_instance(transfer_syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """An instance whose values break a rule that pydicom would warn of."""
    with config.disable_value_validation():
        return instance(transfer_syntax, **attributes)


def generated() -> list[File]:
    """Every structure that the scanner tells apart, small."""
    jpeg = [b"\xff\xd8\xff\xe0" + bytes([number]) * 60 + b"\xff\xd9" for number in range(3)]
    table, offsets, lengths = encapsulate_extended(jpeg)
    several = encapsulate([b"".join(jpeg)], fragments_per_frame=3, has_bot=False)
    ocular = Sequence([_code("T-AA000", "Eye"), _code("T-AA001", "Othér")])
    nested: dict[str, Any] = {"AnatomicRegionSequence": ocular, "ReferencedStudySequence": Sequence([])}
    return [
        File("explicit", instance()),
        File("implicit", instance(ImplicitVRLittleEndian)),
        File(
            "signed-implicit", instance(ImplicitVRLittleEndian, PixelRepresentation=1, PixelPaddingValue=-5)
        ),
        File("nested", instance(**nested)),
        File("nested-implicit", instance(ImplicitVRLittleEndian, **nested)),
        File("names", instance(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")),
        File("latin-1", instance(SpecificCharacterSet="ISO_IR 100", PatientName="Äneas^Rüdiger")),
        File(
            "numbers", odd_instance(PixelSpacing=["0.5", "1E-3"], ImagePositionPatient=["-0", "007.5", "+1."])
        ),
        File("bulk", instance(EncapsulatedDocument=bytes(5000), PixelData=None)),
        File("jpeg", encapsulated(jpeg, JPEGBaseline8Bit)),
        File("jpeg-without-table", encapsulated(jpeg, JPEGBaseline8Bit, has_bot=False)),
        File(
            "jpeg-extended",
            instance(
                JPEGBaseline8Bit,
                NumberOfFrames=3,
                PixelData=table,
                ExtendedOffsetTable=offsets,
                ExtendedOffsetTableLengths=lengths,
            ),
        ),
        File("jpeg-ls-in-pieces", instance(JPEGLSLossless, NumberOfFrames=1, PixelData=several)),
        File("rle", encapsulated([bytes(64), bytes(70)], RLELossless)),
        _video("made-mp4", box(b"ftyp", 8) + box(b"moov", 40) + box(b"mdat", 1001)),
        _video("made-fmp4", box(b"ftyp", 8) + box(b"moof", 41) + box(b"mdat", 1000)),
        _video("made-ts", (b"G" + bytes(187)) * 7),
        _video("made-es", b"\0\0\0\1\x67" + b"\x55" * 400),
    ]


def box(kind: bytes, size: int) -> bytes:
    """A box of MP4 with `size` bytes in it."""
    return (size + 8).to_bytes(4, "big") + kind + b"\x11" * size


def _video(name: str, stream: bytes) -> File:
    """A video in three fragments, padded to an even length."""
    padded = stream + bytes(len(stream) % 2)
    pieces = [padded[:100], padded[100:110], padded[110:]]
    pixels = encapsulate(pieces, has_bot=False)
    data = instance(MPEG4HP41, NumberOfFrames=25, PixelData=pixels)
    return File(name, data, stream_sha256=sha256(stream).hexdigest())


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SRT", meaning
    return code


@lru_cache(maxsize=1)
def files() -> tuple[File, ...]:
    """The whole corpus."""
    return (*generated(), *_shared())


def _shared() -> Iterator[File]:
    manifest = SHARED / "MANIFEST.tsv"
    if not manifest.exists():
        return
    with manifest.open(newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE):
            data = (SHARED / row["file"]).read_bytes()
            yield File(row["file"], data, row["stow"], row["stream_sha256"])


def by_name(chosen: Iterable[File]) -> dict[str, Any]:
    """Arguments of pytest.mark.parametrize: one case a file."""
    found = list(chosen)
    return {"argnames": "file", "argvalues": found, "ids": [file.name for file in found]}


def as_documented(json: dict[str, Any]) -> dict[str, Any]:
    """What pydicom writes, with the differences that are meant.

    | pydicom                                   | reelweb                  | because                                  |
    |-------------------------------------------|--------------------------|------------------------------------------|
    | group lengths are kept                    | dropped                  | they tell of an encoding that JSON lacks |
    | an empty sequence has an empty Value      | no Value                 | PS3.18 F.2.5                             |
    | an empty one of several values is ""      | null                     | PS3.18 F.2.5                             |
    | blanks after all but the last value stay  | trimmed                  | PS3.5 6.2: padding is not significant    |
    | an empty group of a name is ""            | left out                 | PS3.18 F.2.2                             |
    | Specific Character Set as stored          | ISO_IR 192               | the JSON is UTF-8                        |
    | SV and UV are numbers                     | strings beyond 2^53      | a reader with doubles would round them   |
    | a DS of more than 17 digits is a number   | a string                 | a double would lose digits               |
    | a retired choice stays "OB or OW"         | OW                       | PS3.5 A.1                                |
    | OW to OV in big endian stay as stored     | in little endian         | behaviour: bulk data are little endian   |
    | private or text values have no bound      | UN or bulk when too long | each is written in a few milliseconds    |
    | Pixel Data up to a threshold are inline   | always a BulkDataURI     | so that there is always one address      |
    """
    return {tag: _documented(tag, element) for tag, element in json.items() if not tag.endswith("0000")}


def _documented(tag: str, element: dict[str, Any]) -> dict[str, Any]:
    vr = element["vr"]
    if "BulkDataURI" in element or tag in {"7FE00010", "7FE00008", "7FE00009"}:
        return {"vr": vr, "BulkDataURI": "somewhere"}
    if "Value" not in element or element["Value"] == []:
        return {key: value for key, value in element.items() if key != "Value"}
    values = element["Value"]
    if tag == "00080005":
        values = ["ISO_IR 192"]
    elif vr == "SQ":
        values = [as_documented(item) for item in values]
    elif vr == "PN":
        values = [
            {key: text.rstrip() for key, text in name.items() if text.rstrip()} or None for name in values
        ]
    elif vr in {"SV", "UV"}:
        values = [value if abs(value) <= 1 << 53 else str(value) for value in values]
    else:
        values = [(value.rstrip(" \0") or None) if isinstance(value, str) else value for value in values]
    return {"vr": vr, "Value": values}


def expected_json(data: bytes) -> dict[str, Any]:
    """What pydicom writes, as documented; it leaves words in big endian, so of those the normalised object counts."""
    is_big_endian = read(data).file_meta.get("TransferSyntaxUID") == ExplicitVRBigEndian
    return as_documented(pydicom_json(normalised(data) if is_big_endian else data))


def comparable(json: bytes) -> dict[str, Any]:
    """What the scanner wrote, every address made one word."""
    return {tag: _anywhere(element) for tag, element in orjson.loads(json).items()}


def _anywhere(element: dict[str, Any]) -> dict[str, Any]:
    if "BulkDataURI" in element:
        return element | {"BulkDataURI": "somewhere"}
    if element["vr"] == "SQ" and "Value" in element:
        items = [{tag: _anywhere(inner) for tag, inner in item.items()} for item in element["Value"]]
        return element | {"Value": items}
    return element
