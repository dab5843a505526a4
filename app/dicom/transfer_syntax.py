"""Transfer syntaxes: how they are written, what they hold, how the web calls it (PS3.5 A, PS3.18 8.7.3)."""

from __future__ import annotations

from typing import Final

_ROOT: Final = "1.2.840.10008.1.2"

IMPLICIT_VR_LITTLE_ENDIAN: Final = _ROOT
EXPLICIT_VR_LITTLE_ENDIAN: Final = f"{_ROOT}.1"
ENCAPSULATED_UNCOMPRESSED: Final = f"{_ROOT}.1.98"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = f"{_ROOT}.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = f"{_ROOT}.2"
JPEG_BASELINE: Final = f"{_ROOT}.4.50"
JPEG_EXTENDED: Final = f"{_ROOT}.4.51"
JPEG_LOSSLESS: Final = f"{_ROOT}.4.57"
JPEG_LOSSLESS_SV1: Final = f"{_ROOT}.4.70"
JPEG_LS_LOSSLESS: Final = f"{_ROOT}.4.80"
JPEG_LS_NEAR_LOSSLESS: Final = f"{_ROOT}.4.81"
JPEG_2000_LOSSLESS: Final = f"{_ROOT}.4.90"
JPEG_2000: Final = f"{_ROOT}.4.91"
JPEG_2000_PART_2_LOSSLESS: Final = f"{_ROOT}.4.92"
JPEG_2000_PART_2: Final = f"{_ROOT}.4.93"
JPIP_REFERENCED: Final = f"{_ROOT}.4.94"
JPIP_REFERENCED_DEFLATE: Final = f"{_ROOT}.4.95"
MPEG2_MAIN_LEVEL: Final = f"{_ROOT}.4.100"
MPEG2_HIGH_LEVEL: Final = f"{_ROOT}.4.101"
MPEG4_AVC_41: Final = f"{_ROOT}.4.102"
MPEG4_AVC_41_BD: Final = f"{_ROOT}.4.103"
MPEG4_AVC_42_2D: Final = f"{_ROOT}.4.104"
MPEG4_AVC_42_3D: Final = f"{_ROOT}.4.105"
MPEG4_AVC_42_STEREO: Final = f"{_ROOT}.4.106"
HEVC_51: Final = f"{_ROOT}.4.107"
HEVC_M10_51: Final = f"{_ROOT}.4.108"
JPEG_XL_LOSSLESS: Final = f"{_ROOT}.4.110"
JPEG_XL_JPEG_RECOMPRESSION: Final = f"{_ROOT}.4.111"
JPEG_XL: Final = f"{_ROOT}.4.112"
HTJ2K_LOSSLESS: Final = f"{_ROOT}.4.201"
HTJ2K_LOSSLESS_RPCL: Final = f"{_ROOT}.4.202"
HTJ2K: Final = f"{_ROOT}.4.203"
JPIP_HTJ2K_REFERENCED: Final = f"{_ROOT}.4.204"
JPIP_HTJ2K_REFERENCED_DEFLATE: Final = f"{_ROOT}.4.205"
RLE_LOSSLESS: Final = f"{_ROOT}.5"
DEFLATED_IMAGE_FRAME: Final = f"{_ROOT}.8.1"
GE_IMPLICIT_BIG_ENDIAN_PIXELS: Final = "1.2.840.113619.5.2"

_IMPLICIT: Final = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, GE_IMPLICIT_BIG_ENDIAN_PIXELS})
_NORMALISED: Final = {
    EXPLICIT_VR_BIG_ENDIAN: EXPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_VR_LITTLE_ENDIAN,
    JPIP_REFERENCED_DEFLATE: JPIP_REFERENCED,
    JPIP_HTJ2K_REFERENCED_DEFLATE: JPIP_HTJ2K_REFERENCED,
}
_REFERENCED: Final = frozenset(
    {JPIP_REFERENCED, JPIP_REFERENCED_DEFLATE, JPIP_HTJ2K_REFERENCED, JPIP_HTJ2K_REFERENCED_DEFLATE}
)

_JPEG: Final = frozenset(f"{_ROOT}.4.{number}" for number in (*range(50, 67), 70))
_JPEG_LS: Final = frozenset({JPEG_LS_LOSSLESS, JPEG_LS_NEAR_LOSSLESS})
_JPEG_2000: Final = frozenset({JPEG_2000_LOSSLESS, JPEG_2000})
_JPEG_2000_PART_2: Final = frozenset({JPEG_2000_PART_2_LOSSLESS, JPEG_2000_PART_2})
_JPEG_XL: Final = frozenset({JPEG_XL_LOSSLESS, JPEG_XL_JPEG_RECOMPRESSION, JPEG_XL})
_HTJ2K: Final = frozenset({HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, HTJ2K})
# The fragmentable ones of supplement 225 end in one more component: …4.102 and …4.102.1.
_MPEG2: Final = frozenset(f"{_ROOT}.4.{number}{more}" for number in (100, 101) for more in ("", ".1"))
_AVC: Final = frozenset(f"{_ROOT}.4.{number}{more}" for number in range(102, 107) for more in ("", ".1"))
_HEVC: Final = frozenset({HEVC_51, HEVC_M10_51})
_VIDEO: Final = _MPEG2 | _AVC | _HEVC

_LOSSY: Final = (
    frozenset({JPEG_LS_NEAR_LOSSLESS, JPEG_2000, JPEG_2000_PART_2, JPEG_XL, HTJ2K})
    | (_JPEG - {f"{_ROOT}.4.{number}" for number in (57, 58, 65, 66, 70)})
    | {JPEG_XL_JPEG_RECOMPRESSION}  # it gives back a JPEG bit for bit, and that was lossy
    | _VIDEO
)

_MEDIA_TYPES: Final = {
    **dict.fromkeys(_JPEG, "image/jpeg"),
    **dict.fromkeys(_JPEG_LS, "image/jls"),
    **dict.fromkeys(_JPEG_2000, "image/jp2"),
    **dict.fromkeys(_JPEG_2000_PART_2, "image/jpx"),
    **dict.fromkeys(_JPEG_XL, "image/jxl"),
    **dict.fromkeys(_HTJ2K, "image/jphc"),
    RLE_LOSSLESS: "image/dicom-rle",
    **dict.fromkeys(_MPEG2, "video/mpeg"),
    **dict.fromkeys(_AVC, "video/mp4"),
    **dict.fromkeys(_HEVC, "video/H265"),
}

_ENCAPSULATED: Final = frozenset(_MEDIA_TYPES) | {ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME}

MARKERS: Final[dict[str, tuple[bytes, ...]]] = {
    **dict.fromkeys(_JPEG | _JPEG_LS, (b"\xff\xd8\xff",)),
    **dict.fromkeys(_JPEG_2000 | _JPEG_2000_PART_2 | _HTJ2K, (b"\xff\x4f\xff\x51", b"\0\0\0\x0c")),
    **dict.fromkeys(_JPEG_XL, (b"\xff\x0a", b"\0\0\0\x0c", b"\xff\xd8\xff")),
}
"""What a frame's first fragment begins with; a syntax that is missing here has one fragment per frame."""


def is_encapsulated(uid: str) -> bool:
    """Its Pixel Data are fragments; an unknown syntax says so by an undefined length only."""
    return uid in _ENCAPSULATED


def is_video(uid: str) -> bool:
    """All fragments together are one stream, not one frame each."""
    return uid in _VIDEO


def is_lossy(uid: str) -> bool:
    """What it holds may differ from what was acquired."""
    return uid in _LOSSY


def is_implicit(uid: str) -> bool:
    """Its elements carry no VR (PS3.5 A.1)."""
    return uid in _IMPLICIT


def is_referenced(uid: str) -> bool:
    """Its pixels lie behind a URL (PS3.5 A.6)."""
    return uid in _REFERENCED


def is_deflated(uid: str) -> bool:
    """Its data set is one raw deflate stream (PS3.5 A.5)."""
    return uid in _NORMALISED and uid != EXPLICIT_VR_BIG_ENDIAN


def normalised(uid: str) -> str:
    """The syntax of the same data set inflated and in little endian; as it came where it is so already."""
    return _NORMALISED.get(uid, uid)


def supported(uid: str) -> bool:
    """Its bytes can be served as they lie: neither deflated nor big endian, private syntaxes included."""
    return uid not in _NORMALISED


def media_type(uid: str) -> str:
    """How its frames or its stream are called on the web (PS3.18 Table 8.7.3-5)."""
    return _MEDIA_TYPES.get(uid, "application/octet-stream")
