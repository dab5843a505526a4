"""Small builders: an instance, a multi-frame image, a STOW body. Everything is synthetic."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from io import BytesIO
from itertools import count
from math import cos, hypot
from pathlib import Path
from struct import pack
from typing import Any

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

PREFIX = "1.2.826.0.1.3680043.10.1471."
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_numbers = count(1)


def uid() -> str:
    """A UID that no other test uses."""
    return str(generate_uid(prefix=PREFIX))


def dataset(**attributes: Any) -> Dataset:
    """A CT image of 4 x 4 pixels of 16 bits; keywords replace attributes, None removes one."""
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": CT_IMAGE,
        "SOPInstanceUID": uid(),
        "StudyInstanceUID": uid(),
        "SeriesInstanceUID": uid(),
        "StudyDate": "20261122",
        "StudyTime": "101500",
        "AccessionNumber": f"A{number}",
        "Modality": "CT",
        "PatientName": "Doe^Jane",
        "PatientID": f"P{number}",
        "StudyID": "1",
        "SeriesNumber": 1,
        "InstanceNumber": number,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": 4,
        "Columns": 4,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": bytes(range(32)),
    }
    made = Dataset()
    for keyword, value in (defaults | attributes).items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def part10(data: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The data set as a DICOM file (PS3.10)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.get("SOPClassUID", CT_IMAGE)
    meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", uid())
    meta.TransferSyntaxUID = UID(transfer_syntax)
    if meta.TransferSyntaxUID.is_encapsulated and "PixelData" in data:
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
    data.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def instance(transfer_syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """One instance as a file."""
    return part10(dataset(**attributes), transfer_syntax)


def encapsulated(
    frames: list[bytes], transfer_syntax: str, *, has_bot: bool = True, **attributes: Any
) -> bytes:
    """An instance whose frames are fragments, with or without a filled Basic Offset Table."""
    attributes |= {"NumberOfFrames": len(frames), "PixelData": encapsulate(frames, has_bot=has_bot)}
    return instance(transfer_syntax, **attributes)


def multipart(
    parts: Iterable[bytes], boundary: str = "reelweb-test", media_type: str = "application/dicom"
) -> bytes:
    """A multipart/related body."""
    lines = []
    for part in parts:
        lines += [f"--{boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode(), part, b"\r\n"]
    return b"".join([*lines, f"--{boundary}--\r\n".encode()])


def picture(size: int = 256) -> bytes:
    """An image worth looking at: rings, 12 bits deep, with a window of its own."""
    middle = size / 2
    rows = range(size)
    values = [int(2000 + 1800 * cos(hypot(x - middle, y - middle) / 6)) for y in rows for x in rows]
    return instance(
        Rows=size,
        Columns=size,
        BitsStored=12,
        HighBit=11,
        WindowCenter=2000,
        WindowWidth=4000,
        StudyDescription="Rings",
        PixelData=pack(f"<{size * size}H", *values),
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(picture())
