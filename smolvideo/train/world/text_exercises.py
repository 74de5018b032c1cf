"""Exercises: looking something up, and nothing else.

Letters are found by their options and an option by its letter, what was told of somebody is chosen
among options, what comes after or before something is found in a list or among time stamps, and
what was said is said again. Whoever can do that has only the seeing left to do when a video is
asked for times, an order or options. No exam asks them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from smolvideo.evals.item import LETTERS
from smolvideo.evals.protocol import format_question
from smolvideo.evals.protocol.prompts import PromptName
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import COUNT_WORDS, NAMES, FrameClock, with_article
from smolvideo.train.world.scene import BACKGROUNDS, COLOURS, DIRECTIONS, PLACES, SHAPES, WORDS

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
"""Words as answers are, five or more of a kind."""
_OFTEN = (*["letter"] * 3, *["told"] * 3, *["stamp"] * 2, "option", "list", "repeat")
TURNS = 4
"""Letters that one list of options is asked for."""


def text_exercises(
    random: Random, clock: FrameClock | None, form: PromptName = "plain"
) -> Iterator[Question]:
    """Endless exercises, in random order; those with times where there is a ``clock``, and those
    with options in this ``form``."""
    while True:
        kind = random.choice(_OFTEN)
        if kind == "letter":
            yield _letter(random, form)
        elif kind == "told":
            yield _told(random, form)
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
    """The letters of some options, in one conversation."""
    options = random.sample(random.choice(KINDS), random.choice((2, 3, 5, 5)))
    wording = random.choice(("Which option is {0}?", "What is {0}?", "{0}"))
    asked = [(wording.format(option), option) for option in random.choices(options, k=TURNS)]
    return _about_options("letter", asked, options, form)


def _told(random: Random, form: PromptName) -> Question:
    """What each of several is told to be, and then its letter: two steps, as with what a video
    shows."""
    options = random.sample(random.choice(KINDS), 5)
    names = random.sample(NAMES, random.choice((1, 2, 3)))
    told = dict(zip(names, random.sample(options, len(names)), strict=True))
    lines = "\n".join(f"{name} is {option}." for name, option in told.items())
    random.shuffle(names)
    asked = [(f"What is {name}?", told[name]) for name in names]
    return _about_options("told", asked, options, form, said=lines)


def _about_options(
    kind: str,
    asked: Sequence[tuple[str, str]],
    options: Sequence[str],
    form: PromptName,
    said: str = "",
) -> Question:
    """Questions with their right options in one conversation, the first with all options."""
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
    """The option behind a letter."""
    options = random.sample(random.choice(KINDS), random.choice((2, 3, 5, 5)))
    place = random.randrange(len(options))
    asked = (f"What is option {LETTERS[place]}?", options[place])
    return _about_options("option", [asked], options, form)


def _list(random: Random) -> Question:
    """Two to five words of a kind: the first, the last, or a neighbour of one."""
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
    """The time stamp of the first, the second or the last picture, or of the next one."""
    asked = [("When does the video start?", stamps[0]), ("When does the video end?", stamps[-1])]
    if len(stamps) > 1:
        place = random.randrange(1, len(stamps))
        asked.append(("What is the second time?", stamps[1]))
        asked.append((f"What comes after {stamps[place - 1]}?", stamps[place]))
    return Question("stamp", *random.choice(asked))
