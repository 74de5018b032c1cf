"""Training-only questions: about single frames, and look-ups that need no video.

Single frames: few scenes have events that can be asked by time, and such questions need an ability
that no other question trains: to keep the contents of the frames apart. Here every movement yields
a question.

Look-ups find letters by their options and options by their letters, choose among options a fact
stated before, find the next or the previous item of a list or time stamp, and repeat words. A model
that has learned these look-ups only lacks perception to answer questions about times, orders and
options of a video. No evaluation asks them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from smolvideo.evals.item import LETTERS
from smolvideo.evals.protocol import format_question
from smolvideo.evals.protocol.prompts import PromptName
from smolvideo.formatting import format_timestamp
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import COUNT_WORDS, NAMES, FrameClock, with_article
from smolvideo.train.world.scene import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    PLACES,
    SHAPES,
    WORDS,
    Scene,
    place_of,
)


def questions_at_time(scene: Scene, random: Random, clock: FrameClock) -> Iterator[Question]:
    """Ask what the time stamps of ``clock`` show, in random order; nothing for a static scene.

    The answer is the same in all frames with that time stamp.
    """
    stamps = clock.stamps()
    random.shuffle(stamps)
    for stamp in stamps:
        seen = _seen_at(scene, clock, stamp)
        if seen:
            fact = random.choice(seen)
            yield Question("glimpse", fact.question.format(f" at {stamp}"), fact.answer)


def questions_for_time(scene: Scene, random: Random, clock: FrameClock) -> Iterator[Question]:
    """Ask which time stamp of ``clock`` shows a fact, in random order: the only one, or the first
    or the last of several, but not of all. The neighbouring stamps definitely do not show it."""
    stamps = clock.stamps()
    seen = [_seen_at(scene, clock, stamp) for stamp in stamps]
    stated = [{fact.question for fact in facts} for facts in seen]
    facts = list(dict.fromkeys(fact for facts in seen for fact in facts))
    random.shuffle(facts)
    for fact in facts:
        places = [place for place, shown in enumerate(seen) if fact in shown]
        first, last = places[0], places[-1]
        begins = first == 0 or fact.question in stated[first - 1]
        ends = last == len(stamps) - 1 or fact.question in stated[last + 1]
        if len(places) == 1 < len(stamps) and begins and ends:
            yield Question("finding", f"When {fact.statement}?", stamps[first])
        elif begins and first > 0 and (not ends or random.random() < 0.5):
            yield Question("finding", f"When {fact.statement} first?", stamps[first])
        elif ends and last < len(stamps) - 1:
            yield Question("finding", f"When {fact.statement} last?", stamps[last])


@dataclass(frozen=True)
class _Fact:
    """A question about a moment (``{}`` is for the time), its answer, and both as a statement."""

    question: str
    answer: str
    statement: str


def _seen_at(scene: Scene, clock: FrameClock, stamp: str) -> list[_Fact]:
    """Facts that hold in all frames of a time stamp."""
    shares = [s for s in clock.shares if format_timestamp(s * clock.seconds) == stamp]
    first, last = (list(_facts(scene, share)) for share in (shares[0], shares[-1]))
    return [fact for fact in first if fact in last]


def _facts(scene: Scene, share: float) -> Iterator[_Fact]:
    """Facts at a share of the duration that are not the same throughout the scene."""
    if scene.cuts:
        background = scene.background_at(share)
        yield _Fact("What is the background{}?", background, f"is the background {background}")
    if scene.in_sequence:
        for thing in scene.things:
            if thing.centre_at(share):
                yield _Fact(
                    "What do you see{}?",
                    with_article(thing.words),
                    f"do you see {with_article(thing.words)}",
                )
    mover = scene.moving_object
    if mover is not None and (centre := mover.centre_at(share)) is not None:
        place = place_of(*centre)
        if place is not None:
            shape = mover.shape
            yield _Fact(f"Where is the {shape}{{}}?", place, f"is the {shape} at {place}")
    if scene.event is not None:
        happens, thing, _ = scene.event
        if happens == "turns":
            colour = thing.colour_at(share)
            words = f"the {thing.shape}"
            yield _Fact(f"What colour is {words}{{}}?", colour, f"is {words} {colour}")
        elif thing.centre_at(share):
            yield _Fact(
                f"Is there {with_article(thing.shape)}{{}}?",
                "yes",
                f"is there {with_article(thing.shape)}",
            )
        else:
            yield _Fact(
                f"Is there {with_article(thing.shape)}{{}}?", "no", f"is there no {thing.shape}"
            )


KINDS = (
    COLOURS,
    SHAPES,
    (*BACKGROUNDS, *COLOURS),
    (*DIRECTIONS, "nowhere"),
    tuple(place for row in PLACES for place in row),
    COUNT_WORDS,
    WORDS,
    tuple(with_article(f"{colour} {shape}") for colour in COLOURS for shape in SHAPES),
    tuple(str(number) for number in range(10, 100)),
)
"""Words of which answers consist, five or more of a kind."""
_OFTEN = (*["letter"] * 3, *["stated"] * 3, *["stamp"] * 2, "option", "list", "repeat")
TURNS = 4
"""Questions about one list of options."""


def text_exercises(
    random: Random, clock: FrameClock | None, form: PromptName = "plain"
) -> Iterator[Question]:
    """Yield exercises endlessly, in random order; ones with times only with a ``clock``, ones with
    options in the prompt ``form``."""
    while True:
        kind = random.choice(_OFTEN)
        if kind == "letter":
            yield _letter(random, form)
        elif kind == "stated":
            yield _stated_facts(random, form)
        elif kind == "option":
            yield _option(random, form)
        elif kind == "list":
            yield _list(random)
        elif kind == "repeat":
            words = [random.choice(random.choice(KINDS)) for _ in range(random.randint(1, 4))]
            yield Question(kind, f"Say {', '.join(words)}", ", ".join(words))
        elif clock is not None:
            yield _stamp(random, clock.stamps())


def _letter(random: Random, form: PromptName) -> Question:
    """Ask for the letters of some options, in one conversation."""
    options = random.sample(random.choice(KINDS), random.choice((2, 3, 5, 5)))
    wording = random.choice(("Which option is {0}?", "What is {0}?", "{0}"))
    asked = [(wording.format(option), option) for option in random.choices(options, k=TURNS)]
    return _about_options("letter", asked, options, form)


def _stated_facts(random: Random, form: PromptName) -> Question:
    """Ask for a fact stated about each of several names, then its letter: two hops, as for a
    question about a video."""
    options = random.sample(random.choice(KINDS), 5)
    names = random.sample(NAMES, random.choice((1, 2, 3)))
    stated = dict(zip(names, random.sample(options, len(names)), strict=True))
    lines = "\n".join(f"{name} is {option}." for name, option in stated.items())
    random.shuffle(names)
    asked = [(f"What is {name}?", stated[name]) for name in names]
    return _about_options("stated", asked, options, form, said=lines)


def _about_options(
    kind: str,
    asked: Sequence[tuple[str, str]],
    options: Sequence[str],
    form: PromptName,
    said: str = "",
) -> Question:
    """Ask several questions about the same options in one conversation; the first lists them."""
    opened = [Question(kind, text, right) for text, right in asked]
    first, *others = (question.text for question in opened)
    texts = [
        f"{said}\n" * bool(said) + format_question(form, "cinepile", first, options, None).text
    ]
    turns = [
        Question(
            kind, text, LETTERS[options.index(of.answer)], options=tuple(options), open_form=of
        )
        for text, of in zip([*texts, *others], opened, strict=True)
    ]
    *earlier, last = turns
    return replace(last, history=tuple(earlier))


def _option(random: Random, form: PromptName) -> Question:
    """Ask for the option of a letter."""
    options = random.sample(random.choice(KINDS), random.choice((2, 3, 5, 5)))
    place = random.randrange(len(options))
    asked = (f"What is option {LETTERS[place]}?", options[place])
    return _about_options("option", [asked], options, form)


def _list(random: Random) -> Question:
    """List two to five words of a kind and ask for the first, the last, or a neighbour of one."""
    words = random.sample(random.choice(KINDS), random.randint(2, 5))
    place = random.randrange(1, len(words))
    text, answer = random.choice(
        (
            ("What is first?", words[0]),
            ("What is second?", words[1]),
            ("What is last?", words[-1]),
            (f"What comes after {words[place - 1]}?", words[place]),
            (f"What comes before {words[place]}?", words[place - 1]),
        )
    )
    return Question("list", f"{', '.join(words)}. {text}", answer)


def _stamp(random: Random, stamps: list[str]) -> Question:
    """Ask for the first, second or last time stamp, or for the one after another."""
    asked = [("When does the video start?", stamps[0]), ("When does the video end?", stamps[-1])]
    if len(stamps) > 1:
        place = random.randrange(1, len(stamps))
        asked.append(("What is the second time?", stamps[1]))
        asked.append((f"What comes after {stamps[place - 1]}?", stamps[place]))
    return Question("stamp", *random.choice(asked))
