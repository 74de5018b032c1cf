"""Scenes: objects, their motion and events, and text over them.

A scene is one shot of up to four still objects, of which one may move, appear, disappear or change
colour; or two or three shots of one object each, cut one after another. The first kind may have a
word or a number as text. Positions are shares of the frame and times are shares of the duration, so
one scene can be rendered at any size, aspect and frame rate.
"""

import hashlib
from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
BACKGROUNDS = ("white", "grey", "black", "brown")
DIRECTIONS = ("left", "right", "up", "down")
SIZES = ("small", "large")
PLACES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Names of the nine parts of a frame, rows from the top."""
WORDS = ("STOP", "GO", "SUN", "MOON", "CAT", "DOG", "TREE", "FISH", "HOME", "OPEN", "EXIT", "PLAY")
"""Words of captions; the other captions are numbers of two digits."""

SMALL_MAX_RADIUS = 0.155
"""Radius from which an object counts as large, as a share of the frame's short side."""
GLYPH_ASPECT = 0.7
"""Width of a character over its height."""

HELD_OUT_ONE_IN = 10
"""One scene in this many is held out: never trained on, used for samples and evaluations."""
HELD_OUT_COMBINATIONS = 12
"""One combination of colour, shape and behaviour in this many is held out of all training."""


@dataclass(frozen=True)
class SceneObject:
    """An object: its centre as shares of width and height, its radius as a share of the short side.

    It is visible from ``appears_at`` to ``disappears_at``, moves in a straight line from (x, y) to
    (end_x, end_y) in that time, and has the colour ``new_colour`` from ``recolours_at`` on.
    """

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    end_x: float
    end_y: float
    appears_at: float = 0.0
    disappears_at: float = 1.0
    recolours_at: float = 1.0
    new_colour: str | None = None

    @property
    def words(self) -> str:
        """``red circle``"""
        return f"{self.colour} {self.shape}"

    @property
    def size(self) -> str:
        """``small`` or ``large``"""
        return SIZES[self.radius >= SMALL_MAX_RADIUS]

    @property
    def direction(self) -> str | None:
        """Direction of its motion; None if it is still."""
        across, down = self.end_x - self.x, self.end_y - self.y
        if not across and not down:
            return None
        if abs(across) > abs(down):
            return "right" if across > 0 else "left"
        return "down" if down > 0 else "up"

    @property
    def place(self) -> str | None:
        """Which of the nine parts of the frame it is in; None if it moves or is near a border."""
        return None if self.direction is not None else place_of(self.x, self.y)

    def centre_at(self, share: float) -> tuple[float, float] | None:
        """Its centre at a share of the duration; None while it is not visible."""
        if not (
            self.appears_at <= share < self.disappears_at or share == self.disappears_at == 1.0
        ):
            return None
        way = (share - self.appears_at) / (self.disappears_at - self.appears_at)
        return self.x + (self.end_x - self.x) * way, self.y + (self.end_y - self.y) * way

    def colour_at(self, share: float) -> str:
        """Name of its colour at a share of the duration."""
        return self.new_colour if self.new_colour and share >= self.recolours_at else self.colour


@dataclass(frozen=True)
class Caption:
    """A word or a number over the whole scene: its centre, and its height as a share of the frame's
    short side."""

    text: str
    colour: str
    x: float
    y: float
    height: float

    @property
    def is_number(self) -> bool:
        return self.text.isdigit()

    def extent(self, aspect: float) -> tuple[float, float]:
        """Width and height as shares of the frame's width and height."""
        across = self.height * GLYPH_ASPECT * len(self.text)
        return (across / aspect, self.height) if aspect >= 1 else (across, self.height * aspect)


@dataclass(frozen=True)
class Scene:
    """A background and its objects; ``aspect`` is width over height."""

    background: str
    things: tuple[SceneObject, ...]
    aspect: float
    tint: tuple[float, ...] = ()
    """Offsets of the colours from their named values, part of the scene: three shares of
    ``COLOUR_JITTER`` per colour, the background's first."""
    cuts: tuple[tuple[float, str], ...] = ()
    """Changes of the background: share of the duration, name of the new background."""
    caption: Caption | None = None

    @property
    def in_sequence(self) -> bool:
        """Whether its objects are shown one after the other."""
        return len(self.things) > 1 and all(
            before.disappears_at == after.appears_at
            for before, after in zip(self.things, self.things[1:], strict=False)
        )

    @property
    def moving_object(self) -> SceneObject | None:
        """The object that moves, or None."""
        return next((thing for thing in self.things if thing.direction), None)

    @property
    def event(self) -> tuple[str, SceneObject, float] | None:
        """The event of the scene: ``appears``, ``disappears`` or ``turns``, its object, and its
        share of the duration."""
        if self.in_sequence:
            return None
        for thing in self.things:
            if thing.appears_at > 0:
                return "appears", thing, thing.appears_at
            if thing.disappears_at < 1:
                return "disappears", thing, thing.disappears_at
            if thing.new_colour:
                return "turns", thing, thing.recolours_at
        return None

    def background_at(self, share: float) -> str:
        """Name of the background at a share of the duration."""
        shown = self.background
        for since, background in self.cuts:
            if share >= since:
                shown = background
        return shown

    def behaviour(self, thing: SceneObject) -> str:
        """Behaviour of an object in a word or two: its direction, ``still``, or its event."""
        event = self.event
        if event is None or event[1] is not thing:
            return thing.direction or "still"
        return f"turns {thing.new_colour}" if event[0] == "turns" else event[0]

    def scene_key(self) -> str:
        """Description of the scene without sizes, positions and tints: the unit of holding out."""
        shown = [f"{thing.words} {self.behaviour(thing)}" for thing in self.things]
        together = " then ".join(shown) if self.in_sequence else " and ".join(sorted(shown))
        behind = " then ".join((self.background, *(background for _, background in self.cuts)))
        written = f" with {self.caption.text}" if self.caption else ""
        return f"{together} on {behind}{written}"

    def held_out(self) -> bool:
        """Whether training never shows this scene: one key in ``HELD_OUT_ONE_IN``."""
        return _one_in(HELD_OUT_ONE_IN, self.scene_key())

    def is_novel(self) -> bool:
        """Whether an object combines a colour, shape and behaviour that are held out together, or
        the caption is a held-out number."""
        return any(is_novel_combination(thing, self.behaviour(thing)) for thing in self.things) or (
            self.caption is not None and is_novel_number(self.caption.text)
        )


def place_of(x: float, y: float) -> str | None:
    """Name of the part of the frame at (x, y); None near the lines between the nine parts."""
    column, row = _third(x), _third(y)
    return None if column is None or row is None else PLACES[row][column]


def is_novel_combination(thing: SceneObject, behaviour: str) -> bool:
    """Whether colour, shape and behaviour are held out together; the new colour does not count."""
    combination = f"{thing.words} {behaviour.split()[0]}"
    return _one_in(HELD_OUT_COMBINATIONS, f"combination {combination}")


def is_novel_number(text: str) -> bool:
    """Whether ``text`` is a number that is held out of training."""
    return text.isdigit() and _one_in(HELD_OUT_COMBINATIONS, f"number {text}")


def _one_in(many: int, words: str) -> bool:
    return hashlib.sha256(words.encode()).digest()[0] % many == 0


def _third(share: float) -> int | None:
    """Index of the third of a side, 0, 1 or 2; None near the lines between them."""
    third = min(int(share * 3), 2)
    return None if min(abs(share - 1 / 3), abs(share - 2 / 3)) < 0.05 else third
