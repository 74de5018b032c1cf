"""Small videos whose frames carry their number in the pixels, so that tests can identify frames.

The upper half of each frame holds the number as 2 × 8 black and white blocks, most significant
first; the lower left quarter is red and the lower right one blue, which reveals rotation and
mirroring.
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from smolvideo.frames import Images

WIDTH, HEIGHT = 128, 96
_BITS = 16
_TICKS_PER_SECOND = 600

UPRIGHT = (1, 0, 0, 1)
CLOCKWISE = (0, 1, -1, 0)
COUNTERCLOCKWISE = (0, -1, 1, 0)
UPSIDE_DOWN = (-1, 0, 0, -1)
MIRRORED = (-1, 0, 0, 1)
TRANSPOSED = (0, 1, 1, 0)


@dataclass(frozen=True)
class Clip:
    """A clip file and its frame times ``times``, in seconds on a player's clock."""

    path: Path
    times: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.path.stem


def numbered_image(number: int, width: int = WIDTH, height: int = HEIGHT) -> Images:
    """Return a uint8 RGB image ``[height, width, 3]`` that carries ``number``."""
    bits = [(number >> (_BITS - 1 - place)) & 1 for place in range(_BITS)]
    blocks = np.array(bits, dtype=np.uint8).reshape(2, 8) * 220 + 16
    image = np.zeros((height, width, 3), dtype=np.uint8)
    upper = np.kron(blocks, np.ones((height // 4, width // 8), dtype=np.uint8))
    image[: upper.shape[0], : upper.shape[1]] = upper[..., None]
    image[height // 2 :, : width // 2] = (200, 0, 0)
    image[height // 2 :, width // 2 :] = (0, 0, 200)
    return image


def number_of(image: Images) -> int:
    """Return the number in an image; AssertionError where the image is rotated or torn."""
    height, width = image.shape[:2]
    left, right = image[height * 3 // 4, width // 4], image[height * 3 // 4, width * 3 // 4]
    assert left[0] > 120 > left[2], f"lower left should be red, is {left}"
    assert right[2] > 120 > right[0], f"lower right should be blue, is {right}"
    number = 0
    for row in range(2):
        for column in range(8):
            y, x = (2 * row + 1) * height // 8, (2 * column + 1) * width // 16
            number = 2 * number + int(image[y, x].mean() > 126)
    return number


def evenly(count: int, fps: int) -> list[float]:
    return [place / fps for place in range(count)]


def write_clip(
    path: Path,
    times: Sequence[float],
    *,
    codec: str = "libx264",
    gop: int = 12,
    b_frames: int = 2,
    starts_at: float = 0.0,
    images: Iterable[Images] | None = None,
    sample_aspect_ratio: Fraction | None = None,
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    sound_seconds: float = 0.0,
    texts: Sequence[tuple[float, float, str]] = (),
) -> Clip:
    """Encode one numbered frame for each of ``times``; the clock begins at ``starts_at``.

    ``sound_seconds`` adds silence; ``texts`` (start, end, words) adds a text track (MP4).
    """
    if images is None:
        images = [numbered_image(number) for number in range(len(times))]
    pictures = list(images)
    with av.open(str(path), "w", options=container_options or {}) as container:
        rate = max(1, round((len(times) - 1) / times[-1])) if len(times) > 1 else 25
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pixel_format
        stream.height, stream.width = pictures[0].shape[:2]
        context = stream.codec_context
        # MPEG-2 only has constant rates.
        tick = Fraction(1, rate if codec == "mpeg2video" else _TICKS_PER_SECOND)
        context.time_base = tick
        context.gop_size = gop
        if codec == "libx264":
            context.max_b_frames = b_frames
            steady = {"crf": "12", "preset": "veryfast", "sc_threshold": "0"}
            context.options = {**steady, **(options or {})}
        if sample_aspect_ratio is not None:
            context.sample_aspect_ratio = sample_aspect_ratio
        sound = _Silence(container, sound_seconds, starts_at)
        _add_texts(container, texts, starts_at)
        for time, picture in zip(times, pictures, strict=True):
            sound.write_until(time)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = tick
            frame.pts = round((time + starts_at) / tick)
            container.mux(stream.encode(frame))
        sound.write_until(math.inf)
        container.mux(stream.encode(None))
    return Clip(path, tuple(times))


def join(target: Path, *parts: Clip | Path) -> Path:
    """Concatenate files, as ``cat`` does."""
    paths = [part.path if isinstance(part, Clip) else part for part in parts]
    target.write_bytes(b"".join(path.read_bytes() for path in paths))
    return target


def split(clip: Clip, folder: Path, jumps: Mapping[int, float]) -> list[Path]:
    """Write the packets of a clip to files without decoding.

    A new file begins at each packet of ``jumps``; its time stamps and all later ones are advanced
    by that many seconds.
    """
    bounds = [0, *jumps, 2**31]
    paths = []
    with av.open(str(clip.path)) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        shift = 0.0
        for number, (first, end) in enumerate(pairwise(bounds)):
            shift += jumps.get(first, 0.0)
            path = folder / f"split{number}{clip.path.suffix}"
            options = {"mpegts_m2ts_mode": str(int(path.suffix == ".m2ts"))}
            is_transport = path.suffix in (".ts", ".m2ts")
            with av.open(str(path), "w", options=options if is_transport else {}) as target:
                copied = target.add_stream_from_template(stream)
                for packet in packets[first:end]:
                    ticks = round(shift / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                    packet.stream = copied
                    target.mux(packet)
            paths.append(path)
    return paths


class _Silence:
    """A sound track that is extended in step with the frames."""

    _RATE, _SIZE = 16000, 1024

    def __init__(
        self, container: av.container.OutputContainer, seconds: float, starts_at: float
    ) -> None:
        self._container = container
        self._number, self._count = 0, round(seconds * self._RATE / self._SIZE)
        self._first = round(starts_at * self._RATE)
        self._stream: Any = None
        if self._count:
            self._stream = container.add_stream("aac", rate=self._RATE)
            self._stream.layout = "mono"

    def write_until(self, seconds: float) -> None:
        while self._number < min(self._count, seconds * self._RATE / self._SIZE):
            silence = np.zeros((1, self._SIZE), dtype=np.int16)
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            frame.sample_rate = self._RATE
            frame.pts = self._number * self._SIZE + self._first
            self._container.mux(self._stream.encode(frame))
            self._number += 1
        if self._count and self._number == self._count:
            self._container.mux(self._stream.encode(None))
            self._count = 0


def _add_texts(
    container: av.container.OutputContainer,
    texts: Sequence[tuple[float, float, str]],
    starts_at: float,
) -> None:
    if not texts:
        return
    stream = container.add_mux_stream("mov_text")
    stream.time_base = Fraction(1, 1000)
    for start, end, words in texts:
        packet = av.Packet(len(words).to_bytes(2, "big") + words.encode())
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = round((start + starts_at) * 1000)
        packet.duration = round((end - start) * 1000)
        container.mux(packet)


def write_sound(path: Path) -> Path:
    """Write a quarter of a second of silence without video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = np.zeros((1, 4096), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def shift_fragments(path: Path, seconds: float) -> None:
    """Shift the fragments of a single-track mp4: FFmpeg's muxer starts them at 0 (ISO/IEC 14496-12,
    8.8.12 and 8.4.2).
    """
    data = bytearray(path.read_bytes())
    media = data.index(b"mdhd") + 4
    (scale,) = struct.unpack_from(">I", data, media + 12)
    place = data.find(b"tfdt")
    while place >= 0:
        (time,) = struct.unpack_from(">Q", data, place + 8)
        struct.pack_into(">Q", data, place + 8, time + round(seconds * scale))
        place = data.find(b"tfdt", place + 1)
    path.write_bytes(bytes(data))


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write ``(a, b, c, d)`` into the track header of an mp4 file (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 0x10000 for value in matrix)
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(bytes(data))


def cut(source: Path, target: Path, share: float) -> Path:
    """Copy the first ``share`` of a file, like an interrupted download."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def tear(source: Path, target: Path, start: float, end: float) -> Path:
    """Copy the file with zeros from ``start`` to ``end`` (shares of its length)."""
    data = bytearray(source.read_bytes())
    first, last = int(len(data) * start), int(len(data) * end)
    data[first:last] = bytes(last - first)
    target.write_bytes(bytes(data))
    return target
