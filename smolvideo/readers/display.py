"""Conversion of decoded frames (PyAV) to what a player displays: upright RGB with square pixels.

In this order: one field of an interlaced frame is kept and its missing lines are interpolated;
swscale converts the planes to RGB at the size given by the sample aspect ratio; alpha is composited
over white; the display matrix rotates and mirrors.
"""

import functools
import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from smolvideo.frames import Images
from smolvideo.readers.base import size_within, square_pixel_size

_BT709, _BT2020, PQ = "ITU709", "BT2020", 16
_MATRICES = {1: _BT709, 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: _BT2020, 10: _BT2020}
"""AVColorSpace (ISO/IEC 23091-2, matrix coefficients) to swscale's names."""
_LIMITED, _FULL = "MPEG", "JPEG"


@dataclass(frozen=True)
class DisplayGeometry:
    """Display transform of all frames of a stream.

    ``width`` and ``height`` are the scaled size in pixels, before rotation. ``transposed``,
    ``mirrored`` (left-right) and ``flipped`` (upside down) are applied in this order.
    """

    width: int
    height: int
    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def fit_within(self, longest: int | None) -> "DisplayGeometry":
        """Return the geometry scaled down so that no side exceeds ``longest`` pixels."""
        width, height = size_within(self.width, self.height, longest)
        return replace(self, width=width, height=height)

    @property
    def shown_width(self) -> int:
        return self.height if self.transposed else self.width

    @property
    def shown_height(self) -> int:
        return self.width if self.transposed else self.height


def display_geometry(frame: Any, sample_aspect_ratio: Fraction | None) -> DisplayGeometry:
    """Return the geometry of the stream whose first decoded frame (``av.VideoFrame``) is given."""
    width, height = square_pixel_size(frame.width, frame.height, sample_aspect_ratio)
    transposed, mirrored, flipped = orientation_from_matrix(display_matrix(frame))
    return DisplayGeometry(width, height, transposed, mirrored, flipped)


def display_matrix(frame: Any) -> tuple[float, float, float, float]:
    """Return the linear part ``(a, b, c, d)`` of the frame's display matrix: x' = ax + cy,
    y' = bx + dy.

    PyAV cannot list the side data of a frame if one of them is of a kind unknown to it (MV-HEVC);
    then only the rotation is known.
    """
    try:
        side_data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        quarter = round(frame.rotation / 90) % 4
        return ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[quarter]
    if side_data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack_from("=5i", bytes(side_data))
    return a, b, c, d


def orientation_from_matrix(matrix: tuple[float, float, float, float]) -> tuple[bool, bool, bool]:
    """Return ``(transposed, mirrored, flipped)`` nearest to a display matrix; other angles are
    rounded to a multiple of 90°."""
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def to_display_rgb(frame: Any, shape: DisplayGeometry) -> Images:
    """Return a decoded frame as contiguous uint8 RGB ``[H, W, 3]``, ``shape.shown_height ×
    shown_width``."""
    if frame.interlaced_frame and frame.height >= 4:
        frame = deinterlace(frame)
    image = to_rgb(frame, shape.width, shape.height)
    if frame.color_trc == PQ:
        image = _pq_to_sdr_lut()[image]
    if shape.transposed:
        image = image.transpose(1, 0, 2)
    if shape.mirrored:
        image = image[:, ::-1]
    if shape.flipped:
        image = image[::-1]
    return np.ascontiguousarray(image)


def to_rgb(frame: Any, width: int, height: int) -> Images:
    """Convert a frame to scaled RGB by its colour matrix and range, with alpha over white."""
    transparent = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    layout = "rgba" if transparent else "rgb24"
    image: Images
    if frame.format.is_rgb or frame.format.has_palette:
        image = frame.to_ndarray(format=layout, width=width, height=height)
    else:
        image = frame.to_ndarray(
            format=layout,
            width=width,
            height=height,
            src_colorspace=_matrix_of(frame),
            src_color_range=_range_of(frame),
            dst_color_range=_FULL,
        )
    return composite_on_white(image) if transparent else image


def composite_on_white(image: Images) -> Images:
    """Composite RGBA ``[H, W, 4]`` over white; returns RGB."""
    alpha = image[..., 3:].astype(np.uint16)
    mixed = image[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _matrix_of(frame: Any) -> str:
    """Return the colour matrix; if unspecified, BT.709 for HD and BT.601 below, as players
    guess."""
    known = _MATRICES.get(int(frame.colorspace))
    if known is not None:
        return known
    return _BT709 if frame.width >= 1280 or frame.height > 576 else "ITU601"


def _range_of(frame: Any) -> str:
    if int(frame.color_range) == 2 or frame.format.name.startswith("yuvj"):
        return _FULL
    return _LIMITED


def deinterlace(frame: Any) -> Any:
    """Interpolate the lines of the second field along edges (FFmpeg's filter ``estdif``).

    A filter within one frame, because the neighbours of a frame are not always decoded.
    """
    import av.filter

    graph = av.filter.Graph()
    # Frames from flushing a decoder carry no time base; any value will do.
    tick = frame.time_base or Fraction(1, 1000)
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=tick
    )
    filters = (source, graph.add("estdif", "mode=frame:deint=interlaced"), graph.add("buffersink"))
    graph.link_nodes(*filters).configure()
    graph.push(frame)
    graph.push(None)
    return graph.pull()


@functools.cache
def _pq_to_sdr_lut() -> Images:
    """Return the SDR grey level for each of 256 PQ levels (HDR10): plausible brightness only.

    SMPTE ST 2084 gives the luminance; 203 cd/m² is white (ITU-R BT.2408); Reinhard's extended curve
    maps 1000 cd/m² to white; then the inverse of gamma 2.4. The wider primaries are not converted,
    which looks slightly pale.
    """
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (np.arange(256) / 255) ** (1 / m2)
    nits = 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    light, peak = nits / 203, 1000 / 203
    toned = np.clip(light * (1 + light / peak**2) / (1 + light), 0, 1)
    return np.asarray(np.rint(255 * toned ** (1 / 2.4)), dtype=np.uint8)
