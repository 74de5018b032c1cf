"""Input video of a benchmark: the user's, or rendered noise."""

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

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
