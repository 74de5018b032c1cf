"""Yes-no questions about every fact of a scene, true and false in equal parts."""

from collections.abc import Callable, Iterator, Sequence
from random import Random

from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import COUNT_WORDS, FillTemplate
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

Asked = tuple[str, dict[str, str], bool]
"""The intent, its fields, and whether the answer is yes."""


def ask_yes_no(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    """Yield a question about each kind of fact that ``scene`` has, in random order.

    A coin decides whether it is asked with what is true or with what is false.
    """
    kinds = [*_KINDS]
    random.shuffle(kinds)
    for kind in kinds:
        asked = kind(scene, random, random.random() < 0.5)
        if asked is not None:
            intent, fields, is_true = asked
            yield Question("yes-no", ask(intent, **fields), "yes" if is_true else "no")


def _other(random: Random, words: Sequence[str], *taken: str | None) -> str:
    return random.choice([word for word in words if word not in taken])


def _named(random: Random, thing: SceneObject) -> str:
    return random.choice((thing.shape, thing.words))


def _lasting(scene: Scene) -> list[SceneObject]:
    """Return the objects that have one colour throughout."""
    return [thing for thing in scene.things if not thing.new_colour]


def _is_colour(scene: Scene, random: Random, truth: bool) -> Asked | None:
    if not (things := _lasting(scene)):
        return None
    thing = random.choice(things)
    # Colours of other objects of the scene are the likelier confusion.
    others = [other.colour for other in scene.things if other is not thing]
    wrong = random.choice(others) if others and random.random() < 0.5 else None
    colour = thing.colour if truth else wrong or _other(random, COLOURS, thing.colour)
    return "is colour", {"shape": thing.shape, "colour": colour}, truth


def _is_shape(scene: Scene, random: Random, truth: bool) -> Asked | None:
    if not (things := _lasting(scene)):
        return None
    thing = random.choice(things)
    others = [other.shape for other in scene.things if other is not thing]
    wrong = random.choice(others) if others and random.random() < 0.5 else None
    shape = thing.shape if truth else wrong or _other(random, SHAPES, thing.shape)
    return "is shape", {"colour": thing.colour, "shape": shape}, truth


def _any_colour(scene: Scene, random: Random, truth: bool) -> Asked | None:
    shown = {thing.colour for thing in scene.things}
    shown |= {thing.new_colour for thing in scene.things if thing.new_colour}
    colours = sorted(shown) if truth else [colour for colour in COLOURS if colour not in shown]
    return ("any colour", {"colour": random.choice(colours)}, truth) if colours else None


def _present(scene: Scene, random: Random, truth: bool) -> Asked | None:
    shapes = {thing.shape for thing in scene.things}
    if truth and not scene.things:
        return None
    if truth:
        thing = random.choice(scene.things)
        return "present", {"thing": _named(random, thing)}, True
    absent = _other(random, SHAPES, *shapes)
    choices = [absent, f"{random.choice(COLOURS)} {absent}"]
    for thing in scene.things:
        choices.append(f"{_other(random, COLOURS, thing.colour, thing.new_colour)} {thing.shape}")
        choices.append(f"{thing.colour} {absent}")
    return "present", {"thing": random.choice(choices)}, False


def _is_background(scene: Scene, random: Random, truth: bool) -> Asked | None:
    if scene.cuts:
        return None
    background = scene.background if truth else _other(random, BACKGROUNDS, scene.background)
    return "is background", {"background": background}, truth


def _is_count(scene: Scene, random: Random, truth: bool) -> Asked | None:
    if scene.in_sequence or scene.event is not None or not scene.things:
        return None
    right = COUNT_WORDS[len(scene.things)]
    return "is count", {"count": right if truth else _other(random, COUNT_WORDS[1:], right)}, truth


def _is_place(scene: Scene, random: Random, truth: bool) -> Asked | None:
    placed = [thing for thing in scene.things if thing.place is not None]
    if not placed:
        return None
    thing = random.choice(placed)
    assert thing.place is not None
    places = [place for row in PLACES for place in row if place != "middle"]
    if thing.place == "middle" and truth:
        return "is place", {"thing": _named(random, thing), "place": "middle"}, True
    place = thing.place if truth else _other(random, places, thing.place, *_parts(thing.place))
    return "is place", {"thing": _named(random, thing), "place": place}, truth


def _parts(place: str) -> list[str]:
    """Return the parts of the frame that overlap ``place`` in ordinary English: what is at the top
    left is at the top and at the left, too."""
    words = set(place.split())
    return [
        other for row in PLACES for other in row if words & set(other.split()) and other != place
    ]


def _is_direction(scene: Scene, random: Random, truth: bool) -> Asked | None:
    mover = scene.moving_object
    if mover is None or mover.direction is None:
        return None
    direction = mover.direction if truth else _other(random, DIRECTIONS, mover.direction)
    return "is direction", {"thing": _named(random, mover), "direction": direction}, truth


def _is_size(scene: Scene, random: Random, truth: bool) -> Asked | None:
    if scene.in_sequence or not scene.things:
        return None
    thing = random.choice(scene.things)
    size = thing.size if truth else _other(random, SIZES, thing.size)
    return "is size", {"thing": _named(random, thing), "size": size}, truth


def _is_text(scene: Scene, random: Random, truth: bool) -> Asked | None:
    if scene.caption is None:
        return ("any text", {}, False) if random.random() < 0.3 else None
    if random.random() < 0.4:
        return "any text", {}, True
    text = scene.caption.text
    numbers = [str(number) for number in range(10, 100)]
    wrong = _other(random, numbers if scene.caption.is_number else WORDS, text)
    return "is text", {"text": text if truth else wrong}, truth


def _is_first(scene: Scene, random: Random, truth: bool) -> Asked | None:
    if not scene.in_sequence:
        return None
    thing = scene.things[0] if truth else random.choice(scene.things[1:])
    return "is first", {"thing": _named(random, thing)}, truth


def _is_before(scene: Scene, random: Random, truth: bool) -> Asked | None:
    if not scene.in_sequence:
        return None
    earlier, later = sorted(random.sample(range(len(scene.things)), 2))
    pair = (earlier, later) if truth else (later, earlier)
    thing, other = (_named(random, scene.things[place]) for place in pair)
    return "is before", {"thing": thing, "other": other}, truth


def _anything_moves(scene: Scene, random: Random, truth: bool) -> Asked | None:
    return "anything moves", {}, scene.moving_object is not None


def _moves(scene: Scene, random: Random, truth: bool) -> Asked | None:
    if scene.in_sequence or not scene.things:
        return None
    moving = [thing for thing in scene.things if (thing.direction is not None) is truth]
    if not moving:
        return None
    intent, answer = random.choice((("moves", truth), ("still", not truth)))
    return intent, {"shape": random.choice(moving).shape}, answer


_KINDS: tuple[Callable[[Scene, Random, bool], Asked | None], ...] = (
    *(_is_colour, _is_shape, _any_colour, _present, _is_background, _is_count, _is_place),
    *(_is_direction, _is_size, _is_text, _is_first, _is_before, _anything_moves, _moves),
)
