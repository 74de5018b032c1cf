"""Questions that confirm a hit: what the model is asked about the frames of a window.

A published model is asked once whether the video shows the query. ``nano`` was trained on a few
wordings: for each thing that the query names it is asked whether there is one, where the query says
how it moves, which way, and for a word or number what the text says. Of a query in none of its
words it is asked nothing.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smolvideo.models import Checkpoint

YES_NO = ("yes", "no")
DIRECTIONS = ("left", "right", "up", "down")
BACKGROUNDS = ("white", "grey", "black", "brown")
MAX_QUERY_CHARACTERS = 300
"""A longer query is cut in the question: the frames need the context."""


@dataclass(frozen=True)
class Check:
    """A question about frames, with the answers that are compared, and the index of the one that
    confirms the query. Of a single answer the probability is not compared with others.
    ``is_presence``: a single frame can answer it."""

    question: str
    choices: tuple[str, ...]
    wanted: int
    is_presence: bool = True


def checks_of(query: str, checkpoint: Checkpoint) -> tuple[Check, ...]:
    """Return the questions that confirm ``query``; empty where the frames cannot tell."""
    text = " ".join(query.split())[:MAX_QUERY_CHARACTERS].strip(" .?!")
    if not text:
        return ()
    if checkpoint.is_nano:
        return tuple(_nano_checks(text))
    return (Check(f"Does this video show {text}? Answer yes or no.", YES_NO, 0),)


_MOVES = re.compile(
    r"\s*\b(?:(?:that|which) )?(?:is )?(?:moves?|moving|goes|going)\b"
    r"(?:\s+(?:to(?: the)? )?(left|right|up|down)\b\w*)?",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    rf"\s*\b(?:on|with|in front of) (?:an? )?({'|'.join(BACKGROUNDS)})(?: background)?\b",
    re.IGNORECASE,
)
_TEXT = re.compile(r"(?:the )?(?:word|number|text|sign)s?\s+\W?(\w{1,12})\W?|([A-Z]{2,12}|\d{1,6})")
_JOINTS = re.compile(r"\s+(?:and|past|beside|with)\s+|\s*,\s*", re.IGNORECASE)
_THING = re.compile(
    r"(?:an? |the |some )?((?:(?:red|green|blue|yellow|purple|orange) )?"
    r"(?:circle|square|triangle|star|cross))s?",
    re.IGNORECASE,
)


def _nano_checks(text: str) -> list[Check]:
    """Return checks in the wordings of ``smolvideo.train.world.question``."""
    checks: list[Check] = []
    written = _TEXT.fullmatch(text)
    if written:
        caption = (written[1] or written[2]).upper()
        return [Check("What does the text say?", (caption,), 0)]
    behind = _BEHIND.search(text)
    if behind:
        text = text[: behind.start()] + text[behind.end() :]
        wanted = BACKGROUNDS.index(behind[1].lower())
        checks.append(Check("What colour is the background?", BACKGROUNDS, wanted))
    for part in _JOINTS.split(text):
        moves = _MOVES.search(part)
        thing = _THING.fullmatch((part[: moves.start()] if moves else part).strip())
        if thing is None:
            continue
        named = thing[1].lower()
        article = "an" if named[0] in "aeiou" else "a"
        checks.append(Check(f"Is there {article} {named}?", YES_NO, 0))
        if moves and moves[1]:
            way = DIRECTIONS.index(moves[1].lower())
            question = f"Which way does the {named} move?"
            checks.append(Check(question, DIRECTIONS, way, is_presence=False))
        elif moves:
            shape = named.split()[-1]
            checks.append(Check(f"Does the {shape} move?", YES_NO, 0, is_presence=False))
    return checks


ChoiceScores = Callable[[Check], Sequence[float]]
"""The probabilities of a check's choices given some frames."""


def log_odds(checks: Sequence[Check], probabilities: ChoiceScores) -> float:
    """Return the log-odds that all ``checks`` are confirmed, as if they were independent."""
    total = 0.0
    for check in checks:
        total += math.log(min(max(probabilities(check)[check.wanted], 1e-9), 1 - 1e-9))
    together = min(max(math.exp(total), 1e-9), 1 - 1e-9)
    return math.log(together / (1 - together))
