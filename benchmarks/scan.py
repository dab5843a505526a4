"""The scanner beside pydicom's reading and to_json_dict in the same run: a CT, an enhanced object, bulk data going by.

python benchmarks/scan.py [FILE.dcm …]      # other objects beside those that it makes
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, Sequence, dcmread

sys.path.insert(0, str(Path(__file__).parents[1]))
from app.dicom import attributes
from app.dicom.normalise import Normaliser
from app.dicom.scanner import Limits, Scan, Scanner
from tests.make import instance

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
CHUNK = 64 << 10  # what a socket gives
CHUNK_OF_BULK = 256 << 10
LIMITS = Limits(normalise=True)
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"


def scan(data: bytes, chunk: int = CHUNK) -> Scan:
    """As an upload does it: in chunks, with all fields that a search wants."""
    scanner, view = Scanner(LIMITS, attributes.STORED), memoryview(data)
    for at in range(0, len(view), chunk):
        for _ in scanner.steps(view[at : at + chunk]):
            pass
    return scanner.close()


def pydicom(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmread(BytesIO(data), force=True).to_json_dict(
            bulk_data_threshold=1372, bulk_data_element_handler=lambda _: "x"
        )


def best(work: Callable[[bytes], object], data: bytes, seconds: float = 1.5) -> float:
    """CPU seconds of the quickest of as many runs as fit, at least three."""
    took: list[float] = []
    until = time.perf_counter() + seconds
    while len(took) < 3 or time.perf_counter() < until:
        started = time.process_time()
        work(data)
        took.append(time.process_time() - started)
    return min(took)


def group(**values: object) -> Sequence:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Sequence([item])


def ct(syntax: str = "1.2.840.10008.1.2.1", **attributes: str | bytes) -> bytes:
    """512 x 512 x 16 bits with the attributes of a scanner's CT."""
    code = group(CodeValue="T-D1100", CodingSchemeDesignator="SRT", CodeMeaning="Head")
    attributes.setdefault("PixelData", bytes(range(256)) * 2048)
    return instance(
        syntax, Rows=512, Columns=512,
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], SeriesDate="20261122", ContentDate="20261122",
        AcquisitionTime="101500.123", Manufacturer="Maker", InstitutionName="Hospital", StationName="CT1",
        ReferringPhysicianName="Roe^Richard", StudyDescription="Head", SeriesDescription="Axial 1.0",
        PatientBirthDate="19700101", PatientSex="F", PatientAge="056Y", PatientWeight="61.5",
        BodyPartExamined="HEAD", SliceThickness="1.0", KVP="120", DataCollectionDiameter="500",
        SoftwareVersions="1.2", ProtocolName="Head", ReconstructionDiameter="250", GantryDetectorTilt="0",
        TableHeight="120.5", RotationDirection="CW", ExposureTime=500, XRayTubeCurrent=200, Exposure=100,
        ConvolutionKernel="H30s", PatientPosition="HFS", ImagePositionPatient=["-125.5", "-125.5", "12.25"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"], FrameOfReferenceUID="1.2.3.4",
        SliceLocation="12.25", PixelSpacing=["0.48828125", "0.48828125"], WindowCenter=["40", "300"],
        WindowWidth=["80", "1500"], RescaleIntercept="-1024", RescaleSlope="1", RescaleType="HU",
        ProcedureCodeSequence=code, AnatomicRegionSequence=code, **attributes,
    )  # fmt: skip


def enhanced(frames: int = 1000) -> bytes:
    """An enhanced CT whose frames have their functional groups."""
    of_frames = Dataset()
    of_frames.PerFrameFunctionalGroupsSequence = Sequence(
        group(
            FrameContentSequence=group(
                FrameAcquisitionDateTime="20261122101500.123456",
                FrameReferenceDateTime="20261122101500.123456",
                StackID="1", InStackPositionNumber=number + 1, DimensionIndexValues=[1, number + 1],
            ),
            PlanePositionSequence=group(ImagePositionPatient=["-125.5", "-125.5", f"{number / 4:.2f}"]),
            PlaneOrientationSequence=group(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"]),
            PixelMeasuresSequence=group(SliceThickness="0.25", PixelSpacing=["0.48828125", "0.48828125"]),
            PixelValueTransformationSequence=group(
                RescaleIntercept="-1024", RescaleSlope="1", RescaleType="HU"
            ),
            FrameVOILUTSequence=group(WindowCenter="40", WindowWidth="80"),
            CTExposureSequence=group(ExposureTimeInms=500.0, XRayTubeCurrentInmA=200.0, ExposureInmAs=100.0),
        )[0]
        for number in range(frames)
    )  # fmt: skip
    return instance(
        SOPClassUID=ENHANCED_CT, NumberOfFrames=frames, Rows=8, Columns=8, PixelData=bytes(128 * frames),
        PerFrameFunctionalGroupsSequence=of_frames.PerFrameFunctionalGroupsSequence,
    )  # fmt: skip


def row(name: str, data: bytes) -> None:
    ours, theirs = best(scan, data), best(pydicom, data)
    print(
        f"{name:34} {len(data) / 1e6:8.2f} MB {ours * 1e3:9.2f} ms {theirs * 1e3:10.2f} ms {theirs / ours:7.1f} x"
    )


def bulk(name: str, syntax: str, size: int) -> None:
    """A large native object, in chunks that are views of a buffer, as from a socket."""
    data = instance(syntax, Rows=1, Columns=1, NumberOfFrames=size // 2, PixelData=bytes(size))
    took = best(lambda given: scan(given, CHUNK_OF_BULK), data)
    print(f"{name:34} {size / 1e6:8.2f} MB {took * 1e3:9.2f} ms {size / took / 1e9:26.2f} GB/s")


def normalise(name: str, data: bytes) -> None:
    def work(given: bytes) -> None:
        normaliser = Normaliser(LIMITS)
        for _ in normaliser.feed(given):
            pass
        normaliser.close()

    took = best(work, data)
    print(
        f"{name:34} {len(data) / 1e6:8.2f} MB {took * 1e3:9.2f} ms {len(data) / took / 1e6:26.0f} MB/s stored"
    )


def main() -> None:
    print(f"{'CPU time, best of many runs':34} {'size':>11} {'reelweb':>12} {'pydicom':>13}")
    row("CT of 0.5 MB", ct())
    row("CT of 0.5 MB, implicit", ct("1.2.840.10008.1.2"))
    row("CT of 0.5 MB, big endian", ct(BIG_ENDIAN))
    row("CT of 0.5 MB, deflated", ct(DEFLATED))
    row("enhanced CT of 1000 frames", enhanced())
    for path in sys.argv[1:]:
        row(Path(path).name, Path(path).read_bytes())
    bulk("bulk data going by", "1.2.840.10008.1.2.1", 512 << 20)
    normalise("normalised: CT, big endian", ct(BIG_ENDIAN))
    normalise("normalised: CT, deflated", ct(DEFLATED))


if __name__ == "__main__":
    main()
