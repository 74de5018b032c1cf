"""Statements about a scene, true or false as wanted, for yes-no questions.

A false statement is false beyond doubt: an object at the top left is not said to be at the left.
"""

from collections.abc import Callable, Iterable
from random import Random

from smolvideo.train.world.questions import COUNT_WORDS, with_article
from smolvideo.train.world.scene import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    PLACES,
    SHAPES,
    SIZES,
    WORDS,
    Scene,
    SceneObject,
)

Values = dict[str, str]
Statement = Callable[[Scene, Random, bool], Values | None]
"""Field → words that make the question's answer yes (True) or no; None if the scene has none."""

CLEARLY_APART = 0.2
"""Smallest distance of two centres, as a share of the side, for left of and above."""


def _pick(random: Random, right: str, every: Iterable[str], truth: bool) -> str:
    """The right word, or another one of its kind."""
    return right if truth else random.choice([word for word in every if word != right])


def _steady(scene: Scene) -> list[SceneObject]:
    """Objects that have the same colour throughout."""
    return [thing for thing in scene.things if not thing.new_colour]


def _named(random: Random, thing: SceneObject) -> Values:
    return {"shape": thing.shape, "thing": random.choice((thing.shape, thing.words))}


def _present(scene: Scene, random: Random, truth: bool) -> Values | None:
    things = _steady(scene)
    if truth:
        return {"a_thing": with_article(random.choice(things).words)} if things else None
    shapes = {thing.shape for thing in scene.things}
    colours = {colour for thing in scene.things for colour in (thing.colour, thing.new_colour)}
    # One word of two is right, as far as the scene allows.
    wrong = [f"{c} {s}" for c in COLOURS for s in SHAPES if (c in colours) != (s in shapes)]
    wrong = wrong or [f"{c} {s}" for c in COLOURS for s in SHAPES]
    return {"a_thing": with_article(random.choice(wrong))}


def _any_colour(scene: Scene, random: Random, truth: bool) -> Values | None:
    shown = {colour for thing in scene.things for colour in (thing.colour, thing.new_colour)}
    fitting = [colour for colour in COLOURS if (colour in shown) == truth]
    return {"colour": random.choice(fitting)} if fitting else None


def _anything_moves(scene: Scene, random: Random, truth: bool) -> Values | None:
    # What appears, or is cut to, may count as a motion for some.
    if scene.in_sequence or scene.event is not None:
        return None
    return {} if (scene.moving_object is not None) == truth else None


def _moves(scene: Scene, random: Random, truth: bool) -> Values | None:
    if scene.in_sequence or scene.event is not None:
        return None
    things = [thing for thing in scene.things if (thing.direction is not None) == truth]
    return _named(random, random.choice(things)) if things else None


def _apart(distance: Callable[[SceneObject, SceneObject], float]) -> Statement:
    def statement(scene: Scene, random: Random, truth: bool) -> Values | None:
        still = [thing for thing in scene.things if thing.direction is None]
        if scene.in_sequence or len(still) < 2:
            return None
        ways = [(distance(a, b), a, b) for a in still for b in still if a is not b]
        pairs = [(a, b) for way, a, b in ways if abs(way) > CLEARLY_APART and (way > 0) == truth]
        if not pairs:
            return None
        one, other = random.choice(pairs)
        return {"shape": one.shape, "other": other.shape}

    return statement


def _is_colour(scene: Scene, random: Random, truth: bool) -> Values | None:
    things = _steady(scene)
    if not things:
        return None
    thing = random.choice(things)
    return {"shape": thing.shape, "colour": _pick(random, thing.colour, COLOURS, truth)}


def _is_shape(scene: Scene, random: Random, truth: bool) -> Values | None:
    things = _steady(scene)
    if not things:
        return None
    thing = random.choice(things)
    shape = with_article(_pick(random, thing.shape, SHAPES, truth))
    return {"colour": thing.colour, "a_shape": shape}


def _is_background(scene: Scene, random: Random, truth: bool) -> Values | None:
    if scene.cuts:
        return None
    return {"background": _pick(random, scene.background, BACKGROUNDS, truth)}


def _is_count(scene: Scene, random: Random, truth: bool) -> Values | None:
    # From two on: `one shapes` is no English.
    changes = scene.event is not None and scene.event[0] != "turns"
    if scene.in_sequence or changes or len(scene.things) < 1 + truth:
        return None
    return {"count": _pick(random, COUNT_WORDS[len(scene.things)], COUNT_WORDS[2:], truth)}


def _is_place(scene: Scene, random: Random, truth: bool) -> Values | None:
    things = [thing for thing in scene.things if thing.place is not None]
    if not things:
        return None
    thing = random.choice(things)
    place = thing.place or ""
    if not truth:
        # `left` is half right for the top left, and so may be `middle` for the left.
        every = [name for row in PLACES for name in row]
        far = [name for name in every if not set(name.split()) & set(place.split())]
        if len(place.split()) == 1:
            far = [name for name in far if len(name.split()) == 2 or "middle" not in (name, place)]
        place = random.choice(far)
    return _named(random, thing) | {"place": place}


def _is_direction(scene: Scene, random: Random, truth: bool) -> Values | None:
    mover = scene.moving_object
    if mover is None or mover.direction is None:
        return None
    return _named(random, mover) | {"direction": _pick(random, mover.direction, DIRECTIONS, truth)}


def _is_size(scene: Scene, random: Random, truth: bool) -> Values | None:
    things = _steady(scene)
    if scene.in_sequence or not things:
        return None
    thing = random.choice(things)
    return _named(random, thing) | {"size": _pick(random, thing.size, SIZES, truth)}


def _is_text(scene: Scene, random: Random, truth: bool) -> Values | None:
    caption = scene.caption
    if caption is None:
        return None
    every = map(str, range(10, 100)) if caption.is_number else WORDS
    return {"text": _pick(random, caption.text, every, truth)}


def _is_first(scene: Scene, random: Random, truth: bool) -> Values | None:
    if not scene.in_sequence:
        return None
    thing = scene.things[0] if truth else random.choice(scene.things[1:])
    return {"a_thing": with_article(thing.words)}


STATEMENTS: dict[str, Statement] = {
    "present": _present,
    "any colour": _any_colour,
    "anything moves": _anything_moves,
    "moves": _moves,
    "left of": _apart(lambda one, other: other.x - one.x),
    "above": _apart(lambda one, other: other.y - one.y),
    "is colour": _is_colour,
    "is shape": _is_shape,
    "is background": _is_background,
    "is count": _is_count,
    "is place": _is_place,
    "is direction": _is_direction,
    "is size": _is_size,
    "is text": _is_text,
    "is first": _is_first,
}
"""Intent of a yes-no question → what fills it."""
