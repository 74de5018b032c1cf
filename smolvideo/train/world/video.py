"""Encoder of scenes as H.264 mp4 files, with rotation and variable frame rate."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from smolvideo.frames import SYNTHETIC_COMMENT
from smolvideo.train.world.render import render_frame
from smolvideo.train.world.scene import Scene

TICKS_PER_SECOND = 12800
BT601, LIMITED_RANGE = 6, 1
"""AVCOL_SPC_SMPTE170M and AVCOL_RANGE_MPEG of libavutil/pixfmt.h."""


@dataclass(frozen=True)
class EncodingOptions:
    """Encoding of a scene.

    ``width`` × ``height`` is the displayed size. ``rotation`` (0, 90, 180 or 270) is by how many
    degrees a player must rotate the stored frames clockwise, as in phone videos. With
    ``variable_rate`` the interval between frames varies between half and double of 1 / ``fps``.
    """

    width: int
    height: int
    fps: float
    seconds: float
    rotation: int = 0
    variable_rate: bool = False


def frame_times(film: EncodingOptions) -> list[float]:
    """Return the presentation time of every frame in seconds, from 0."""
    step = 1 / film.fps
    if not film.variable_rate:
        return [place * step for place in range(round(film.seconds * film.fps))]
    times, now, place = [], 0.0, 0
    while now < film.seconds:
        times.append(now)
        now += step * (0.5, 1.0, 2.0, 0.75)[place % 4]
        place += 1
    return times


def write_video(scene: Scene, film: EncodingOptions, path: Path) -> None:
    """Encode the scene as H.264 in an mp4 file."""
    turned = film.rotation in (90, 270)
    width, height = (film.height, film.width) if turned else (film.width, film.height)
    # +bitexact leaves the encoder's version out of the file: the same scene gives the same bytes.
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        container.metadata["comment"] = SYNTHETIC_COMMENT
        stream = container.add_stream("libx264", rate=Fraction(film.fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS_PER_SECOND)
        # Matches the conversion from RGB below; untagged, players guess the matrix by size.
        stream.codec_context.colorspace, stream.codec_context.color_range = BT601, LIMITED_RANGE
        stream.options = {"crf": "23", "preset": "medium", "threads": "1"}
        stream.codec_context.flags |= 1 << 23  # AV_CODEC_FLAG_BITEXACT
        for seconds in frame_times(film):
            picture = render_frame(scene, seconds / film.seconds, film.width, film.height)
            # np.rot90 turns counter-clockwise: the player's clockwise turn brings it back.
            stored = np.ascontiguousarray(np.rot90(picture, film.rotation // 90))
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
            frame.time_base, frame.pts = stream.time_base, round(seconds * TICKS_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if film.rotation:
        _write_rotation(path, film.rotation, width, height)


def _write_rotation(path: Path, degrees: int, width: int, height: int) -> None:
    """Write a clockwise rotation into the track header's matrix (ISO 14496-12, 8.3.2).

    PyAV cannot write it. In a version-0 header the nine values begin 44 bytes after the start of
    the name ``tkhd``: 16.16 fixed point, the last column 2.30.
    """
    one = 1 << 16
    a, b, c, d, x, y = {
        90: (0, one, -one, 0, height * one, 0),
        180: (-one, 0, 0, -one, width * one, height * one),
        270: (0, -one, one, 0, 0, width * one),
    }[degrees]
    data = bytearray(path.read_bytes())
    header = data.rindex(b"tkhd")
    struct.pack_into(">9i", data, header + 44, a, b, 0, c, d, 0, x, y, 1 << 30)
    path.write_bytes(bytes(data))
