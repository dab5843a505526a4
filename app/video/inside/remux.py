"""Packets of H.264 or HEVC, and their sound, copied into MP4; no picture is decoded (ISO/IEC 14496-12, 14496-15)."""

from __future__ import annotations

import io
from contextlib import suppress
from fractions import Fraction
from struct import unpack_from
from typing import TYPE_CHECKING, Any, Final

import av

from app.video.inside import Reason, probe
from app.video.inside.index import Index
from app.video.inside.stream import VIDEO, Impossible, Source, conclude, give, opened, refuse
from app.video.inside.timing import timed

if TYPE_CHECKING:
    from av.container import InputContainer

    Packet = av.Packet[Any]

_PICTURES: Final = frozenset({"h264", "hevc"})
SOUND: Final = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "flac"})
"""What browsers play, or pass over without harm; a player may stop at other sound."""

_HEAD: Final = 256  # bytes of file type and media data's header
_PIECE: Final = 128 << 10  # given at a time, for the same reasons as stream.ASKED
_MUXER: Final = {
    "fflags": "+bitexact",
    "avoid_negative_ts": "disabled",  # times are ours: pictures begin at zero
    "max_interleave_delta": "1000000",  # sound that fails to come keeps no more than a second of pictures waiting
    "write_tmcd": "0",
    "flush_packets": "0",
}


def make(stored: Source) -> None:
    """The media data in pieces, then the movie header; then what the stream is, which may fail by itself."""
    with opened(stored, VIDEO | {"aac"}) as (stream, source, video):
        if (name := video.codec_context.name) not in _PICTURES:
            raise Impossible(Reason.MPEG2 if name.startswith("mpeg") else Reason.CODEC)
        sound = source.streams.best("audio", related=video)
        if not isinstance(sound, av.AudioStream) or not _is_heard(sound):
            sound = None
        index, told = Index(stream, video), probe.about(source, video)
        media, moov, where = _copied(source, video, sound, stored.pictures_per_s, index).parts()
        give(media)
        conclude(moov, where)
        with suppress(MemoryError):
            index.give(told | probe.seen(video, index.first))
            return
        index.give({})


def _is_heard(sound: av.AudioStream) -> bool:
    context = sound.codec_context
    return context.name in SOUND and context.sample_rate > 0 and context.layout.nb_channels > 0


class Sink:
    """What the muxer writes goes to the parent at once; of the beginning, whose sizes come last, a copy is kept."""

    def __init__(self) -> None:
        self.is_closing = False
        self._head, self._tail = bytearray(), bytearray()
        self._sent = self._position = 0

    def tell(self) -> int:
        """Where the next write begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go back to a size, or to the end."""
        end = self._sent + len(self._tail)
        self._position = (0, self._position, end)[whence] + offset
        return self._position

    def write(self, data: bytes) -> int:
        """The muxer's next bytes, or a size that is known now."""
        start, stop = self._position, self._position + len(data)
        self._position = stop
        if start < _HEAD:
            self._head[start : min(stop, _HEAD)] = data[: _HEAD - start]
        if stop <= self._sent:  # a size that was patched
            return len(data)
        at = start - self._sent
        if self.is_closing:
            self._tail[at : at + len(data)] = data
        elif at == 0:
            give(data)
            self._sent = stop
        else:
            raise OSError
        return len(data)

    def parts(self) -> tuple[memoryview, memoryview, int]:
        """The media data that were not given yet, the movie header, and where all the media data's content begins."""
        payload, end = self._media()
        end -= self._sent
        tail = memoryview(self._tail)
        if not 0 <= end <= len(tail) or bytes(tail[end + 4 : end + 8]) != b"moov":
            raise Impossible(Reason.NOTHING)
        return tail[:end], tail[end:], payload

    def _media(self) -> tuple[int, int]:
        offset = 0
        while offset + 16 <= len(self._head):
            size, kind = unpack_from(">I4s", self._head, offset)
            header = 16 if size == 1 else 8
            if size == 1:
                size = unpack_from(">Q", self._head, offset + 8)[0]
            if kind == b"mdat":
                return offset + header, offset + size
            offset += max(size, 8)
        raise Impossible(Reason.NOTHING)


def _copied(
    source: InputContainer,
    video: av.VideoStream,
    sound: av.AudioStream | None,
    pace: Fraction | None,
    index: Index,
) -> Sink:
    sink = Sink()
    # The last bytes are written when the block ends.
    with av.open(sink, "w", format="mp4", options=_MUXER, buffer_size=_PIECE, io_open=refuse) as target:
        streams: dict[int, av.VideoStream | av.AudioStream] = {
            video.index: target.add_stream_from_template(video, opaque=True)
        }
        if video.codec_context.name == "hevc":
            streams[video.index].codec_context.codec_tag = "hvc1"
        if sound is not None:
            streams[sound.index] = target.add_stream_from_template(sound, opaque=True)
        try:
            target.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:  # no size, no parameter sets
            raise Impossible(Reason.PARAMETERS) from error
        copied = 0
        for packet in timed(source, video, sound, pace):
            is_picture = packet.stream is video
            if is_picture:
                index.add(packet)
            packet.stream = streams[packet.stream.index]
            try:
                target.mux_one(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError):  # one damaged packet is left out
                continue
            copied += is_picture
        if not copied:
            raise Impossible(Reason.NOTHING)
        sink.is_closing = True
    return sink
