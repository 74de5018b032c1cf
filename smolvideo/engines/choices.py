"""Probabilities of given choices as the beginning of an answer, from the logits of one prefill.

A choice counts however the model begins it: as it was given, with a capital or with a small letter
(``yes``, ``Yes``). What follows does not matter, unless it makes another of the choices: ``1`` is
not the beginning of ``10``.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

from smolvideo.errors import ModelError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.prompt import Prompt, answer_ids

MAX_CHOICES = 100
_MIN_PROBABILITY = 1e-300


class Scorer(Protocol):
    """An engine or a session."""

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        """Return log-likelihoods; see ``Engine.score``."""
        ...


def check_choices(choices: Sequence[str]) -> tuple[str, ...]:
    """Return ``choices`` without outer blanks. Raises UsageError for fewer than two or more than
    ``MAX_CHOICES``, and for empty and equal ones."""
    if isinstance(choices, str) or not all(isinstance(choice, str) for choice in choices):
        raise UsageError(f"choices are texts in a list, not {choices!r:.60}")
    stripped = tuple(choice.strip() for choice in choices)
    if not 2 <= len(stripped) <= MAX_CHOICES:
        raise UsageError(f"2 to {MAX_CHOICES} choices can be compared, not {len(stripped)}")
    if not all(stripped):
        raise UsageError("a choice must not be empty")
    if len({choice.casefold() for choice in stripped}) < len(stripped):
        raise UsageError("the choices are not all different", hint="`Yes` and `yes` are the same")
    return stripped


def choice_log_probabilities(
    scorer: Scorer,
    checkpoint: Checkpoint,
    prompt: Prompt,
    choices: Sequence[str],
    *,
    as_spelled: bool = False,
) -> list[float]:
    """Return the natural logarithm of the probability that the answer to ``prompt`` is each choice.

    They are not normalized: the rest of the probability is that of all other answers. A choice of
    one token costs nothing beyond the prefill. ``as_spelled``: with no other capitals, for a model
    that answers in these words alone, as another spelling is a pass of its own where it has several
    tokens. Raises UsageError as ``check_choices``, and as ``Engine.score`` does.
    """
    choices = check_choices(choices)
    owners: dict[tuple[int, ...], int] = {}
    texts: dict[tuple[int, ...], str] = {}
    for place, choice in enumerate(choices):
        for spelling in (choice,) if as_spelled else _spellings(choice):
            token_ids = tuple(answer_ids(prompt, spelling, checkpoint))
            owners.setdefault(token_ids, place)
            texts.setdefault(token_ids, spelling)
    found = scorer.score(prompt, [texts[ids] for ids in owners], with_end=False)
    beginnings = dict(zip(owners, map(math.exp, found), strict=True))
    totals = [0.0] * len(choices)
    for token_ids, place in owners.items():
        totals[place] += max(0.0, beginnings[token_ids] - _longer(token_ids, beginnings))
    if not any(totals):
        raise ModelError(
            "the model gives all choices the probability 0",
            hint="name the choices in the question, or use other words",
        )
    return [math.log(max(total, _MIN_PROBABILITY)) for total in totals]


def _spellings(choice: str) -> Iterator[str]:
    yield choice
    for other in (choice[:1].upper() + choice[1:], choice[:1].lower() + choice[1:]):
        if other != choice:
            yield other


def _longer(token_ids: tuple[int, ...], beginnings: dict[tuple[int, ...], float]) -> float:
    """Total probability of the other texts that begin with ``token_ids``, each counted once."""
    length = len(token_ids)
    inside = [one for one in beginnings if len(one) > length and one[:length] == token_ids]
    shortest = (
        one
        for one in inside
        if not any(len(other) < len(one) and one[: len(other)] == other for other in inside)
    )
    return sum(beginnings[one] for one in shortest)
