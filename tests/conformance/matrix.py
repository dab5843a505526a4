"""Every codec in every container, cut in every way: what is stored, and what /rendered makes of it.

`python -m tests.conformance.matrix` prints the table of docs/video.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import make_video
from tests.make_video import Clip, Container

VIRTUAL = "as stored, behind a header of its own"
COPIED = "packets copied once"
NO_MPEG2 = "406: MPEG-2"
INDEXED = "as stored, behind a header of its own, lengths for start codes"

CODECS = {"h264": "H.264", "hevc": "HEVC", "mpeg2video": "MPEG-2"}
CONTAINERS: dict[Container, str] = {
    "mp4": "MP4, header at the end",
    "faststart": "MP4, header in front",
    "mov": "QuickTime",
    "fmp4": "MP4 in fragments",
    "ts": "MPEG transport stream",
    "ps": "MPEG program stream",
    "annexb": "bare stream",
}
_SERVED = (
    dict.fromkeys(("mp4", "faststart", "mov"), VIRTUAL)
    | dict.fromkeys(("fmp4", "ts", "ps"), COPIED)
    | {"annexb": INDEXED}
)
_NOT_MADE = {
    ("hevc", "ps"),
    ("mpeg2video", "mov"),
    ("mpeg2video", "faststart"),
}  # no muxer, or another's twin

# The sound that each container carries; where browsers do not play it, the pictures still move.
_SOUND = {"ts": "aac", "ps": "ac3", "annexb": ""}


def expected(codec: str, container: Container) -> str:
    """What is served, or the beginning of why nothing is."""
    if codec == "mpeg2video":
        return NO_MPEG2
    return _SERVED[container]


@dataclass(frozen=True)
class Case:
    """One combination."""

    codec: str
    container: Container
    fragments: bool
    offset_table: bool
    sound: str
    bframes: int

    @property
    def expected(self) -> str:
        """As of its codec and container: how it is cut changes nothing."""
        return expected(self.codec, self.container)

    @property
    def plays(self) -> bool:
        """Whether there is an MP4."""
        return not self.expected.startswith("406")

    @property
    def name(self) -> str:
        """All that is special about it."""
        words = [
            self.codec,
            self.container,
            "fragments" if self.fragments else "one",
            "bot" if self.offset_table else "",
            self.sound,
            "b" if self.bframes else "",
        ]
        return "-".join(filter(None, words))

    @property
    def clip(self) -> Clip:
        """What is shown and heard."""
        return Clip(self.codec, sound=self.sound, bframes=self.bframes, kilobits=300)

    def make(self, folder: Path) -> make_video.Made:
        """The DICOM file, and the stream beside it."""
        size = 3000 if self.fragments else 0xFFFFFFFE
        return make_video.instance(
            folder / f"{self.name}.dcm",
            self.clip,
            self.container,
            fragment_size=size,
            bot=self.offset_table,
            odd=self.container in {"mp4", "mov"},
        )


def pairs() -> Iterator[tuple[str, Container]]:
    """Codecs in the containers that hold them."""
    for codec in CODECS:
        for container in CONTAINERS:
            if (codec, container) not in _NOT_MADE:
                yield codec, container


def _cases() -> Iterator[Case]:
    for codec, container in pairs():
        sound = _SOUND.get(container, "aac")
        for fragments, bframes in ((False, 2), (True, 0), (True, 2), (False, 0)):
            heard = sound if fragments == bool(bframes) else ""
            if container == "annexb":
                heard = ""
            yield Case(codec, container, fragments, fragments != (codec == "hevc"), heard, bframes)


CASES = list(_cases())
SAMPLE = CASES[::4]
"""One of each codec and container."""


def table() -> str:
    """The combinations as Markdown: how many of each were tried, and what they are served as."""
    lines = ["| stored | codec | tried | served as `video/mp4` |", "|---|---|---|---|"]
    for codec, container in pairs():
        count = sum((case.codec, case.container) == (codec, container) for case in CASES)
        lines.append(
            f"| {CONTAINERS[container]} | {CODECS[codec]} | {count} | {expected(codec, container)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
