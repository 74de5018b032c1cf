"""A second renderer of scenes: another drawing program, other shades, fonts and codecs.

What the first renderer never shows: shapes with outlines, gradients and soft shadows, slightly
rotated, in other shades of the same colours, on backgrounds with gradients and noise; captions in
other letters; several codecs. Accuracy on both shows that a model has not learned one renderer.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Literal

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from smolvideo.frames import Images
from smolvideo.train.world.render import CORNERS
from smolvideo.train.world.scene import SMALL_MAX_RADIUS, Caption, Scene, SceneObject

Codec = Literal["libx264", "mpeg4", "libvpx-vp9"]
Colour = tuple[int, int, int]

SHADES: dict[str, tuple[Colour, ...]] = {
    "red": ((200, 20, 45), (230, 60, 50), (178, 24, 24), (255, 40, 40)),
    "green": ((0, 128, 0), (60, 180, 75), (34, 139, 60), (50, 205, 50)),
    "blue": ((0, 0, 205), (65, 105, 225), (30, 100, 220), (25, 60, 160)),
    "yellow": ((255, 225, 25), (250, 235, 80), (255, 215, 0), (255, 255, 0)),
    "purple": ((128, 0, 128), (148, 0, 211), (150, 80, 180), (106, 40, 150)),
    "orange": ((255, 140, 0), (250, 120, 30), (255, 160, 50), (235, 110, 10)),
    "white": ((255, 255, 255), (245, 245, 240), (235, 238, 242)),
    "grey": ((128, 128, 128), (105, 105, 110), (150, 150, 148)),
    "black": ((0, 0, 0), (18, 18, 22), (30, 28, 28)),
    "brown": ((120, 80, 50), (101, 67, 33), (92, 58, 40)),
}
"""Shades that keep the name of their colour; those of CSS among them."""

CODECS: dict[Codec, dict[str, str]] = {
    "libx264": {"crf": "28", "preset": "fast", "threads": "1"},
    "mpeg4": {"qscale": "5", "threads": "1"},
    "libvpx-vp9": {"crf": "36", "b": "0", "deadline": "realtime", "cpu-used": "8", "threads": "1"},
}
"""Encoder → its options: coarser than those of the first renderer."""

SUPERSAMPLING = 3
SHORT_SIDES = (160, 216, 288, 400)
FRAME_RATES = (8, 12, 15, 20, 25, 30)
LENGTHS = (3.0, 4.0, 5.0, 6.0, 8.0)


@dataclass(frozen=True)
class DrawingStyle:
    """What one video looks like, apart from its scene. Lengths are shares of the short side."""

    width: int
    height: int
    fps: int
    seconds: float
    codec: Codec
    outline: float
    outline_is_light: bool
    shadow: float
    fill_gradient: float
    background_gradient: float
    background_angle: float
    noise: float
    tilt: float
    scale: float
    seed: str

    def radius(self, thing: SceneObject) -> float:
        """Another radius than in the scene, of the same name: small stays small."""
        radius = thing.radius * self.scale
        small = thing.radius < SMALL_MAX_RADIUS
        return min(radius, SMALL_MAX_RADIUS - 0.01) if small else max(radius, SMALL_MAX_RADIUS)

    def shade(self, colour: str) -> Colour:
        """The shade of a colour in this video."""
        return Random(f"{self.seed}/{colour}").choice(SHADES[colour])


def sample_style(random: Random, scene: Scene, seed: str) -> DrawingStyle:
    """Sample the style of a video of ``scene``."""
    short = random.choice(SHORT_SIDES)
    along = 2 * round(short * max(scene.aspect, 1 / scene.aspect) / 2)
    width, height = (along, short) if scene.aspect >= 1 else (short, along)
    return DrawingStyle(
        width,
        height,
        fps=random.choice(FRAME_RATES),
        seconds=random.choice(LENGTHS),
        codec=random.choice(tuple(CODECS)),
        outline=random.choice((0.0, 0.0, 0.006, 0.012)),
        outline_is_light=random.random() < 0.5,
        shadow=random.choice((0.0, 0.015, 0.03)),
        fill_gradient=random.choice((0.0, 0.0, 0.12, 0.2)),
        background_gradient=random.choice((0.0, 8.0, 16.0)),
        background_angle=random.uniform(0, 2 * np.pi),
        noise=random.choice((0.0, 2.0, 4.0)),
        tilt=random.uniform(-12, 12),
        scale=random.uniform(0.8, 1.1),
        seed=seed,
    )


class Drawing:
    """A scene in a style: its frames, and its file."""

    def __init__(self, scene: Scene, style: DrawingStyle) -> None:
        self.scene = scene
        self.style = style
        self._short = min(style.width, style.height)
        self._sprites: dict[tuple[SceneObject, str], Image.Image] = {}
        self._backgrounds: dict[str, Image.Image] = {}

    def frame(self, share: float) -> Images:
        """Draw the scene at a share of its duration: uint8 RGB ``[height, width, 3]``."""
        picture = self._background(self.scene.background_at(share)).copy()
        for thing in self.scene.things:
            centre = thing.centre_at(share)
            if centre is not None:
                sprite = self._sprite(thing, thing.colour_at(share))
                x = round(centre[0] * self.style.width - sprite.width / 2)
                y = round(centre[1] * self.style.height - sprite.height / 2)
                picture.paste(sprite, (x, y), sprite)
        if self.scene.caption is not None:
            words, corner = self._caption
            picture.paste(words, corner, words)
        return np.asarray(picture)

    def _background(self, name: str) -> Image.Image:
        if name not in self._backgrounds:
            style = self.style
            x = np.linspace(-1, 1, style.width)[None, :]
            y = np.linspace(-1, 1, style.height)[:, None]
            along = np.cos(style.background_angle) * x + np.sin(style.background_angle) * y
            # The seed is text: NumPy takes the bytes.
            noise = np.random.default_rng(list(f"{style.seed}/{name}".encode()))
            grain = noise.normal(0, style.noise, (style.height, style.width))
            light = style.background_gradient * along + grain
            pixels = np.array(style.shade(name), np.float64) + light[..., None]
            picture = Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
            self._backgrounds[name] = picture
        return self._backgrounds[name]

    def _sprite(self, thing: SceneObject, colour: str) -> Image.Image:
        """An object with its outline and shadow on a transparent ground, drawn once per colour."""
        if (thing, colour) not in self._sprites:
            self._sprites[thing, colour] = self._drawn(thing, colour)
        return self._sprites[thing, colour]

    def _drawn(self, thing: SceneObject, colour: str) -> Image.Image:
        style, fine = self.style, SUPERSAMPLING
        radius = style.radius(thing) * self._short
        side = int(2 * radius * 1.35) + 4
        middle = side * fine / 2
        # Drawn larger and reduced: edges are smooth.
        shape = Image.new("L", (side * fine, side * fine))
        pen = ImageDraw.Draw(shape)
        corners = _outline(thing.shape, radius * fine, middle, np.deg2rad(style.tilt))
        pen.polygon(corners, fill=255)
        edge = Image.new("L", shape.size)
        width = round(style.outline * self._short * fine)
        if width:
            ImageDraw.Draw(edge).line([*corners, corners[0], corners[1]], 255, width, "curve")
        cover = shape.resize((side, side), Image.Resampling.LANCZOS)
        outline = edge.resize((side, side), Image.Resampling.LANCZOS)
        sprite = Image.new("RGBA", (side, side))
        if style.shadow:
            offset = max(round(style.shadow * self._short / 2), 1)
            soft = Image.new("L", (side, side))
            soft.paste(cover.point(lambda level: level * 0.4), (offset, offset))
            soft = soft.filter(ImageFilter.GaussianBlur(offset))
            sprite.paste((0, 0, 0, 255), mask=soft)
            sprite.putalpha(soft)
        light = 1 + style.fill_gradient * np.linspace(0.5, -0.5, side)[:, None, None]
        fill = np.clip(np.array(style.shade(colour)) * light, 0, 255) * np.ones((1, side, 1))
        painted = Image.fromarray(fill.astype(np.uint8)).convert("RGBA")
        sprite = Image.composite(painted, sprite, cover)
        if width:
            line = (250, 250, 250, 255) if style.outline_is_light else (10, 10, 10, 255)
            sprite = Image.composite(Image.new("RGBA", sprite.size, line), sprite, outline)
        return sprite

    @cached_property
    def _caption(self) -> tuple[Image.Image, tuple[int, int]]:
        """The text on a transparent ground, and the corner where it goes."""
        caption = self.scene.caption
        assert caption is not None
        words = _written(caption, Random(f"{self.style.seed}/caption"))
        across, down = caption.extent(self.scene.aspect)
        box = across * self.style.width, down * self.style.height
        # As large as fits: its proportions stay those of the font.
        fit = min(box[0] / words.width, box[1] / words.height)
        size = max(round(words.width * fit), 1), max(round(words.height * fit), 1)
        words = words.resize(size, Image.Resampling.LANCZOS)
        ink = Image.new("RGBA", size, (*self.style.shade(caption.colour), 255))
        ink.putalpha(words)
        x, y = caption.x * self.style.width, caption.y * self.style.height
        return ink, (round(x - size[0] / 2), round(y - size[1] / 2))

    def write(self, path: Path) -> None:
        """Encode the drawing; the container is that of the file's suffix."""
        style = self.style
        with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream(style.codec, rate=Fraction(style.fps))
            stream.width, stream.height, stream.pix_fmt = style.width, style.height, "yuv420p"
            stream.options = dict(CODECS[style.codec])
            stream.codec_context.flags |= 1 << 23  # AV_CODEC_FLAG_BITEXACT
            count = round(style.seconds * style.fps)
            for number in range(count):
                picture = self.frame(number / count)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, style.fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _outline(shape: str, radius: float, middle: float, angle: float) -> list[tuple[float, float]]:
    """Corners of the shape in pixels, rotated by ``angle`` (radians); many for a circle."""
    if shape == "circle":
        turn = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        corners = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    else:
        corners = CORNERS[shape].astype(np.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    rotated = corners @ np.array([[cos, sin], [-sin, cos]])
    return [(middle + radius * x, middle + radius * y) for x, y in rotated.tolist()]


def _written(caption: Caption, random: Random) -> Image.Image:
    """Coverage of the text, cropped: thin, bold, slanted, or in the letters of a terminal."""
    text = random.choice((caption.text, caption.text, caption.text.capitalize()))
    kind = random.choice(("thin", "bold", "slanted", "terminal"))
    if kind == "terminal":
        font: ImageFont.ImageFont | ImageFont.FreeTypeFont = ImageFont.load_default_imagefont()
        size, stroke = 12, 0
    else:
        font, size = ImageFont.load_default(size=96), 96
        stroke = {"thin": 0, "bold": 4, "slanted": 2}[kind]
    drawn = Image.new("L", (size * (len(text) + 2), 2 * size))
    ImageDraw.Draw(drawn).text((size, size // 3), text, 255, font, stroke_width=stroke)
    if kind == "slanted":
        shear = (1, 0.25, -0.25 * size, 0, 1, 0)
        drawn = drawn.transform(drawn.size, Image.Transform.AFFINE, shear)
    cropped = drawn.crop(drawn.getbbox())
    return (
        cropped
        if kind != "terminal"
        else cropped.resize((cropped.width * 8, cropped.height * 8), Image.Resampling.NEAREST)
    )
