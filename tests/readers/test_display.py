"""Frames are shown as by a player: orientation, aspect ratio, colour, HDR, alpha, interlacing."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support import clipmaker

from smolvideo.readers import open_video
from smolvideo.readers.base import square_pixel_size
from smolvideo.readers.display import (
    composite_on_white,
    deinterlace,
    display_geometry,
    orientation_from_matrix,
    to_display_rgb,
    to_rgb,
)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        (clipmaker.UPRIGHT, lambda image: image),
        (clipmaker.CLOCKWISE, lambda image: np.rot90(image, -1)),
        (clipmaker.COUNTERCLOCKWISE, lambda image: np.rot90(image, 1)),
        (clipmaker.UPSIDE_DOWN, lambda image: np.rot90(image, 2)),
        (clipmaker.MIRRORED, lambda image: image[:, ::-1]),
        (clipmaker.TRANSPOSED, lambda image: image.transpose(1, 0, 2)),
    ],
    ids=["upright", "clockwise", "counterclockwise", "upside_down", "mirrored", "transposed"],
)
def test_orientation_of_display_matrices(
    matrix: tuple[int, int, int, int],
    shown: Callable[[np.ndarray], np.ndarray],
    tmp_path: Path,
) -> None:
    clip = clipmaker.write_clip(tmp_path / "turned.mp4", clipmaker.evenly(3, 10))
    clipmaker.set_display_matrix(clip.path, matrix)
    expected = shown(clipmaker.numbered_image(2))
    with open_video(clip.path) as video:
        (frame,) = video.frames_at([0.2])
        assert (video.metadata.height, video.metadata.width) == expected.shape[:2]
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).mean() < 12


def test_slanted_display_matrices_are_rounded_to_right_angles() -> None:
    assert orientation_from_matrix((0.99, 0.1, -0.1, 0.99)) == (False, False, False)
    assert orientation_from_matrix((0.1, 0.99, -0.99, 0.1)) == (True, True, False)


@pytest.mark.parametrize("reader", ["pyav", "opencv"])
@pytest.mark.parametrize(
    ("ratio", "size"),
    [(Fraction(2, 1), (256, 96)), (Fraction(1, 2), (128, 192)), (Fraction(200, 199), (128, 96))],
)
def test_sample_aspect_ratio_scales_the_width(
    reader: str, ratio: Fraction, size: tuple[int, int], tmp_path: Path
) -> None:
    clip = clipmaker.write_clip(
        tmp_path / "wide.mp4", clipmaker.evenly(5, 10), sample_aspect_ratio=ratio
    )
    with open_video(clip.path, reader=reader) as video:
        assert (video.metadata.width, video.metadata.height) == size
        (frame,) = video.frames_at([0.3])
    assert frame.image.shape == (size[1], size[0], 3)
    assert clipmaker.number_of(frame.image) == 3


def test_absurd_aspect_ratios_are_ignored() -> None:
    assert square_pixel_size(100, 100, Fraction(1000, 1)) == (100, 100)
    assert square_pixel_size(720, 576, Fraction(16, 11)) == (1047, 576)
    assert square_pixel_size(720, 576, None) == (720, 576)


def yuv_frame(y: int, u: int, v: int, *, pixel_format: str = "yuv444p") -> av.VideoFrame:
    """Return a 16 × 16 frame of one colour."""
    planes = np.stack([np.full((16, 16), value) for value in (y, u, v)])
    if pixel_format.endswith("10le"):
        planes = planes.astype(np.uint16)
        plain = av.VideoFrame(16, 16, pixel_format)
        for plane, values in zip(plain.planes, planes, strict=True):
            rows = np.zeros((16, plane.line_size // 2), dtype=np.uint16)
            rows[:, :16] = values
            plane.update(rows.tobytes())
        return plain
    return av.VideoFrame.from_ndarray(planes.astype(np.uint8), format=pixel_format)


COLOURS = [
    # colour space, range, Y, U, V and what they mean; ITU-R BT.601-7, BT.709-6, BT.2020-2
    (1, 1, 63, 102, 240, (255, 0, 0)),
    (5, 1, 81, 90, 240, (255, 0, 0)),
    (9, 1, 74, 97, 240, (255, 0, 0)),
    (1, 2, 54, 99, 255, (255, 0, 0)),
    (5, 2, 76, 85, 255, (255, 0, 0)),
    (1, 1, 16, 128, 128, (0, 0, 0)),
    (1, 1, 235, 128, 128, (255, 255, 255)),
    (1, 2, 235, 128, 128, (235, 235, 235)),
]


@pytest.mark.parametrize(("space", "levels", "y", "u", "v", "rgb"), COLOURS)
def test_colour_matrix_and_range(
    space: int, levels: int, y: int, u: int, v: int, rgb: tuple[int, int, int]
) -> None:
    frame = yuv_frame(y, u, v)
    frame.colorspace, frame.color_range = space, levels
    assert to_rgb(frame, 16, 16)[8, 8].tolist() == pytest.approx(rgb, abs=3)


def test_ten_bit_frames() -> None:
    frame = yuv_frame(63 * 4, 102 * 4, 240 * 4, pixel_format="yuv444p10le")
    frame.colorspace, frame.color_range = 1, 1
    assert to_rgb(frame, 16, 16)[8, 8].tolist() == pytest.approx((255, 0, 0), abs=3)


def test_unsaid_colour_matrix_is_guessed_by_size() -> None:
    small, large = yuv_frame(63, 102, 240), av.VideoFrame(1280, 720, "yuv444p")
    for plane, value in zip(large.planes, (63, 102, 240), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    assert to_rgb(large, 1280, 720)[300, 300].tolist() == pytest.approx((255, 0, 0), abs=3)
    assert to_rgb(small, 16, 16)[8, 8, 0] < 245


@pytest.mark.parametrize(
    ("width", "height", "hd"),
    [
        (720, 1280, True),
        (1280, 544, True),
        (1024, 578, True),
        (1278, 576, False),
        (720, 576, False),
    ],
)
def test_hd_is_decided_by_either_side(width: int, height: int, hd: bool) -> None:
    frame = av.VideoFrame(width, height, "yuv444p")
    for plane, value in zip(frame.planes, (63, 102, 240), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    red = to_rgb(frame, width, height)[height // 2, width // 2]
    assert (red.tolist() == pytest.approx((255, 0, 0), abs=3)) == hd


@pytest.mark.parametrize(
    ("luma", "level"),
    # PQ signals of 10, 100, 203 and 1000 cd/m² by SMPTE ST 2084: 30.1, 50.8, 58.1 and 75.2 %. By
    # Reinhard's extended curve with white at 203 and the brightest at 1000 cd/m² these are 0.047,
    # 0.337, 0.521 and 1 of the light, and 28, 63.5, 76.2 and 100 % of the levels of gamma 2.4.
    [(82, 71), (127, 162), (143, 194), (181, 255), (16, 0), (235, 255)],
)
def test_hdr_is_tone_mapped(luma: int, level: int) -> None:
    frame = yuv_frame(luma, 128, 128)
    frame.colorspace, frame.color_range, frame.color_trc = 9, 1, 16
    shown = to_display_rgb(frame, display_geometry(frame, None))[8, 8]
    assert shown.tolist() == pytest.approx([level] * 3, abs=3)


def test_alpha_is_composited_on_white() -> None:
    image = np.zeros((1, 3, 4), dtype=np.uint8)
    image[0, :, 3] = (0, 128, 255)
    assert composite_on_white(image)[0, :, 0].tolist() == [255, 127, 0]
    frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 4), dtype=np.uint8), format="rgba")
    assert (to_rgb(frame, 16, 16) == 255).all()


def test_deinterlacing_removes_combing(tmp_path: Path) -> None:
    combed = []
    for number in range(6):
        picture = np.zeros((96, 128, 3), dtype=np.uint8)
        picture[0::2, 10 + 8 * number : 50 + 8 * number] = 220
        picture[1::2, 22 + 8 * number : 62 + 8 * number] = 220
        combed.append(picture)
    clip = clipmaker.write_clip(
        tmp_path / "tff.mp4",
        clipmaker.evenly(6, 25),
        images=combed,
        options={"x264-params": "tff=1"},
    )

    def comb(image: np.ndarray) -> float:
        lines = image[..., 0].astype(int)
        return float(np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:]).mean())

    with av.open(str(clip.path)) as container:
        frame = next(container.decode(video=0))
        assert frame.interlaced_frame
        assert comb(frame.to_ndarray(format="rgb24")) > 40
        assert deinterlace(frame).pts == frame.pts
    with open_video(clip.path) as video:
        assert all(comb(frame.image) < 4 for frame in video.frames_at(clip.times))
