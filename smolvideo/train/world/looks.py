"""Looks of a drawing beside what it shows: shades, gradients, textures, outlines, shadows, tilt.

A look changes no answer: colours keep their names, and objects their places and sizes.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from smolvideo.frames import Images

Floats = NDArray[np.float32]

MAX_TILT_DEGREES = 18.0
"""Beyond it a square looks like a diamond."""


@dataclass(frozen=True)
class Look:
    """How a scene is drawn.

    ``tilts``: degrees by which its objects are turned, one after another. ``shades``: offsets of
    red, green and blue in grey levels, for each colour in turn, the background's first.
    ``gradient``: largest change of the background's brightness from corner to corner, in grey
    levels, in the direction ``gradient_angle`` (radians). ``texture``: standard deviation of a
    coarse noise of the background, in grey levels. ``outline``: width of a dark edge of objects,
    as a share of their radius. ``shadow``: darkness, from 0 to 1, of a soft shadow below each.
    ``softness``: radius of a blur, in pixels. ``contrast`` and ``brightness`` (grey levels) are of
    the whole image. ``seed`` is of the texture.
    """

    tilts: tuple[float, ...] = ()
    shades: tuple[tuple[float, float, float], ...] = ()
    gradient: float = 0.0
    gradient_angle: float = 0.0
    texture: float = 0.0
    outline: float = 0.0
    shadow: float = 0.0
    softness: int = 0
    contrast: float = 1.0
    brightness: float = 0.0
    seed: int = 0


PLAIN = Look()
"""Even colours and nothing else: how samples and the first exam are drawn."""


PLAIN_PROBABILITY = 0.25
"""Of a scene of the training: no look, as samples are drawn."""


def sample_training_look(random: Random, objects: int) -> Look:
    """Return a random look, or the plain one."""
    return PLAIN if random.random() < PLAIN_PROBABILITY else sample_look(random, objects)


def sample_look(random: Random, objects: int) -> Look:
    """Return a random look for a scene of ``objects`` objects; each part of it is left out in about
    half of the looks."""

    def sometimes(low: float, high: float) -> float:
        return random.uniform(low, high) if random.random() < 0.5 else 0.0

    tilted = random.random() < 0.5
    limit = MAX_TILT_DEGREES if tilted else 0.0
    spread = random.choice((0.0, 12.0, 22.0))
    return Look(
        tilts=tuple(random.uniform(-limit, limit) for _ in range(objects)),
        shades=tuple(_shade(random, spread) for _ in range(objects + 1)),
        gradient=sometimes(8, 34),
        gradient_angle=random.uniform(0, 2 * np.pi),
        texture=sometimes(1, 7),
        outline=sometimes(0.05, 0.12),
        shadow=sometimes(0.15, 0.45),
        softness=random.choice((0, 0, 0, 1)),
        contrast=random.uniform(0.85, 1.1),
        brightness=random.uniform(-8, 8),
        seed=random.getrandbits(32),
    )


def _shade(random: Random, spread: float) -> tuple[float, float, float]:
    """Return an offset that is mostly of the brightness, and a fifth of it of the hue."""
    light = random.uniform(-spread, spread)
    red, green, blue = (light + random.uniform(-spread, spread) / 5 for _ in range(3))
    return red, green, blue


def paint_background(image: Floats, look: Look) -> None:
    """Add gradient and texture of ``look`` to an even ``image`` ``[H, W, 3]``, in place."""
    height, width = image.shape[:2]
    if look.gradient:
        x = np.linspace(-0.5, 0.5, width, dtype=np.float32)
        y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
        slope = x * np.cos(look.gradient_angle) + y * np.sin(look.gradient_angle)
        image += (look.gradient * slope)[..., None].astype(np.float32)
    if look.texture:
        grains = np.random.default_rng(look.seed).standard_normal((12, 12), dtype=np.float32)
        rows = np.arange(height) * 12 // height
        columns = np.arange(width) * 12 // width
        image += look.texture * grains[np.ix_(rows, columns)][..., None]


def finish(image: Floats, look: Look) -> Images:
    """Return ``image`` ``[H, W, 3]`` blurred, with the contrast and brightness of ``look``, as
    uint8."""
    for _ in range(look.softness):
        image = _blurred(_blurred(image, 0), 1)
    if look.contrast != 1.0 or look.brightness:
        image = (image - 127.5) * np.float32(look.contrast) + np.float32(127.5 + look.brightness)
    levels: Images = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return levels


def _blurred(image: Floats, axis: int) -> Floats:
    """Return the average of each pixel (twice) and its two neighbours along ``axis``."""
    places = np.arange(image.shape[axis])
    before = image.take(np.maximum(places - 1, 0), axis)
    after = image.take(np.minimum(places + 1, places[-1]), axis)
    blurred: Floats = (before + 2 * image + after) / np.float32(4)
    return blurred
