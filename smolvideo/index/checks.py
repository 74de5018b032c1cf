"""Checks: questions about the frames of a window whose answers confirm a query."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Check:
    """A question about frames, with the answers that are compared, and the index of the one that
    confirms the query; so does that answer to any of ``others``. Of a single answer the probability
    is not compared with others. ``is_presence``: a single frame can answer it."""

    question: str
    choices: tuple[str, ...]
    wanted: int
    is_presence: bool = True
    others: tuple[str, ...] = ()

    def alternatives(self) -> tuple["Check", ...]:
        """Return a check for each of the questions."""
        return tuple(
            replace(self, question=question, others=())
            for question in (self.question, *self.others)
        )


ChoiceScores = Callable[[Check], Sequence[float]]
"""The probabilities of a check's choices given some frames."""


def log_odds(checks: Sequence[Check], probabilities: ChoiceScores) -> float:
    """Return the log-odds that all ``checks`` are confirmed, as if they were independent; a check
    of several questions by the most probable of them."""
    total = 0.0
    for check in checks:
        best = max(probabilities(one)[check.wanted] for one in check.alternatives())
        total += math.log(min(max(best, 1e-9), 1 - 1e-9))
    together = min(max(math.exp(total), 1e-9), 1 - 1e-9)
    return math.log(together / (1 - together))
