"""Random scenes of each split: trained, fresh and novel."""

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Literal

from smolvideo.train.world.scene import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    WORDS,
    Caption,
    Scene,
    SceneObject,
)

Split = Literal["trained", "fresh", "novel"]
"""``trained``: training scenes. ``fresh``: held-out scenes of combinations that training contains.
``novel``: scenes with a held-out combination."""

ASPECTS = (1.0, 4 / 3, 3 / 2, 16 / 9, 16 / 9, 3 / 4, 9 / 16)
_TRIES = 12


def sample_scene(random: Random, *, side: Split = "trained", still: bool = False) -> Scene:
    """Sample a random scene of the split ``side``.

    ``still``: nothing changes in it, so that a single image shows all of it.
    """
    while True:
        scene = _any_scene(random)
        changes = scene.in_sequence or scene.moving_object is not None or scene.event is not None
        if still and changes:
            continue
        if scene.is_novel():
            if side == "novel":
                return scene
        elif side == ("fresh" if scene.held_out() else "trained"):
            return scene


def _any_scene(random: Random) -> Scene:
    """Sample a scene of any split. One in four is a sequence of shots; of the others 30 % have a
    caption, and scenes of several objects have an event in 30 %."""
    aspect = random.choice(ASPECTS)
    background = random.choice(BACKGROUNDS)
    cuts: tuple[tuple[float, str], ...] = ()
    caption = None
    if random.random() < 0.25:
        things = _sequence(random, aspect)
        if random.random() < 0.6:
            cuts = _cuts(random, background, things)
    else:
        if random.random() < 0.3:
            caption = _caption(random, background, aspect)
        things = _together(random, aspect, caption)
    tint = tuple(random.uniform(-1, 1) for _ in range(3 * (1 + len(things))))
    return Scene(background, things, aspect, tint, cuts, caption)


def _sequence(random: Random, aspect: float) -> tuple[SceneObject, ...]:
    """Two or three different objects, one after another."""
    if random.random() < 0.5:
        moments = [0.0, random.uniform(0.3, 0.7), 1.0]
    else:
        moments = [0.0, random.uniform(0.27, 0.38), random.uniform(0.62, 0.73), 1.0]
    looks = _different_looks(random, len(moments) - 1)
    return tuple(
        replace(_still(random, *look, aspect), appears_at=enters, disappears_at=leaves)
        for look, enters, leaves in zip(looks, moments, moments[1:], strict=False)
    )


def _cuts(
    random: Random, background: str, things: tuple[SceneObject, ...]
) -> tuple[tuple[float, str], ...]:
    """A new background for every object after the first."""
    cuts: list[tuple[float, str]] = []
    for thing in things[1:]:
        background = random.choice([other for other in BACKGROUNDS if other != background])
        cuts.append((thing.appears_at, background))
    return tuple(cuts)


def _caption(random: Random, background: str, aspect: float) -> Caption:
    """A word or a number of two digits in black or white, within the frame."""
    text = str(random.randint(10, 99)) if random.random() < 0.5 else random.choice(WORDS)
    dark = {"white": True, "grey": random.random() < 0.5, "black": False, "brown": False}
    caption = Caption(text, "black" if dark[background] else "white", 0.5, 0.5, 0.0)
    caption = replace(caption, height=random.uniform(0.24, 0.36))
    if (width := caption.extent(aspect)[0]) > 0.92:
        caption = replace(caption, height=caption.height * 0.92 / width)
    width, height = caption.extent(aspect)
    x = random.uniform(width / 2 + 0.02, 0.98 - width / 2)
    y = random.uniform(height / 2 + 0.02, 0.98 - height / 2)
    return replace(caption, x=x, y=y)


def _together(random: Random, aspect: float, caption: Caption | None) -> tuple[SceneObject, ...]:
    """One to four objects apart from each other; with a caption at most two, or none."""
    count = random.choice((0, 1, 1, 2) if caption else (1, 1, 2, 2, 2, 3, 3, 4))
    looks = _different_looks(random, count)
    draw = random.random()
    while True:
        if count > 1 and draw < 0.3:
            things = _placed(random, looks, _still, aspect, caption)
            if things is not None:
                things[0] = _changed(random, things)
        else:
            first = _moving if count and draw < 0.7 else _still
            things = _placed(random, looks, first, aspect, caption)
        if things is not None:
            random.shuffle(things)
            return tuple(things)
        if random.random() < 0.2:  # they do not fit: drop one, as other sizes may not help
            looks = looks[: max(1, len(looks) - 1)]
            count = len(looks)


def _changed(random: Random, things: list[SceneObject]) -> SceneObject:
    """Make the first object appear, disappear or change colour at a random moment."""
    thing, moment = things[0], random.uniform(0.2, 0.8)
    change = random.choice(("appears", "disappears", "turns"))
    if change == "appears":
        return replace(thing, appears_at=moment)
    if change == "disappears":
        return replace(thing, disappears_at=moment)
    taken = {other.colour for other in things}
    others = [colour for colour in COLOURS if colour not in taken]
    return replace(thing, recolours_at=moment, new_colour=random.choice(others))


def _placed(
    random: Random,
    looks: list[tuple[str, str]],
    first: Callable[[Random, str, str, float], SceneObject],
    aspect: float,
    caption: Caption | None,
) -> list[SceneObject] | None:
    """Place the objects one after another by rejection sampling; None after ``_TRIES`` failures."""
    things: list[SceneObject] = []
    for look in looks:
        for _ in range(_TRIES):
            thing = (_still if things else first)(random, *look, aspect)
            free = caption is None or _beside(thing, caption, aspect)
            if free and all(_apart(thing, other, aspect) for other in things):
                things.append(thing)
                break
        else:
            return None
    return things


def _different_looks(random: Random, count: int) -> list[tuple[str, str]]:
    """Shapes and colours without repetition, so that each names one object."""
    return list(zip(random.sample(SHAPES, count), random.sample(COLOURS, count), strict=True))


def _margins(radius: float, aspect: float) -> tuple[float, float]:
    """Convert a radius (a share of the short side) to shares of width and height."""
    return (radius / aspect, radius) if aspect >= 1 else (radius, radius * aspect)


def _still(random: Random, shape: str, colour: str, aspect: float) -> SceneObject:
    radius = random.uniform(0.115, 0.14) if random.random() < 0.35 else random.uniform(0.17, 0.215)
    across, down = _margins(radius, aspect)
    x = random.uniform(across + 0.02, 0.98 - across)
    y = random.uniform(down + 0.02, 0.98 - down)
    return SceneObject(shape, colour, x, y, radius, x, y)


def _moving(random: Random, shape: str, colour: str, aspect: float) -> SceneObject:
    """Sample an object that moves along one axis, by at least two fifths of the frame."""
    thing = _still(random, shape, colour, aspect)
    across, down = _margins(thing.radius, aspect)
    direction = random.choice(DIRECTIONS)
    low, high = (across + 0.02, 0.98 - across)
    if direction in ("up", "down"):
        low, high = (down + 0.02, 0.98 - down)
    length = random.uniform(0.4, high - low)
    start = random.uniform(low, high - length)
    ends = (start, start + length) if direction in ("right", "down") else (start + length, start)
    if direction in ("left", "right"):
        return replace(thing, x=ends[0], end_x=ends[1])
    return replace(thing, y=ends[0], end_y=ends[1])


def _apart(a: SceneObject, b: SceneObject, aspect: float) -> bool:
    """Whether the two objects never touch, checked at up to 21 moments."""
    moments = range(21) if a.direction or b.direction else (0,)
    for step in moments:
        place_a, place_b = a.centre_at(step / 20), b.centre_at(step / 20)
        if place_a is None or place_b is None:
            continue
        across, down = place_a[0] - place_b[0], place_a[1] - place_b[1]
        # In units of the short side, like the radii.
        distance = math.hypot(across * max(aspect, 1.0), down * max(1 / aspect, 1.0))
        if distance < 1.25 * (a.radius + b.radius):
            return False
    return True


def _beside(thing: SceneObject, caption: Caption, aspect: float) -> bool:
    """Whether the object never touches the caption, checked at up to 21 moments."""
    width, height = caption.extent(aspect)
    for step in range(21) if thing.direction else (0,):
        centre = thing.centre_at(step / 20)
        assert centre is not None
        across = max(abs(centre[0] - caption.x) - width / 2, 0) * max(aspect, 1.0)
        down = max(abs(centre[1] - caption.y) - height / 2, 0) * max(1 / aspect, 1.0)
        if math.hypot(across, down) < 1.15 * thing.radius:
            return False
    return True
