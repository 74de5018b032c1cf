"""Power of a paired comparison: the difference that its questions can show, and the questions that
a difference needs.

E. Miller, "Adding Error Bars to Evals" (arXiv:2411.00640, 2024), §5, with the error clustered by
video: more questions are taken to be about more videos of the same kind, so that the squared error
falls as 1 / questions.
"""

import math
from statistics import NormalDist

from smolvideo.evals.statistics import CONFIDENCE, PairedComparison

POWER = 0.8
"""Probability of finding a difference that exists."""

_ERRORS = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2) + NormalDist().inv_cdf(POWER)
"""Distance from 0, in standard errors, of a difference that is found with this probability."""


def detectable_difference(pair: PairedComparison) -> float | None:
    """Return the smallest difference that these questions show with ``POWER``; None without an
    error, or if it is above 1.
    """
    found = None if pair.standard_error is None else _ERRORS * pair.standard_error
    return None if found is None or found > 1 else found


def questions_needed(pair: PairedComparison) -> int | None:
    """Return the number of questions that show the observed difference with ``POWER``; None
    without a difference or an error.
    """
    if not pair.standard_error or not pair.difference:
        return None
    return math.ceil(pair.questions * (_ERRORS * pair.standard_error / pair.difference) ** 2)
