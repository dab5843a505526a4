"""Video: what a stored stream is, and the MP4 that browsers play, made without copying a picture."""

from app.errors import ReelwebError


class Unplayable(ReelwebError):
    """No MP4 can be made of this stream; the text is one sentence that a viewer reads."""


class NeedsRemux(Unplayable):
    """No header over the stored bytes makes an MP4 of this stream; copying its packets may."""
