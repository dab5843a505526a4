"""Frames to decode: generated in every syntax that imagecodecs writes, and the corpus where it lies beside us."""

from __future__ import annotations

import csv
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from app.pixels.image import Image

Array = npt.NDArray[Any]
Buffer = bytes | bytearray
UID = "1.2.840.10008.1.2"
EXPLICIT, BIG_ENDIAN, RLE, DEFLATED = f"{UID}.1", f"{UID}.2", f"{UID}.5", f"{UID}.8.1"
NATIVE_IN_ITEMS = f"{UID}.1.98"


def jpeg_uid(number: int) -> str:
    return f"{UID}.4.{number}"


def image(values: Array, syntax: str = EXPLICIT, photometric: str = "", **more: Any) -> Image:
    """An image whose attributes suit these values."""
    bits = values.dtype.itemsize * 8
    colour = values.ndim == 3
    made = Image(
        rows=values.shape[0],
        columns=values.shape[1],
        samples_per_pixel=3 if colour else 1,
        photometric_interpretation=photometric or ("RGB" if colour else "MONOCHROME2"),
        planar_configuration=0,
        bits_allocated=bits,
        bits_stored=bits,
        high_bit=bits - 1,
        pixel_representation=int(values.dtype.kind == "i"),
        transfer_syntax_uid=syntax,
    )
    return replace(made, **more)


def gray(rows: int, columns: int, dtype: str = "u2", bits: int = 0, seed: int = 0) -> Array:
    """A smooth picture with noise over all the bits."""
    kind = np.dtype(dtype)
    bits = bits or kind.itemsize * 8
    noise = np.random.default_rng(seed).integers(0, 1 << max(bits - 3, 1), (rows, columns))
    slope = np.add.outer(np.arange(rows), np.arange(columns)) * (1 << bits) // (2 * (rows + columns))
    values = (slope + noise) & ((1 << bits) - 1)
    if kind.kind == "i":
        values -= 1 << (bits - 1)
    return values.astype(kind)


def colour(rows: int, columns: int) -> Array:
    """Three different gradients of 8 bits."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x * 255 // columns, y * 255 // rows, 255 - x * 255 // columns], axis=-1).astype("u1")


def packbits(values: Array) -> bytes:
    """An RLE frame (PS3.5 Annex G), every segment padded to even length."""
    planes = values.reshape(values.shape[0], values.shape[1], -1)
    width = values.dtype.itemsize
    segments = []
    for sample in range(planes.shape[2]):
        octets = np.ascontiguousarray(planes[..., sample]).view("u1").reshape(*values.shape[:2], width)
        for byte in range(width - 1, -1, -1):
            segment = imagecodecs.packbits_encode(np.ascontiguousarray(octets[..., byte]))
            segments.append(segment + b"\0" * (len(segment) % 2))
    starts = [64 + sum(map(len, segments[:number])) for number in range(len(segments))]
    header = struct.pack("<16I", len(segments), *starts, *[0] * (15 - len(starts)))
    return header + b"".join(segments)


def deflate(values: Array) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(values.tobytes()) + packer.flush()


def encoded(encode: Callable[..., Buffer], values: Array, /, *args: Any, **options: Any) -> bytes:
    """What an encoder of imagecodecs makes, as bytes."""
    return bytes(encode(values, *args, **options))


def _whole_bytes(values: Array) -> int:
    return values.dtype.itemsize * 8


# Encoders that lose nothing: name to (transfer syntax, encoder of unsigned values)
LOSSLESS: dict[str, tuple[str, Callable[[Array], Buffer]]] = {
    "native": (EXPLICIT, lambda values: values.tobytes()),
    "big endian": (BIG_ENDIAN, lambda values: values.astype(values.dtype.newbyteorder(">")).tobytes()),
    "encapsulated": (NATIVE_IN_ITEMS, lambda values: values.tobytes()),
    "deflated": (DEFLATED, deflate),
    "rle": (RLE, packbits),
    "jpeg process 14": (
        jpeg_uid(57),
        lambda values: imagecodecs.jpeg8_encode(
            values, lossless=True, predictor=6, bitspersample=_whole_bytes(values)
        ),
    ),
    "jpeg sv1": (
        jpeg_uid(70),
        lambda values: imagecodecs.jpeg8_encode(
            values, lossless=True, predictor=1, bitspersample=_whole_bytes(values)
        ),
    ),
    "jpeg-ls": (jpeg_uid(80), imagecodecs.jpegls_encode),
    "jpeg 2000": (
        jpeg_uid(90),
        lambda values: imagecodecs.jpeg2k_encode(values, level=0, reversible=True, codecformat="j2k"),
    ),
    "jp2 boxes": (
        jpeg_uid(90),
        lambda values: imagecodecs.jpeg2k_encode(values, level=0, reversible=True, codecformat="jp2"),
    ),
    "htj2k": (jpeg_uid(201), lambda values: imagecodecs.htj2k_encode(values, reversible=True)),
    "jpeg xl": (jpeg_uid(110), lambda values: imagecodecs.jpegxl_encode(values, lossless=True)),
}


def lossy() -> dict[str, tuple[bytes, Image]]:
    """One frame of each lossy syntax."""
    eight, twelve, rgb = gray(64, 48, "u1"), gray(64, 48, "u2", 12), colour(64, 48)
    ybr = imagecodecs.jpeg8_encode(rgb, 90, subsampling="422")
    made = {
        "baseline": (imagecodecs.jpeg8_encode(eight, 90), image(eight, jpeg_uid(50))),
        "baseline 4:2:2": (ybr, image(rgb, jpeg_uid(50), "YBR_FULL_422")),
        "extended 12 bit": (
            imagecodecs.jpeg8_encode(twelve, 90, bitspersample=12),
            image(twelve, jpeg_uid(51), bits_stored=12, high_bit=11),
        ),
        "jpeg-ls near lossless": (imagecodecs.jpegls_encode(rgb, level=2), image(rgb, jpeg_uid(81))),
        "jpeg 2000": (
            imagecodecs.jpeg2k_encode(rgb, level=40, codecformat="j2k"),
            image(rgb, jpeg_uid(91), "YBR_ICT"),
        ),
        "htj2k": (
            imagecodecs.htj2k_encode(rgb, reversible=False, level=0.01),
            image(rgb, jpeg_uid(203), "YBR_ICT"),
        ),
        "jpeg xl": (imagecodecs.jpegxl_encode(rgb, distance=1), image(rgb, jpeg_uid(112))),
        "jpeg xl of jpeg": (imagecodecs.jpegxl_encode_jpeg(ybr), image(rgb, jpeg_uid(111), "YBR_FULL_422")),
    }
    return {name: (bytes(data), described) for name, (data, described) in made.items()}


@dataclass(frozen=True)
class Case:
    """A line of the corpus's manifest."""

    name: str
    transfer_syntax: str
    sha256: str
    malformed: str

    def open(self) -> tuple[dict[str, Any], bytes]:
        """The metadata that pixels are described by, and the first frame."""
        folder = corpus()
        assert folder is not None
        return first_frame(dcmread(folder / self.name, force=True), self.transfer_syntax)


def first_frame(dataset: Dataset, syntax: str) -> tuple[dict[str, Any], bytes]:
    """Groups 0028, 2050 and 5200 as DICOM JSON, Pixel Data by reference, and the first frame's bytes."""
    wanted = Dataset()
    for element in dataset:
        if element.tag.group in {0x0028, 0x2050, 0x5200}:
            wanted.add(element)
    metadata = wanted.to_json_dict(bulk_data_threshold=1 << 30, bulk_data_element_handler=None)
    pixels = next(dataset[tag] for tag in ("7FE00010", "7FE00008", "7FE00009") if tag in dataset)
    metadata[f"{pixels.tag:08X}"] = {"vr": pixels.VR, "BulkDataURI": "@/7FE00010"}
    data = pixels.value
    if syntax.startswith((f"{UID}.4", RLE, DEFLATED, NATIVE_IN_ITEMS)):
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        data = next(generate_frames(data, number_of_frames=frames))
    return metadata, data


def corpus() -> Path | None:
    """The folder of public test objects, when it lies beside the repository."""
    named = os.environ.get("REELWEB_TEST_DATA")
    places = [Path(named)] if named else [up / "shared" / "data" for up in Path(__file__).resolve().parents]
    return next((place for place in places if (place / "MANIFEST.tsv").is_file()), None)


def cases() -> list[Case]:
    """The manifest's images that have Pixel Data; none without the corpus."""
    folder = corpus()
    if folder is None:
        return []
    with (folder / "MANIFEST.tsv").open(encoding="utf-8", newline="") as lines:
        return [
            Case(row["file"], row["transfer_syntax"], row["frame1_sha256"], row["malformed"])
            for row in csv.DictReader(lines, delimiter="\t")
            if row["geometry"]
        ]
