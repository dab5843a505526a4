"""The few refusals that a door can translate; reasons from PS3.4 and PS3.18 I.2."""

from __future__ import annotations

from enum import IntEnum


class FailureReason(IntEnum):
    """Values of (0008,1197) that reelweb gives."""

    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122
    OUT_OF_RESOURCES = 0xA700
    STUDY_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


class WarningReason(IntEnum):
    """The value of (0008,1196) that reelweb gives: of what was sent nothing was kept, the one stored first stays."""

    ELEMENTS_DISCARDED = 0xB006


class ReelwebError(Exception):
    """What a client is told; the text never holds an attribute of a patient."""


class NotFound(ReelwebError):
    """Nothing is stored under this address."""


class BadRequest(ReelwebError):
    """The request cannot be understood; the text names the parameter."""


class NotAcceptable(ReelwebError):
    """None of the asked representations can be made; the text says why."""


class Unavailable(ReelwebError):
    """It would work later: the database, the storage or a rendition is not ready."""

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Refused(ReelwebError):
    """One instance is not stored, its neighbours are."""

    def __init__(self, message: str, reason: FailureReason = FailureReason.CANNOT_UNDERSTAND) -> None:
        super().__init__(message)
        self.reason = reason


class NoRoom(Refused):
    """The same, but it may work later: nothing is wrong with the instance."""

    def __init__(self, message: str) -> None:
        super().__init__(message, FailureReason.OUT_OF_RESOURCES)


def where(error: BaseException) -> list[str]:
    """The files and lines an error passed, innermost last."""
    frames, traceback = [], error.__traceback__
    while traceback:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-6:]
