"""Builders of video: a clip in any container, repeated to any size, in a DICOM file. Made with PyAV."""

from __future__ import annotations

import hashlib
import io
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from tests import make

Container = Literal["mp4", "faststart", "fmp4", "mov", "ts", "ps", "annexb"]

ENDOSCOPY = "1.2.840.10008.5.1.4.1.1.77.1.1.1"
H264 = "1.2.840.10008.1.2.4.102"
H264_FRAGMENTED = "1.2.840.10008.1.2.4.102.1"
HEVC = "1.2.840.10008.1.2.4.107"
MPEG2 = "1.2.840.10008.1.2.4.101"

FPS = 25
SECONDS = Fraction(48, 25)  # the shortest time in which 25 frames a second and AAC at 48 kHz both end
FRAMES = 48
_AAC_PACKETS = 90
_AAC_SAMPLES = 1024

_FORMATS: dict[str, tuple[str, dict[str, str]]] = {
    "mp4": ("mp4", {}),
    "faststart": ("mp4", {"movflags": "faststart"}),
    "fmp4": ("mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "mov": ("mov", {}),
    "ts": ("mpegts", {}),
    "ps": ("vob", {}),
    "annexb": ("h264", {}),
}


@dataclass(frozen=True)
class Clip:
    """What is shown: 1.92 s, repeated; `kilobits` is the rate of its pictures."""

    codec: str = "h264"
    profile: str = "high"
    bframes: int = 2
    sound: str = ""  # 'aac', 'ac3', …
    width: int = 160
    height: int = 120
    kilobits: int = 200
    gop: int = 12
    black: int = 0  # pictures at the beginning
    tag: str = ""  # 'hvc1' where HEVC's default 'hev1' is not wanted


@dataclass(frozen=True)
class Made:
    """A DICOM file and the stream in it."""

    path: Path
    stream: Path
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    frames: int
    length: int
    fragments: tuple[tuple[int, int], ...]  # offset in the file and length, pad included
    stream_sha256: str


def stream(
    path: Path, clip: Clip = Clip(), container: Container = "mp4", *, times: int = 1, odd: bool = False
) -> Path:
    """The clip in a container, `times` in a row; packets are repeated, not encoded again."""
    name, options = _FORMATS[container]
    if container == "annexb":
        name = clip.codec
    with (
        av.open(io.BytesIO(_encoded(clip)), "r") as source,
        av.open(path, "w", format=name, options=options) as target,
    ):
        streams = [target.add_stream_from_template(one) for one in source.streams]
        for made in streams:
            if clip.tag and made.type == "video":
                made.codec_context.codec_tag = clip.tag
        filters = _start_codes(source) if container == "ps" else {}
        packets = [packet for packet in source.demux() if packet.size]
        for packet in _repeated(packets, times):
            copy = av.Packet(bytes(packet.packet))
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.packet.duration
            copy.time_base, copy.is_keyframe = packet.packet.time_base, packet.packet.is_keyframe
            start_codes = filters.get(packet.packet.stream_index)
            for one in start_codes.filter(copy) if start_codes else [copy]:
                one.stream = streams[packet.packet.stream_index]
                target.mux(one)
    if odd and path.stat().st_size % 2 == 0:  # an odd length, as the encoders of some devices leave it
        with path.open("ab") as file:
            file.write(struct.pack(">I4sB", 9, b"free", 1))
    return path


def _start_codes(source: av.container.InputContainer) -> dict[int, BitStreamFilterContext]:
    """What the muxer of transport streams does by itself: NAL units with start codes, not with lengths."""
    names = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
    return {
        one.index: BitStreamFilterContext(names[one.codec_context.name], one)
        for one in source.streams.video
        if one.codec_context.name in names
    }


@dataclass(frozen=True)
class _Shifted:
    packet: av.Packet[Any]
    pts: int
    dts: int


def _repeated(packets: list[av.Packet[Any]], times: int) -> Iterator[_Shifted]:
    """Packets again and again, each time later: the pictures' and the sound's time end together."""
    for turn in range(times):
        heard = 0
        for packet in packets:
            is_sound = packet.stream.type == "audio"
            heard += is_sound
            if is_sound and heard > _AAC_PACKETS and turn < times - 1:
                continue  # what the encoder flushed after the last picture
            assert packet.pts is not None
            assert packet.dts is not None
            late = int(turn * SECONDS / packet.time_base)
            yield _Shifted(packet, packet.pts + late, packet.dts + late)


@cache
def _encoded(clip: Clip) -> bytes:
    """One turn of the clip, in memory."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as target:
        video = _video_stream(target, clip)
        sound = target.add_stream(clip.sound, rate=48000) if clip.sound else None
        if isinstance(sound, av.AudioStream):
            sound.layout = "stereo"
            for tone in _tones(sound.frame_size or _AAC_SAMPLES):
                target.mux(sound.encode(tone))
            target.mux(sound.encode(None))
        for number in range(FRAMES):
            target.mux(video.encode(_picture(clip, number)))
        target.mux(video.encode(None))
    return buffer.getvalue()


def _video_stream(target: av.container.OutputContainer, clip: Clip) -> av.VideoStream:
    options = {
        "h264": {"preset": "ultrafast", "profile": clip.profile, "threads": "1", "bf": str(clip.bframes)},
        "hevc": {
            "preset": "ultrafast",
            "x265-params": f"pools=none:frame-threads=1:log-level=none:bframes={clip.bframes}",
        },
    }.get(clip.codec, {})
    encoder = {"h264": "libx264", "hevc": "libx265"}.get(clip.codec, clip.codec)
    made = target.add_stream(encoder, rate=FPS, options=options)
    assert isinstance(made, av.VideoStream)
    made.width, made.height, made.pix_fmt = clip.width, clip.height, "yuv420p"
    made.bit_rate = clip.kilobits * 1000
    made.gop_size = clip.gop
    made.thread_count = 1
    return made


def _picture(clip: Clip, number: int) -> av.VideoFrame:
    """A moving gradient in noise, so that every picture differs and the rate is used up."""
    noise = np.random.default_rng(number).integers(0, 64, (clip.height, clip.width, 3), np.uint8)
    y, x = np.mgrid[: clip.height, : clip.width]
    noise[..., 0] += ((x + 5 * number) % 192).astype(np.uint8)
    noise[..., 1] += ((y + 3 * number) % 192).astype(np.uint8)
    if number < clip.black:
        noise[:] = 0
    frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
    frame.pts, frame.time_base = number, Fraction(1, FPS)
    return frame


def _tones(size: int) -> Iterator[av.AudioFrame]:
    count = int(SECONDS * 48000)
    wave = (0.2 * np.sin(np.arange(count) * (440 * 2 * np.pi / 48000))).astype(np.float32)
    for start in range(0, count, size):
        piece = wave[start : start + size]
        frame = av.AudioFrame.from_ndarray(np.stack([piece, piece]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        yield frame


def instance(
    path: Path,
    clip: Clip = Clip(),
    container: Container = "mp4",
    *,
    times: int = 1,
    odd: bool = False,
    fragment_size: int = 0xFFFFFFFE,
    bot: bool = False,
    total_length: bool = True,
    transfer_syntax: str = "",
    **attributes: Any,
) -> Made:
    """The clip as a DICOM file at `path`, its stream beside it: written in pieces, never held."""
    plain = stream(path.with_suffix(f".{container}"), clip, container, times=times, odd=odd)
    default = {"hevc": HEVC, "mpeg2video": MPEG2}.get(clip.codec, H264)
    if default == H264 and plain.stat().st_size > fragment_size:
        default = H264_FRAGMENTED
    geometry = {"Rows": clip.height, "Columns": clip.width, "NumberOfFrames": FRAMES * times}
    return wrap(
        path,
        plain,
        transfer_syntax or default,
        fragment_size=fragment_size,
        bot=bot,
        total_length=total_length,
        **(geometry | attributes),
    )


def wrap(
    path: Path,
    plain: Path,
    transfer_syntax: str,
    *,
    fragment_size: int = 0xFFFFFFFE,
    bot: bool = False,
    total_length: bool = True,
    **attributes: Any,
) -> Made:
    """A stream as encapsulated Pixel Data (PS3.5 A.4); an odd last fragment gets its pad."""
    length = plain.stat().st_size
    data = make.dataset(**(_VIDEO | attributes))
    if total_length:
        data.EncapsulatedPixelDataValueTotalLength = length
    digest, fragments = hashlib.sha256(), list[tuple[int, int]]()
    with plain.open("rb") as source, path.open("wb") as file:
        file.write(make.part10(data, transfer_syntax))
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
        file.write(struct.pack("<HHI", 0xFFFE, 0xE000, 4 * bot) + b"\0\0\0\0" * bot)
        for start in range(0, length, fragment_size):
            size = min(fragment_size, length - start)
            file.write(struct.pack("<HHI", 0xFFFE, 0xE000, size + size % 2))
            fragments.append((file.tell(), size + size % 2))
            _copy(source, file, size, digest)
            file.write(b"\0" * (size % 2))
        file.write(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    return Made(
        path,
        plain,
        sop_instance_uid=str(data.SOPInstanceUID),
        study_instance_uid=str(data.StudyInstanceUID),
        series_instance_uid=str(data.SeriesInstanceUID),
        transfer_syntax_uid=transfer_syntax,
        frames=int(data.NumberOfFrames),
        length=length,
        fragments=tuple(fragments),
        stream_sha256=digest.hexdigest(),
    )


_VIDEO: dict[str, Any] = {
    "SOPClassUID": ENDOSCOPY,
    "Modality": "ES",
    "SamplesPerPixel": 3,
    "PlanarConfiguration": 0,
    "PhotometricInterpretation": "YBR_PARTIAL_420",
    "BitsAllocated": 8,
    "BitsStored": 8,
    "HighBit": 7,
    "NumberOfFrames": FRAMES,
    "FrameTime": "40",
    "CineRate": FPS,
    "FrameIncrementPointer": 0x00181063,
    "LossyImageCompression": "01",
    "PixelData": None,
}


def _copy(source: BinaryIO, target: BinaryIO, size: int, digest: hashlib._Hash) -> None:
    while size:
        piece = source.read(min(size, 1 << 20))
        digest.update(piece)
        target.write(piece)
        size -= len(piece)


def large(path: Path, target: int) -> Made:
    """A faststart-less H.264 video with sound of about `target` bytes, in fragments of 1 GiB."""
    clip = Clip(sound="aac", width=1280, height=720, kilobits=20_000)
    unit = stream(path.with_suffix(".unit"), clip, "mp4").stat().st_size
    return instance(path, clip, times=max(target // unit, 1), fragment_size=1 << 30)


if __name__ == "__main__":
    instance(Path(sys.argv[1]), Clip(sound="aac", width=640, height=480, kilobits=1500), times=6)
