"""The first picture worth looking at, as a JPEG: a program that decodes strangers' streams and can open nothing.

Run by path, `python -P -S first_picture.py PARENT DEMUXER LENGTH MEMORY CPU`, by app/video/poster.py: it asks for
pieces of the stream on its output and gets them on its input. Once the libraries are loaded it gives up
the right to open files and sockets, so that no stream, whatever it names, has anything opened.
"""

from __future__ import annotations

import ctypes
import io
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import av
import av.subtitles.stream  # like Pillow's plug-ins: would be loaded later, when nothing can be opened any more
from av.stream import Discard
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

if TYPE_CHECKING:
    from av.container import InputContainer

MESSAGE = struct.Struct("<cQI")  # what, offset, length
READ, PICTURE, FAILURE = b"r", b"p", b"f"
NOTHING, MEMORY, CODEC = range(3)
"""Why there is no picture, in the offset of FAILURE."""

PIECE = 256 << 10
CODECS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video"})
QUALITY = 85

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_NICENESS = 10
# A recording that stays black for so long is shown black: not all of it is read for a poster.
_MOST_BYTES, _MOST_PICTURES = 128 << 20, 64
_DARK, _MOSTLY = (
    26,
    0.98,
)  # as FFmpeg's blackdetect: a tenth of the way from black to white, nearly everywhere
_SIDE = 64
_HD_LINES = 720  # where colours are not told, players take BT.709 from here on
_UNSPECIFIED = 2


class Stream:
    """The stored stream, read through the parent."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._position = 0
        self._left = _MOST_BYTES

    @property
    def spent(self) -> bool:
        """More was read than a poster is worth."""
        return self._left <= 0

    def read(self, size: int) -> bytes:
        """Ask for the next bytes; b'' at the end."""
        size = min(size, PIECE, self._length - self._position)
        if size <= 0:
            return b""
        _tell(READ, self._position, size)
        data = sys.stdin.buffer.read(size)
        if len(data) < size:  # nobody waits for us any more
            os._exit(1)
        self._position += size
        self._left -= size
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere, also beyond the end."""
        self._position = (0, self._position, self._length)[whence] + offset
        return self._position

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position


class Unknown(Exception):
    """The codec is none that DICOM knows."""


def main() -> None:
    """Read the command line, bind ourselves, and answer with a picture or why there is none."""
    parent, demuxer, length, memory, cpu_s = sys.argv[1:]
    Image.preinit()
    _bind(int(parent), int(memory), int(cpu_s))
    try:
        picture = _jpeg(_first(Stream(int(length)), demuxer))
    except MemoryError:
        _tell(FAILURE, MEMORY)
    except Unknown:
        _tell(FAILURE, CODEC)
    except Exception:  # noqa: BLE001 - whatever a stranger's stream can bring about: it has no picture
        _tell(FAILURE, NOTHING)
    else:
        _tell(PICTURE, 0, len(picture), picture)


def _bind(parent: int, memory: int, cpu_s: int) -> None:
    """Die with the parent, open nothing more, and use so much memory and time."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask to die with it
        sys.exit(1)
    os.nice(_NICENESS)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # first SIGXCPU, which tells why


def _tell(what: bytes, offset: int = 0, length: int = 0, data: bytes = b"") -> None:
    sys.stdout.buffer.write(MESSAGE.pack(what, offset, length) + data)
    sys.stdout.buffer.flush()


def _first(stream: Stream, demuxer: str) -> av.VideoFrame:
    """The first picture that is not black, else the first of all."""
    found: av.VideoFrame | None = None
    with _opened(stream, demuxer) as container:
        for number, frame in enumerate(_pictures(container)):
            if not frame.is_corrupt and not _is_black(frame):
                return frame
            found = found or frame
            if stream.spent or number >= _MOST_PICTURES:
                break
    if found is None:
        raise EOFError
    return found


def _opened(stream: Stream, demuxer: str) -> InputContainer:
    options = {
        "format_whitelist": av.ContainerFormat(demuxer, "r").name,
        "codec_whitelist": ",".join(CODECS),
        "protocol_whitelist": "none",
    }
    return av.open(
        stream,
        "r",
        format=demuxer,
        options=options,
        metadata_errors="replace",
        buffer_size=PIECE,
        io_open=_refuse,
    )


def _refuse(*_: object) -> NoReturn:
    """Nothing is opened that a stream names."""
    raise PermissionError


def _pictures(container: InputContainer) -> Iterator[av.VideoFrame]:
    """One picture from the beginning, then one from each keyframe on: the first that the decoder gives out."""
    video = container.streams.best("video")
    if not isinstance(video, av.VideoStream) or video.codec_context.name not in CODECS:
        raise Unknown
    for other in container.streams:
        if other is not video:
            other.discard = Discard.all
    context = video.codec_context
    context.thread_count, context.thread_type = 1, "NONE"
    looking = True
    for packet in container.demux(video):
        if not looking and not packet.is_keyframe:
            continue
        if not looking:
            context.flush_buffers()
            looking = True
        with suppress(av.error.InvalidDataError):
            for frame in packet.decode()[:1]:
                looking = False
                yield frame


def _is_black(frame: av.VideoFrame) -> bool:
    small = frame.reformat(_SIDE, _SIDE, "gray", dst_color_range=ColorRange.JPEG).planes[0]
    rows, width = bytes(small), small.line_size
    pixels = b"".join(rows[at : at + _SIDE] for at in range(0, _SIDE * width, width))
    return sum(pixel < _DARK for pixel in pixels) >= _MOSTLY * len(pixels)


def _jpeg(frame: av.VideoFrame) -> bytes:
    """Turned as a player turns it."""
    hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    colours = Colorspace.ITU709 if hd else None
    image: Image.Image = frame.to_image(src_colorspace=colours)  # type: ignore[no-untyped-call] # av's stub
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    if turn := turns.get(frame.rotation % 360):
        image = image.transpose(turn)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
