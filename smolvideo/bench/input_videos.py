"""Input videos of the benchmarks: the user's, rendered noise, or a moving test pattern.

A minute is encoded and then repeated packet by packet, so that an hour of video takes the time of a
minute. Each repetition begins with a key frame, so that it decodes like a video without repetition.
"""

import io
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from smolvideo.files import atomic_path
from smolvideo.frames import FrameBatch, Images
from smolvideo.models import Checkpoint
from smolvideo.prompt import PromptOptions, frame_transform
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, sample_frames

_WIDTH, _HEIGHT, _RATE = 640, 360, 10


@dataclass(frozen=True)
class BenchFrames:
    """Transformed frames, and the seconds it took to decode and to transform them."""

    batch: FrameBatch
    decode: float
    preprocess: float


def write_noise_video(file: Path, seconds: int) -> None:
    """Write an MPEG-4 video of ``seconds`` with drifting noise, so that all frames differ."""
    import av
    import numpy as np

    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (_HEIGHT // 8, _WIDTH // 8, 3), dtype=np.uint8)
    picture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(file, "w") as container:
        stream = container.add_stream("mpeg4", rate=_RATE)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _RATE)
        for number in range(seconds * _RATE):
            drifted = np.roll(picture, (number, 3 * number), axis=(0, 1))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(drifted), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_bench_frames(file: Path, checkpoint: Checkpoint, max_frames: int) -> BenchFrames:
    """Sample and transform ``max_frames`` of ``file``, evenly in time, for ``checkpoint``.

    Raises ReaderError for files that cannot be read.
    """
    geometry, fit = frame_transform(checkpoint, PromptOptions())
    preprocess = 0.0

    def timed_fit(image: Images) -> Images:
        nonlocal preprocess
        started = time.perf_counter()
        fitted = fit(image)
        preprocess += time.perf_counter() - started
        return fitted

    started = time.perf_counter()
    with open_video(file) as reader:
        sampling = FrameSampling(max_frames=max_frames)
        batch = sample_frames(reader, sampling, transform=timed_fit, geometry=geometry)
    return BenchFrames(batch, time.perf_counter() - started - preprocess, preprocess)


_MAX_ENCODED = 60
"""Seconds that are encoded; longer videos repeat them."""


@dataclass(frozen=True)
class SyntheticVideo:
    """A video to write: H.264, ``fps`` frames a second, a key frame every ``key_interval``
    frames."""

    name: str
    width: int
    height: int
    seconds: int
    fps: int = 30
    key_interval: int = 250


SYNTHETIC_VIDEOS = (
    SyntheticVideo("20s_1080p.mp4", 1920, 1080, 20),
    SyntheticVideo("10min_1080p.mp4", 1920, 1080, 600),
    SyntheticVideo("60min_720p.mp4", 1280, 720, 3600),
)
"""A phone's clip, a lecture, a film, all with the default key frames of an encoder."""


def write_synthetic_video(film: SyntheticVideo, folder: Path) -> Path:
    """Write ``film`` to ``folder``, unless it is there, and return its path."""
    import av

    # reuse an earlier run's file
    path = folder / film.name
    if path.exists():
        return path
    with (
        atomic_path(path) as part,
        av.open(_encoded(film)) as minute,
        av.open(str(part), "w", format="mp4") as whole,
    ):
        # copy the encoded packets, with time stamps shifted in each repetition
        stream = whole.add_stream_from_template(minute.streams.video[0])
        packets = [_kept(packet) for packet in minute.demux() if packet.size]
        tick = minute.streams.video[0].time_base
        length = round(len(packets) / film.fps / tick)
        for place in range(film.seconds * film.fps):
            number, within = divmod(place, len(packets))
            content, pts, dts, is_key = packets[within]
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, tick, is_key
            packet.pts, packet.dts = pts + number * length, dts + number * length
            whole.mux(packet)
    return path


def _kept(packet: Any) -> tuple[bytes, int, int, bool]:
    return bytes(packet), packet.pts, packet.dts, packet.is_keyframe


def _encoded(film: SyntheticVideo) -> io.BytesIO:
    """Encode at most a minute of the video, as a file in memory."""
    import av

    frames = film.seconds * film.fps
    if film.seconds > _MAX_ENCODED:
        # Whole GOPs: a repetition begins where a key frame would have come anyway.
        intervals = _MAX_ENCODED * film.fps // film.key_interval
        frames = max(intervals, 1) * film.key_interval
    # encode the test pattern
    file = io.BytesIO()
    picture = f"testsrc2=size={film.width}x{film.height}:rate={film.fps}"
    with av.open(picture, format="lavfi") as source, av.open(file, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=film.fps)
        stream.width, stream.height, stream.pix_fmt = film.width, film.height, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, film.fps)
        context.gop_size = film.key_interval
        context.options = {"preset": "veryfast", "crf": "24", "sc_threshold": "0"}
        for number, frame in zip(range(frames), source.decode(video=0), strict=False):
            plain = frame.reformat(format="yuv420p")
            plain.pict_type = 0  # the source marks all frames as I, and the encoder would obey
            plain.pts, plain.time_base = number, Fraction(1, film.fps)
            target.mux(stream.encode(plain))
        target.mux(stream.encode(None))
    file.seek(0)
    return file
