"""Renderer of scenes: frames of any size, and H.264 mp4 files."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from smolvideo.frames import Images, synthetic_comment
from smolvideo.train.world.looks import PLAIN, Look, finish, paint_background
from smolvideo.train.world.scene import GLYPH_ASPECT, Caption, Scene, SceneObject

Floats = NDArray[np.float32]

RGB = {
    "red": (215, 35, 35),
    "green": (40, 160, 60),
    "blue": (40, 80, 215),
    "yellow": (240, 215, 40),
    "purple": (140, 50, 170),
    "orange": (245, 135, 25),
    "white": (240, 240, 240),
    "grey": (128, 128, 128),
    "black": (20, 20, 20),
    "brown": (105, 70, 45),
}
COLOUR_JITTER = 12
"""Largest offset of a colour from its named value, in grey levels per channel."""


def _star(points: int = 5, inner: float = 0.42) -> Floats:
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    reach = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1).astype(np.float32)


_ARM = 0.33
CORNERS: dict[str, Floats] = {
    "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float32) * 0.85,
    "triangle": np.array([(0, -1), (1, 0.8), (-1, 0.8)], np.float32),
    "star": _star(),
    "cross": np.array(
        [(-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
         (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)],
        np.float32,
    ),
}  # fmt: skip
"""Corners of each polygon in units of its radius, in order; the circle has none."""


def signed_distance(shape: str, x: Floats, y: Floats) -> Floats:
    """Distance to the shape's edge in units of its radius, negative inside.

    Polygons: the nearest edge, and the even-odd rule for the sign.
    """
    if shape == "circle":
        return np.hypot(x, y) - np.float32(1.0)
    corners = CORNERS[shape]
    nearest = np.full(x.shape, np.inf, np.float32)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, (px - along * ex) ** 2 + (py - along * ey) ** 2)
        if ey:
            inside ^= ((ay > y) != (by > y)) & (px < ex * py / ey)
    return np.where(inside, -1, 1).astype(np.float32) * np.sqrt(nearest)


def render_frame(scene: Scene, share: float, width: int, height: int, look: Look = PLAIN) -> Images:
    """Render the scene at a share of its duration: uint8 RGB ``[height, width, 3]``.

    ``width / height`` need not be the scene's aspect: the image is then squeezed, as the geometry
    ``direct`` squeezes a frame into the model's square.
    """
    image = np.empty((height, width, 3), np.float32)
    image[:] = _colour(scene, 0, scene.background_at(share), look)
    paint_background(image, look)
    for place, thing in enumerate(scene.things):
        centre = thing.centre_at(share)
        if centre is not None:
            colour = _colour(scene, place + 1, thing.colour_at(share), look)
            brush = _Brush(
                colour,
                np.radians(look.tilts[place]) if look.tilts else 0.0,
                look.outline,
                look.shadow,
            )
            _paint(image, thing, centre, scene.aspect, brush)
    if scene.caption is not None:
        _write(image, scene.caption, scene.aspect)
    return finish(image, look)


def render_times(
    scene: Scene, shares: list[float], width: int, height: int, look: Look = PLAIN
) -> tuple[Images, list[int]]:
    """Return the distinct images at the shares, ``[U, H, W, 3]``, and the index of each share's
    image.

    Frames that show the same are rendered once.
    """
    place_of: dict[object, int] = {}
    pictures: list[Images] = []
    moments = [_moment(scene, share) for share in shares]
    for moment, share in zip(moments, shares, strict=True):
        if moment not in place_of:
            place_of[moment] = len(pictures)
            pictures.append(render_frame(scene, share, width, height, look))
    return np.stack(pictures), [place_of[moment] for moment in moments]


def caption_box(
    caption: Caption, aspect: float, width: int, height: int
) -> tuple[int, int, int, int]:
    """Bounding box of the text in whole pixels: left, top, right, bottom, within the frame."""
    across, down = caption.extent(aspect)
    left, right = (round((caption.x + side * across / 2) * width) for side in (-1, 1))
    top, bottom = (round((caption.y + side * down / 2) * height) for side in (-1, 1))
    left, top = max(left, 0), max(top, 0)
    return left, top, min(max(right, left + 1), width), min(max(bottom, top + 1), height)


def _moment(scene: Scene, share: float) -> object:
    """Key of everything that can differ between two images of a scene."""
    things = [(thing.centre_at(share), thing.colour_at(share)) for thing in scene.things]
    return (scene.background_at(share), *things)


def _write(image: Floats, caption: Caption, aspect: float) -> None:
    left, top, right, bottom = caption_box(caption, aspect, image.shape[1], image.shape[0])
    mask = np.concatenate([_glyph(letter) for letter in caption.text], axis=1)
    # BOX averages, so strokes do not break up at small sizes.
    size = (right - left, bottom - top)
    cover = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BOX))
    region = image[top:bottom, left:right]
    region += cover[..., None] * (np.array(RGB[caption.colour], np.float32) - region)


@cache
def _glyph(letter: str, height: int = 160) -> Floats:
    """Render one bold character as coverage ``[H, W]`` in 0…1, filling its cell."""
    font = ImageFont.load_default(size=height)
    drawn = Image.new("L", (2 * height, 2 * height))
    ImageDraw.Draw(drawn).text((height // 2, height // 3), letter, 255, font, stroke_width=4)
    box = drawn.getbbox()
    assert box is not None, letter
    left, top, right, bottom = box
    # A narrow glyph is widened by a limited factor: an I remains recognisable.
    width = round(height * GLYPH_ASPECT)
    inner = min(round(width * 0.84), round((right - left) * height * 0.9 / (bottom - top)))
    fitted = drawn.crop((left, top, right, bottom)).resize((inner, round(height * 0.9)))
    cell = Image.new("L", (width, height))
    cell.paste(fitted, ((width - inner) // 2, round(height * 0.05)))
    return np.asarray(cell).astype(np.float32) / np.float32(255)


def _colour(scene: Scene, place: int, name: str, look: Look) -> Floats:
    tint = np.array(scene.tint[3 * place : 3 * place + 3] or (0, 0, 0), np.float32)
    colour = np.array(RGB[name], np.float32) + COLOUR_JITTER * tint
    if look.shades:
        colour += np.array(look.shades[place], np.float32)
    return np.clip(colour, 0, 255)


@dataclass(frozen=True)
class _Brush:
    """How an object is painted: its colour, its tilt in radians, and the parts of its look."""

    colour: Floats
    tilt: float
    outline: float
    shadow: float


_REACH = 1.3
"""Farthest corner of a tilted shape from its centre, in units of its radius."""
_SHADOW_OFFSET = 0.12
_EDGE_BRIGHTNESS = 0.45


def _paint(
    image: Floats, thing: SceneObject, centre: tuple[float, float], aspect: float, brush: _Brush
) -> None:
    """Blend an object into the image with an edge one pixel wide; only nearby pixels change."""
    height, width = image.shape[:2]
    # Pixels per radius along each axis: the radius is a share of the short side of the true frame.
    per_x = thing.radius * width / max(aspect, 1.0)
    per_y = thing.radius * height * min(aspect, 1.0)
    middle_x, middle_y = centre[0] * width, centre[1] * height
    reach = 1.0 if not (brush.tilt or brush.shadow) else _REACH + brush.shadow
    left, right = (
        int(max(middle_x - reach * per_x - 2, 0)),
        int(min(middle_x + reach * per_x + 3, width)),
    )
    top, bottom = (
        int(max(middle_y - reach * per_y - 2, 0)),
        int(min(middle_y + reach * per_y + 3, height)),
    )
    if left >= right or top >= bottom:
        return
    x = (np.arange(left, right, dtype=np.float32) + 0.5 - middle_x) / per_x
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5 - middle_y) / per_y
    grid_x, grid_y = np.meshgrid(x, y)
    pixels = np.sqrt(per_x * per_y)
    region = image[top:bottom, left:right]
    if brush.shadow:
        below = _distance(thing.shape, grid_x - _SHADOW_OFFSET, grid_y - _SHADOW_OFFSET, brush.tilt)
        region *= 1 - brush.shadow * np.clip(0.5 - 3 * below, 0, 1)[..., None].astype(np.float32)
    distance = _distance(thing.shape, grid_x, grid_y, brush.tilt)
    cover = np.clip(0.5 - distance * pixels, 0, 1)[..., None].astype(np.float32)
    region += cover * (brush.colour - region)
    if brush.outline:
        edge = np.clip(0.5 + (distance + brush.outline) * pixels, 0, 1)[..., None]
        region += (cover * edge).astype(np.float32) * (_EDGE_BRIGHTNESS * brush.colour - region)


def _distance(shape: str, x: Floats, y: Floats, tilt: float) -> Floats:
    """Return the signed distance to a shape that is turned by ``tilt`` radians."""
    if not tilt:
        return signed_distance(shape, x, y)
    across, along = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    return signed_distance(shape, x * across + y * along, y * across - x * along)


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
        container.metadata["comment"] = synthetic_comment(film.seconds)
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
