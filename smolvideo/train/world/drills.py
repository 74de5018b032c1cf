"""Exercises: looking something up, and nothing else.

A letter is found by its option and an option by its letter, what comes after or before something in
a list or among time stamps, what was told of somebody is chosen among options, and what was said
is said again. Whoever can do that has only the seeing left to do when a video is asked for times,
an order or options. No exam asks them.
"""

from collections.abc import Iterator
from random import Random

from smolvideo.evals.item import LETTERS
from smolvideo.evals.protocol import ask_item
from smolvideo.train.world.questions import NAMES, NUMBERS, Clock, Question, a
from smolvideo.train.world.scene import BACKGROUNDS, COLOURS, DIRECTIONS, PLACES, SHAPES, WORDS

KINDS = (
    COLOURS,
    SHAPES,
    (*BACKGROUNDS, *COLOURS),
    (*DIRECTIONS, "nowhere"),
    tuple(place for row in PLACES for place in row),
    NUMBERS,
    WORDS,
    tuple(a(f"{colour} {shape}") for colour in COLOURS for shape in SHAPES),
    tuple(str(number) for number in range(10, 100)),
)
"""Words as answers are, five or more of a kind."""
SHORT_KINDS = KINDS[:4]
"""Those of one word: its letter is right before it."""
_OFTEN = (
    *["stamp"] * 2, *["letter"] * 3, *["before"] * 2, *["told"] * 2,
    "option", "list", "twice", "repeat",
)  # fmt: skip
"""Letters are the hardest to find."""


def drills(random: Random, clock: Clock | None) -> Iterator[Question]:
    """Endless exercises, in random order; those with times where there is a ``clock``."""
    while True:
        kind = random.choice(_OFTEN)
        if kind in ("letter", "option"):
            yield _options(random, kind)
        elif kind == "before":
            yield _before(random)
        elif kind == "told":
            yield _told(random)
        elif kind == "list":
            yield _list(random)
        elif kind == "twice":
            yield _twice(random)
        elif kind == "repeat":
            words = [random.choice(random.choice(KINDS)) for _ in range(random.randint(1, 4))]
            yield Question(kind, f"Say {', '.join(words)}", ", ".join(words))
        elif clock is not None:
            yield _stamp(random, clock.stamps())


def _options(random: Random, kind: str) -> Question:
    kinds = random.choice((KINDS, SHORT_KINDS))
    options = random.sample(random.choice(kinds), random.choice((2, 3, 5, 5)))
    place = random.randrange(len(options))
    letter, option = LETTERS[place], options[place]
    if kind == "option":
        wording, answer = f"What is option {letter}?", option
    else:
        wordings = ("Which option is {0}?", "What is {0}?", "{0}")
        wording, answer = random.choice(wordings).format(option), letter
    # The shortest form of questions with options: exercises are many.
    return Question(kind, ask_item("plain", "cinepile", wording, options, None).text, answer)


def _before(random: Random) -> Question:
    """The letter right before a word, in short lists: finding that of an option begins so."""
    words = random.sample(random.choice(SHORT_KINDS), random.randint(2, 5))
    place = random.randrange(len(words))
    bracket, end = random.choice((("", ", "), (")", ", "), (")", "\n"), (")", "\n")))
    listed = end.join(f"{LETTERS[n]}{bracket} {word}" for n, word in enumerate(words))
    wording = random.choice(("What comes before {}?", "Which option is {}?", "What is {}?"))
    parts = [wording.format(words[place]), listed]
    random.shuffle(parts)
    return Question("before", "\n".join(parts), LETTERS[place])


def _told(random: Random) -> Question:
    """What one of several is, and then its letter: two steps, as with what a video shows."""
    options = random.sample(random.choice(random.choice((KINDS, SHORT_KINDS))), 5)
    names = random.sample(NAMES, random.choice((1, 2, 3)))
    told = dict(zip(names, random.sample(options, len(names)), strict=True))
    lines = "\n".join(f"{name} is {option}." for name, option in told.items())
    name = random.choice(names)
    asked = ask_item("plain", "cinepile", f"What is {name}?", options, None).text
    return Question("told", f"{lines}\n{asked}", LETTERS[options.index(told[name])])


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


def _twice(random: Random) -> Question:
    """Which of some words comes again: half of what finding a letter takes."""
    words = random.sample(random.choice(KINDS), random.randint(2, 5))
    again = random.choice(words)
    random.shuffle(words)
    return Question("twice", f"{again}? {', '.join(words)}. What comes twice?", again)


def _stamp(random: Random, stamps: list[str]) -> Question:
    """The time stamp of the first, the second or the last picture, or of the next one."""
    asked = [("When does the video start?", stamps[0]), ("When does the video end?", stamps[-1])]
    if len(stamps) > 1:
        place = random.randrange(1, len(stamps))
        asked.append(("What is the second time?", stamps[1]))
        asked.append((f"What comes after {stamps[place - 1]}?", stamps[place]))
    return Question("stamp", *random.choice(asked))
