"""What the journeys store: objects made here, and the shared corpus where it lies beside the checkout."""

from __future__ import annotations

from collections.abc import Iterator
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
from tests.dicom.corpus import SHARED, File, files

__all__ = ["SHARED", "everything"]


def everything() -> dict[str, File]:
    """All files by name: made for the scanner, made for the journeys, and shared."""
    return {file.name: file for file in [*files(), *_made()]}


def _made() -> Iterator[File]:
    """Objects of every shape that the server tells apart, made here."""
    yield File("made/ct-explicit", make.instance(), "stored")
    yield File("made/ct-implicit", make.instance(ImplicitVRLittleEndian), "stored")
    yield File(
        "made/no-pixels", make.instance(PixelData=None, Rows=None, Columns=None, Modality="SR"), "stored"
    )
    yield File("made/multi-frame", make.instance(NumberOfFrames=3, PixelData=bytes(range(96))), "stored")
    yield File("made/colour", make.instance(**_colour(0)), "stored")
    yield File("made/colour-planes", make.instance(**_colour(1)), "stored")
    yield File("made/names", make.instance(PatientName="Жуков^Иван", PatientID="ж/1"), "stored")
    yield File("made/sequences", make.part10(_nested()), "stored")
    yield File("made/large-private", make.part10(_private()), "stored")
    for name, syntax, frame in _compressed():
        yield File(f"made/{name}", make.encapsulated([frame], syntax, **_eight_bits()), "stored")
        yield File(
            f"made/{name}-3", make.encapsulated([frame] * 3, syntax, has_bot=False, **_eight_bits()), "stored"
        )
    yield File("made/no-study-uid", make.instance(StudyInstanceUID=None), "refused")
    yield File("made/no-sop-instance-uid", make.instance(SOPInstanceUID=None), "refused")
    yield File("made/cut-in-pixels", make.instance()[:-7], "refused")
    yield File("made/text", b"this is not DICOM" * 20, "refused")
    yield File("made/empty", b"", "refused")


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
