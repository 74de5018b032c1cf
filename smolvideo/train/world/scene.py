"""Scenes: what is there, when, and where it moves.

This first world is small on purpose: one to three large things that stand still, of which one may
move, or two things shown one after the other. Positions are shares of the frame, times are shares
of the duration, so that one scene can be drawn at any size, shape and frame rate.
"""

import hashlib
import math
from dataclasses import dataclass
from random import Random

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
BACKGROUNDS = ("white", "grey", "black", "brown")
DIRECTIONS = ("left", "right", "up", "down")

HELD_OUT_SHARE = 10
"""One scene in so many is held out: never trained on, free for samples and exams."""


@dataclass(frozen=True)
class Thing:
    """One thing: its centre as shares of width and height, its radius as a share of the short side.

    It is on screen from ``enters`` to ``leaves`` and moves in a straight line from (x, y) to
    (end_x, end_y) in that time.
    """

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    end_x: float
    end_y: float
    enters: float = 0.0
    leaves: float = 1.0

    @property
    def words(self) -> str:
        """``red circle``"""
        return f"{self.colour} {self.shape}"

    @property
    def direction(self) -> str | None:
        """Where it moves; None if it stands still."""
        across, down = self.end_x - self.x, self.end_y - self.y
        if not across and not down:
            return None
        if abs(across) > abs(down):
            return "right" if across > 0 else "left"
        return "down" if down > 0 else "up"

    def centre_at(self, share: float) -> tuple[float, float] | None:
        """Where its centre is at a share of the duration; None while it is not on screen."""
        if not (self.enters <= share < self.leaves or share == self.leaves == 1.0):
            return None
        way = (share - self.enters) / (self.leaves - self.enters)
        return self.x + (self.end_x - self.x) * way, self.y + (self.end_y - self.y) * way


@dataclass(frozen=True)
class Scene:
    """A background and the things before it; ``aspect`` is width over height."""

    background: str
    things: tuple[Thing, ...]
    aspect: float
    tint: tuple[float, ...] = ()
    """Small differences of the colours from their names, drawn with the scene: three shares per
    colour, the background's first."""

    @property
    def in_sequence(self) -> bool:
        """Whether its things are shown one after the other rather than together."""
        return any(thing.leaves < 1.0 for thing in self.things)

    @property
    def mover(self) -> Thing | None:
        """The thing that moves, if one does."""
        return next((thing for thing in self.things if thing.direction), None)

    def signature(self) -> str:
        """What the scene shows, whatever the sizes, places and tints: the unit of holding out."""
        shown = [f"{thing.words} {thing.direction or 'still'}" for thing in self.things]
        together = " then ".join(shown) if self.in_sequence else " and ".join(sorted(shown))
        return f"{together} on {self.background}"

    def held_out(self) -> bool:
        """Whether training never shows this scene: one signature in ``HELD_OUT_SHARE``."""
        digest = hashlib.sha256(self.signature().encode()).digest()
        return digest[0] % HELD_OUT_SHARE == 0


def draw_scene(random: Random, *, held_out: bool = False, still: bool = False) -> Scene:
    """A random scene of the asked side of the division between training and examination.

    ``still``: one in which nothing changes, so that a single picture tells all about it.
    """
    while True:
        scene = _any_scene(random)
        changes = scene.in_sequence or scene.mover is not None
        if scene.held_out() == held_out and not (still and changes):
            return scene


def _any_scene(random: Random) -> Scene:
    aspect = random.choice((1.0, 4 / 3, 3 / 2, 16 / 9, 16 / 9, 3 / 4, 9 / 16))
    in_sequence = random.random() < 0.25
    things = _sequence(random, aspect) if in_sequence else _together(random, aspect)
    tint = tuple(random.uniform(-1, 1) for _ in range(3 * (1 + len(things))))
    return Scene(random.choice(BACKGROUNDS), things, aspect, tint)


def _sequence(random: Random, aspect: float) -> tuple[Thing, ...]:
    """Two different things, the second in the place of the first."""
    change = random.uniform(0.35, 0.65)
    (first_shape, first_colour), (second_shape, second_colour) = _different_looks(random, 2)
    first = _still(random, first_shape, first_colour, aspect)
    second = _still(random, second_shape, second_colour, aspect)
    return (
        Thing(**{**vars(first), "leaves": change}),
        Thing(**{**vars(second), "enters": change}),
    )


def _together(random: Random, aspect: float) -> tuple[Thing, ...]:
    """One to three things apart from each other; in two scenes of three the first one moves."""
    looks = _different_looks(random, random.choice((1, 1, 2, 2, 3, 3)))
    moves = random.random() < 0.65
    while (things := _placed(random, looks, moves, aspect)) is None:
        pass
    random.shuffle(things)
    return tuple(things)


def _placed(
    random: Random, looks: list[tuple[str, str]], moves: bool, aspect: float
) -> list[Thing] | None:
    """The things one after another where there is room; None if one finds none in a few tries."""
    things: list[Thing] = []
    for look in looks:
        for _ in range(12):
            place = _moving if moves and not things else _still
            thing = place(random, *look, aspect)
            if all(_apart(thing, other, aspect) for other in things):
                things.append(thing)
                break
        else:
            return None
    return things


def _different_looks(random: Random, count: int) -> list[tuple[str, str]]:
    """Shapes and colours of which none comes twice, so that each names one thing."""
    return list(zip(random.sample(SHAPES, count), random.sample(COLOURS, count), strict=True))


def _margins(radius: float, aspect: float) -> tuple[float, float]:
    """A radius (a share of the short side) as shares of width and height."""
    return (radius / aspect, radius) if aspect >= 1 else (radius, radius * aspect)


def _still(random: Random, shape: str, colour: str, aspect: float) -> Thing:
    radius = random.uniform(0.15, 0.21)
    across, down = _margins(radius, aspect)
    x = random.uniform(across + 0.02, 0.98 - across)
    y = random.uniform(down + 0.02, 0.98 - down)
    return Thing(shape, colour, x, y, radius, x, y)


def _moving(random: Random, shape: str, colour: str, aspect: float) -> Thing:
    """Moves along one axis, by at least two fifths of the frame."""
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
        return Thing(**{**vars(thing), "x": ends[0], "end_x": ends[1]})
    return Thing(**{**vars(thing), "y": ends[0], "end_y": ends[1]})


def _apart(a: Thing, b: Thing, aspect: float) -> bool:
    """Whether the two never touch, at twenty moments of their way."""
    moments = range(21) if a.direction or b.direction else (0,)
    for step in moments:
        place_a, place_b = a.centre_at(step / 20), b.centre_at(step / 20)
        if place_a is None or place_b is None:
            continue
        across, down = place_a[0] - place_b[0], place_a[1] - place_b[1]
        # In units of the short side, in which the radii are given.
        distance = math.hypot(across * max(aspect, 1.0), down * max(1 / aspect, 1.0))
        if distance < 1.25 * (a.radius + b.radius):
            return False
    return True
