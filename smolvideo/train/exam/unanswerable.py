"""Questions that no drawn scene answers, from ``unanswerable.toml``, and what is right for them."""

import tomllib
from functools import cache
from importlib.resources import files
from random import Random

from smolvideo.train.world.abstention import ABSTENTION
from smolvideo.train.world.question import Question, same_answer

UNANSWERABLE_QUESTIONS = 6
"""Questions per video."""

REFUSED = "refused"
ABSENT = "absent"
NEGATIONS = ("no", "none", "nothing", "zero", "0")
"""Right answers, besides the abstention, to a question about presence or number."""


@cache
def load_unanswerable() -> dict[str, tuple[str, ...]]:
    """Return the questions of each kind, ``refused`` and ``absent``."""
    text = (files("smolvideo.train.exam") / "unanswerable.toml").read_text("utf-8")
    return {kind: tuple(questions) for kind, questions in tomllib.loads(text).items()}


def ask_unanswerable(random: Random) -> list[Question]:
    """Return some of the questions; the type of each is its kind."""
    every = [
        Question(kind, text, ABSTENTION)
        for kind, texts in load_unanswerable().items()
        for text in texts
    ]
    return random.sample(every, UNANSWERABLE_QUESTIONS)


def is_abstention(given: str) -> bool:
    """Whether the answer is the sentence of abstention."""
    return same_answer(given, ABSTENTION)


def is_negation(given: str) -> bool:
    """Whether the answer says that there is nothing of the kind."""
    return any(same_answer(given, word) for word in NEGATIONS)
