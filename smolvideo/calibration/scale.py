"""The scale of choices: two numbers, fitted to labelled questions, that correct probabilities.

The log-probability of choice ``i`` of ``K`` becomes ``slope · log p[i] + offset · x[i]``, with
``x`` from -1/2 for the first choice to 1/2 for the last, evenly spaced; softmax makes
probabilities of that. For two choices this is Platt's scaling of the log-odds (Platt 1999,
"Probabilistic outputs for support vector machines"); without the offset it is temperature scaling
(arXiv 1706.04599). For a rating the offset moves it up or down.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from smolvideo.errors import UsageError

MIN_EXAMPLES = 10
_MAX_STEPS = 50
_TOLERANCE = 1e-9
_MAX_STEP = 2.0
_RIDGE = 1e-6
_FOLDS = 5


@dataclass(frozen=True)
class LabelledScores:
    """The log-probabilities of the choices for one question, and the index of the right one.

    ``group`` is the same for questions that are not independent: those about one video.
    """

    log_probabilities: tuple[float, ...]
    label: int
    group: Hashable = None


@dataclass(frozen=True)
class Scale:
    """``slope`` multiplies log-probabilities; ``offset`` is added to the log-odds of the last
    choice against the first."""

    slope: float = 1.0
    offset: float = 0.0

    def probabilities(self, log_probabilities: Sequence[float]) -> list[float]:
        """Return the corrected probabilities of the choices, which add up to 1."""
        at = _positions(len(log_probabilities))
        logits = [
            self.slope * one + self.offset * x for one, x in zip(log_probabilities, at, strict=True)
        ]
        highest = max(logits)
        powers = [math.exp(one - highest) for one in logits]
        return [power / sum(powers) for power in powers]


IDENTITY = Scale()
"""The scale that only normalizes."""


def fit_scale(examples: Sequence[LabelledScores]) -> Scale:
    """Return the scale of the greatest likelihood, by Newton's method.

    Targets are smoothed as Platt does: the right choice of ``n`` examples that have it counts as
    ``(n + 1) / (n + 2)``, so that separable examples have a finite scale. Raises UsageError for
    fewer than ``MIN_EXAMPLES``, and where all have the same right choice.
    """
    _check(examples)
    return _fit(examples)


def _check(examples: Sequence[LabelledScores]) -> None:
    if len(examples) < MIN_EXAMPLES:
        raise UsageError(
            f"a scale needs {MIN_EXAMPLES} labelled questions or more, not {len(examples)}"
        )
    if len({example.label for example in examples}) < 2:
        raise UsageError("all labelled questions have the same answer: a scale needs others, too")


def _fit(examples: Sequence[LabelledScores]) -> Scale:
    frequency = Counter(example.label for example in examples)
    scale = IDENTITY
    for _ in range(_MAX_STEPS):
        slope, offset = _newton_step(examples, frequency, scale)
        # A long step may overshoot where probabilities are saturated.
        size = min(1.0, _MAX_STEP / max(abs(slope), abs(offset), _TOLERANCE))
        scale = Scale(scale.slope - size * slope, scale.offset - size * offset)
        if max(abs(slope), abs(offset)) < _TOLERANCE:
            break
    return scale


def _newton_step(
    examples: Sequence[LabelledScores], frequency: Mapping[int, int], scale: Scale
) -> tuple[float, float]:
    """Return the Newton step of slope and offset: inverse Hessian times gradient of the
    cross-entropy."""
    count = len(examples[0].log_probabilities)
    at = _positions(count)
    g0 = g1 = h01 = 0.0
    h00 = h11 = _RIDGE
    for example in examples:
        scores, p = example.log_probabilities, scale.probabilities(example.log_probabilities)
        right = (frequency[example.label] + 1) / (frequency[example.label] + 2)
        wrong = (1 - right) / (count - 1)
        mean_s = sum(one * score for one, score in zip(p, scores, strict=True))
        mean_x = sum(one * x for one, x in zip(p, at, strict=True))
        for place, (one, score, x) in enumerate(zip(p, scores, at, strict=True)):
            error = one - (right if place == example.label else wrong)
            g0 += error * score
            g1 += error * x
            h00 += one * (score - mean_s) ** 2
            h01 += one * (score - mean_s) * (x - mean_x)
            h11 += one * (x - mean_x) ** 2
    determinant = h00 * h11 - h01 * h01
    return (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant


def cross_validated(examples: Sequence[LabelledScores]) -> list[list[float]]:
    """Return the probabilities of each example by a scale that was fitted to other groups.

    Groups are divided into five parts, or into as many as there are groups. Raises UsageError as
    ``fit_scale``, and for fewer than two groups.
    """
    _check(examples)
    groups = list(dict.fromkeys(example.group for example in examples))
    if len(groups) < 2:
        raise UsageError("labelled questions about two videos or more are needed, not about one")
    folds = min(_FOLDS, len(groups))
    part = {group: at % folds for at, group in enumerate(groups)}
    scales = [
        _fit([example for example in examples if part[example.group] != fold])
        for fold in range(folds)
    ]
    return [
        scales[part[example.group]].probabilities(example.log_probabilities) for example in examples
    ]


def _positions(count: int) -> list[float]:
    return [place / (count - 1) - 0.5 for place in range(count)]
