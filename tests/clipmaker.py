"""Small videos whose frames carry their own number in the pixels, so that a test can read back
which frame a reader returned.

The upper half of each picture holds the number as 2 × 8 black and white blocks, most significant
first; the lower left quarter is red, the lower right one blue, which shows turning and mirroring.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

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
    """A file and what is known about it. ``times`` are seconds on a player's clock."""

    path: Path
    times: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.path.stem


def numbered_image(number: int, width: int = WIDTH, height: int = HEIGHT) -> Images:
    """uint8 RGB ``[height, width, 3]`` that says ``number``."""
    bits = [(number >> (_BITS - 1 - place)) & 1 for place in range(_BITS)]
    blocks = np.array(bits, dtype=np.uint8).reshape(2, 8) * 220 + 16
    image = np.zeros((height, width, 3), dtype=np.uint8)
    upper = np.kron(blocks, np.ones((height // 4, width // 8), dtype=np.uint8))
    image[: upper.shape[0], : upper.shape[1]] = upper[..., None]
    image[height // 2 :, : width // 2] = (200, 0, 0)
    image[height // 2 :, width // 2 :] = (0, 0, 200)
    return image


def number_of(image: Images) -> int:
    """The number a picture carries; AssertionError where the picture is turned or torn."""
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
) -> Clip:
    """Encode one numbered frame for each of ``times``; the clock begins at ``starts_at``."""
    if images is None:
        images = [numbered_image(number) for number in range(len(times))]
    pictures = list(images)
    with av.open(str(path), "w", options=container_options or {}) as container:
        rate = max(1, round((len(times) - 1) / times[-1])) if len(times) > 1 else 25
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pixel_format
        stream.height, stream.width = pictures[0].shape[:2]
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS_PER_SECOND)
        context.gop_size = gop
        if codec == "libx264":
            context.max_b_frames = b_frames
            steady = {"crf": "12", "preset": "veryfast", "sc_threshold": "0"}
            context.options = {**steady, **(options or {})}
        if sample_aspect_ratio is not None:
            context.sample_aspect_ratio = sample_aspect_ratio
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = Fraction(1, _TICKS_PER_SECOND)
            frame.pts = round((time + starts_at) * _TICKS_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Clip(path, tuple(times))


def write_sound(path: Path) -> Path:
    """A quarter of a second of silence, without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = np.zeros((1, 4096), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write ``(a, b, c, d)`` into the track header of an mp4 file (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 0x10000 for value in matrix)
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(bytes(data))


def cut(source: Path, target: Path, share: float) -> Path:
    """The first ``share`` of a file: a download that broke off."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def tear(source: Path, target: Path, start: float, end: float) -> Path:
    """The file with zeros from ``start`` to ``end`` (shares of its length)."""
    data = bytearray(source.read_bytes())
    first, last = int(len(data) * start), int(len(data) * end)
    data[first:last] = bytes(last - first)
    target.write_bytes(bytes(data))
    return target
