"""SOP Class UIDs that reelweb treats in a way of their own (PS3.4 B.5)."""

from __future__ import annotations

from typing import Final

from pydicom.uid import UID

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7.4"
VIDEO_ENDOSCOPIC: Final = "1.2.840.10008.5.1.4.1.1.77.1.1.1"
VIDEO_MICROSCOPIC: Final = "1.2.840.10008.5.1.4.1.1.77.1.2.1"
VIDEO_PHOTOGRAPHIC: Final = "1.2.840.10008.5.1.4.1.1.77.1.4.1"
ENCAPSULATED_PDF: Final = "1.2.840.10008.5.1.4.1.1.104.1"
ENCAPSULATED_CDA: Final = "1.2.840.10008.5.1.4.1.1.104.2"

VIDEO: Final = frozenset({VIDEO_ENDOSCOPIC, VIDEO_MICROSCOPIC, VIDEO_PHOTOGRAPHIC})


def name(uid: str) -> str:
    """The registered name; of what is not registered nothing is repeated (PS3.6 A)."""
    told = str(UID(uid).name)
    return "a SOP Class that is not registered" if told == uid else told
