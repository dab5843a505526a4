"""What the journeys store: objects made here, and the shared corpus where it lies beside the checkout."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
)

from tests import make

SHARED = Path(os.environ.get("REELWEB_TEST_DATA", Path(__file__).parents[1].parent / "shared" / "data"))


@dataclass(frozen=True, slots=True)
class Case:
    """One file and what must become of it: `stored`, `refused`, or `either` with a stated reason."""

    name: str
    data: bytes
    expected: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def shared() -> Iterator[Case]:
    """The files of the shared corpus, if it is there."""
    manifest = SHARED / "MANIFEST.tsv"
    if not manifest.exists():
        return
    with manifest.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            expected = {"stored": "stored"}.get(
                row["stow"], "refused" if row["stow"].startswith("refused") else "either"
            )
            yield Case(row["file"], (SHARED / row["file"]).read_bytes(), expected)


def made() -> Iterator[Case]:
    """Objects of every shape that the server tells apart, made here."""
    yield Case("made/ct-explicit", make.instance(), "stored")
    yield Case("made/ct-implicit", make.instance(ImplicitVRLittleEndian), "stored")
    yield Case(
        "made/no-pixels", make.instance(PixelData=None, Rows=None, Columns=None, Modality="SR"), "stored"
    )
    yield Case("made/multi-frame", make.instance(NumberOfFrames=3, PixelData=bytes(range(96))), "stored")
    yield Case("made/colour", make.instance(**_colour(0)), "stored")
    yield Case("made/colour-planes", make.instance(**_colour(1)), "stored")
    yield Case("made/names", make.instance(PatientName="Жуков^Иван", PatientID="ж/1"), "stored")
    yield Case("made/sequences", make.part10(_nested()), "stored")
    yield Case("made/large-private", make.part10(_private()), "stored")
    for name, syntax, frame in _compressed():
        yield Case(f"made/{name}", make.encapsulated([frame], syntax, **_eight_bits()), "stored")
        yield Case(
            f"made/{name}-3", make.encapsulated([frame] * 3, syntax, has_bot=False, **_eight_bits()), "stored"
        )
    yield Case("made/no-study-uid", make.instance(StudyInstanceUID=None), "refused")
    yield Case("made/no-sop-instance-uid", make.instance(SOPInstanceUID=None), "refused")
    yield Case("made/cut-in-pixels", make.instance()[:-7], "refused")
    yield Case("made/text", b"this is not DICOM" * 20, "refused")
    yield Case("made/empty", b"", "refused")


def _eight_bits() -> dict[str, Any]:
    return {"Rows": 16, "Columns": 16, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


def _colour(planar: int) -> dict[str, Any]:
    return _eight_bits() | {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": planar,
        "PixelData": bytes(value % 256 for value in range(16 * 16 * 3)),
    }


def _nested() -> Dataset:
    inner = Dataset()
    inner.CodeValue, inner.CodingSchemeDesignator, inner.CodeMeaning = "1", "99X", "Größe"
    outer = Dataset()
    outer.ConceptNameCodeSequence = Sequence([inner, Dataset()])
    data = make.dataset()
    data.ContentSequence = Sequence([outer])
    data.ContentSequence.is_undefined_length = True
    return data


def _private() -> Dataset:
    data = make.dataset()
    block = data.private_block(0x0009, "REELWEB TEST", create=True)
    block.add_new(0x01, "OB", bytes(5000))
    block.add_new(0x02, "UN", b"\1\2\3\4")
    return data


def _compressed() -> Iterator[tuple[str, str, bytes]]:
    import imagecodecs  # noqa: PLC0415 # a second to import, and only the journeys need it

    picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
    yield "jpeg", str(JPEGBaseline8Bit), bytes(imagecodecs.jpeg8_encode(picture, level=90))
    yield "jpeg-ls", str(JPEGLSLossless), bytes(imagecodecs.jpegls_encode(picture))
    yield (
        "j2k",
        str(JPEG2000Lossless),
        bytes(imagecodecs.jpeg2k_encode(picture, codecformat="j2k", reversible=True)),
    )
