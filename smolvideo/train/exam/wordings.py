"""Questions in the words of users, from ``new_wordings.toml``, filled from a scene.

The training has its own templates; these are kept apart from them, so that the evaluation finds out
whether a question is understood or only recognised. Yes-no questions are asked with the truth yes
and no equally often.
"""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random

from smolvideo.train.exam.statements import STATEMENTS
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import (
    COUNT_WORDS,
    FrameClock,
    behaviour_phrase,
    describe,
    with_article,
)
from smolvideo.train.world.scene import Scene, SceneObject

YES_NO_QUESTIONS = 6
"""Yes-no questions per video, half of them true, if the scene has that many."""
OPEN_QUESTIONS = 6


@dataclass(frozen=True)
class Wording:
    """A question with fields in braces; ``intent`` names the fact that it asks for."""

    intent: str
    text: str
    yes_no: bool


@dataclass(frozen=True)
class Fact:
    """A fact of a scene: the right answer, and what names the object asked about."""

    answer: str
    thing: SceneObject | None = None
    moment: float | None = None
    """Share of the duration at which it happens, for a fact that is a time."""


@cache
def load_wordings() -> tuple[Wording, ...]:
    """Return all wordings in the order of the file."""
    text = (files("smolvideo.train.exam") / "new_wordings.toml").read_text("utf-8")
    return tuple(
        Wording(intent, wording, entry.get("yes_no", False))
        for intent, entry in tomllib.loads(text).items()
        for wording in entry["texts"]
    )


def ask_in_new_wordings(
    scene: Scene, random: Random, clock: FrameClock
) -> Iterator[tuple[str, Question]]:
    """Yield intents with their questions: yes-no, half of them true, then open ones.

    Each intent is asked at most once about a scene.
    """
    wordings = list(load_wordings())
    random.shuffle(wordings)
    asked: set[str] = set()
    first = random.random() < 0.5
    for number in range(YES_NO_QUESTIONS):
        truth = first == (number % 2 == 0)
        for wording in wordings:
            if wording.yes_no and wording.intent not in asked:
                question = fill_statement(wording, scene, random, truth=truth)
                if question is not None:
                    asked.add(wording.intent)
                    yield wording.intent, question
                    break
    opened = 0
    for wording in wordings:
        if wording.yes_no or wording.intent in asked or opened == OPEN_QUESTIONS:
            continue
        question = fill_open(wording, scene, random, clock)
        if question is not None:
            asked.add(wording.intent)
            opened += 1
            yield wording.intent, question


def fill_statement(
    wording: Wording, scene: Scene, random: Random, *, truth: bool
) -> Question | None:
    """Return the yes-no question with the answer ``truth``; None if the scene has none."""
    values = STATEMENTS[wording.intent](scene, random, truth)
    if values is None:
        return None
    text = _capital(wording.text, wording.text.format(**values))
    return Question("yes-no", text, "yes" if truth else "no")


def fill_open(wording: Wording, scene: Scene, random: Random, clock: FrameClock) -> Question | None:
    """Return the open question with its answer; None if the scene has no such fact."""
    kind, facts = FACTS[wording.intent]
    found = list(facts(scene, clock))
    if not found:
        return None
    fact = random.choice(found)
    values = {} if fact.thing is None else _names(scene, fact.thing, random)
    text = _capital(wording.text, wording.text.format(**values))
    return Question(kind, text, fact.answer, event_time=fact.moment)


def _names(scene: Scene, thing: SceneObject, random: Random) -> dict[str, str]:
    """Names of an object; one whose colour changes is named by its shape alone."""
    thing_words = thing.shape if thing.new_colour else random.choice((thing.shape, thing.words))
    return {
        "shape": thing.shape,
        "colour": thing.new_colour or thing.colour,
        "thing": thing_words,
    }


def _capital(wording: str, text: str) -> str:
    """Begin with a capital if the wording is typed with care: it ends in a mark."""
    return text[0].upper() + text[1:] if wording[0] == "{" and wording[-1] in ".?" else text


Facts = Callable[[Scene, FrameClock], Iterator[Fact]]


def _background(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    if not scene.cuts:
        yield Fact(scene.background)


def _background_at_start(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    if scene.cuts:
        yield Fact(scene.background)


def _background_at_end(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    if scene.cuts:
        yield Fact(scene.cuts[-1][1])


def _count_at(late: bool) -> Facts:
    def facts(scene: Scene, _: FrameClock) -> Iterator[Fact]:
        happens = scene.event[0] if scene.event else None
        if happens in ("appears", "disappears"):
            missing = happens == ("disappears" if late else "appears")
            yield Fact(COUNT_WORDS[len(scene.things) - missing])

    return facts


def _count(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    steady = scene.event is None or scene.event[0] == "turns"
    if scene.things and steady and not scene.in_sequence:
        yield Fact(COUNT_WORDS[len(scene.things)])


def _shots(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    yield Fact(COUNT_WORDS[len(scene.things) if scene.in_sequence else 1])


def _colours(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    for thing in scene.things:
        if not thing.new_colour:
            yield Fact(thing.colour, thing)


def _turned(scene: Scene, late: bool) -> Iterator[Fact]:
    for thing in scene.things:
        if thing.new_colour:
            yield Fact(thing.new_colour if late else thing.colour, thing)


def _shapes(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    for thing in scene.things:
        if not thing.new_colour:
            yield Fact(thing.shape, thing)


def _only(colour: bool) -> Facts:
    def facts(scene: Scene, _: FrameClock) -> Iterator[Fact]:
        if len(scene.things) == 1:
            (thing,) = scene.things
            yield Fact(thing.colour if colour else thing.shape)

    return facts


def _sizes(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    if not scene.in_sequence:
        for thing in scene.things:
            yield Fact(thing.size, thing)


def _places(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    for thing in scene.things:
        if thing.place is not None:
            yield Fact(thing.place, thing)


def _motions(scene: Scene, _: FrameClock) -> Iterator[Fact]:
    if not scene.in_sequence:
        for thing in scene.things:
            yield Fact(behaviour_phrase(scene, thing), thing)


def _of_mover(answer: Callable[[SceneObject], str]) -> Facts:
    def facts(scene: Scene, _: FrameClock) -> Iterator[Fact]:
        mover = scene.moving_object
        if mover is not None:
            yield Fact(answer(mover), mover)

    return facts


def _who(asked: str) -> Facts:
    def facts(scene: Scene, _: FrameClock) -> Iterator[Fact]:
        if scene.event is not None and scene.event[0] == asked:
            yield Fact(with_article(scene.event[1].words))

    return facts


def _shown(place: int) -> Facts:
    def facts(scene: Scene, _: FrameClock) -> Iterator[Fact]:
        if scene.in_sequence:
            yield Fact(with_article(scene.things[place].words))

    return facts


def _neighbours(step: int) -> Facts:
    def facts(scene: Scene, _: FrameClock) -> Iterator[Fact]:
        if scene.in_sequence:
            pairs = list(zip(scene.things, scene.things[1:], strict=False))
            for before, after in pairs:
                named, other = (before, after) if step > 0 else (after, before)
                yield Fact(with_article(other.words), named)

    return facts


def _written(number: bool | None) -> Facts:
    def facts(scene: Scene, _: FrameClock) -> Iterator[Fact]:
        caption = scene.caption
        if caption is not None and number in (None, caption.is_number):
            yield Fact(caption.text)

    return facts


def _when(asked: str) -> Facts:
    def facts(scene: Scene, clock: FrameClock) -> Iterator[Fact]:
        moments: list[tuple[float, SceneObject]] = []
        if scene.in_sequence and asked == "appears":
            moments = [(thing.appears_at, thing) for thing in scene.things[1:]]
        elif scene.in_sequence and asked == "disappears":
            moments = [(thing.disappears_at, thing) for thing in scene.things[:-1]]
        elif scene.event is not None and scene.event[0] == asked:
            moments = [(scene.event[2], scene.event[1])]
        for moment, thing in moments:
            yield Fact(clock.first_seen(moment), thing, moment)

    return facts


FACTS: dict[str, tuple[str, Facts]] = {
    "count": ("count", _count),
    "count at start": ("count", _count_at(late=False)),
    "count at end": ("count", _count_at(late=True)),
    "shots": ("count", _shots),
    "background": ("background", _background),
    "background at start": ("background", _background_at_start),
    "background at end": ("background", _background_at_end),
    "colour": ("colour", _colours),
    "colour at start": ("colour", lambda scene, _: _turned(scene, late=False)),
    "colour at end": ("colour", lambda scene, _: _turned(scene, late=True)),
    "shape": ("shape", _shapes),
    "only shape": ("shape", _only(colour=False)),
    "only colour": ("colour", _only(colour=True)),
    "size": ("size", _sizes),
    "direction": ("direction", _of_mover(lambda mover: mover.direction or "")),
    "motion": ("motion", _motions),
    "mover": ("mover", _of_mover(lambda mover: with_article(mover.words))),
    "mover colour": ("mover", _of_mover(lambda mover: mover.colour)),
    "mover shape": ("mover", _of_mover(lambda mover: mover.shape)),
    "appears": ("order", _who("appears")),
    "disappears": ("order", _who("disappears")),
    "turns": ("order", _who("turns")),
    "place": ("place", _places),
    "text": ("text", _written(None)),
    "word": ("text", _written(number=False)),
    "number": ("text", _written(number=True)),
    "first": ("order", _shown(0)),
    "second": ("order", _shown(1)),
    "last": ("order", _shown(-1)),
    "after": ("order", _neighbours(1)),
    "before": ("order", _neighbours(-1)),
    "when appears": ("time", _when("appears")),
    "when disappears": ("time", _when("disappears")),
    "when turns": ("time", _when("turns")),
    "describe": ("describe", lambda scene, _: iter([Fact(describe(scene))])),
}
"""Intent of an open question → its type, and the facts of a scene that it can ask for."""
