"""How sure a score is: intervals clustered by video, bounds for what is missing, paired tests.

Questions about one video are not independent draws: a video that cannot be understood takes all of
its questions with it (E. Miller, "Adding Error Bars to Evals", arXiv:2411.00640, 2024, §2.2). So
every error here is computed from sums over videos, see ``clustered``; where a few videos hold most
questions, the degrees of freedom fall and intervals widen.

Interval of a share: Wilson's (JASA 22, 1927) with the effective sample size of E. L. Korn and
B. I. Graubard (Survey Methodology 24(2), 1998), which stays within 0 and 1 and does not shrink to a
point where all answers are right. Exact test of pairs: Q. McNemar (Psychometrika 12, 1947), by the
binomial distribution.

With few videos, or few questions that differ, Student's t finds differences too easily. So the p of
a paired comparison is the largest of three: by t; by McNemar's test; and by exchanging the two runs
within whole videos, which is exact for runs that are equally good, however few videos there are
(R. A. Fisher, "The Design of Experiments", 1935, §21; for clusters I. A. Canay, J. P. Romano and
A. M. Shaikh, Econometrica 85(3), 2017). What the intervals cover, and how often p is below 0.05
where there is no difference: ``tests/trial_intervals.py``.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from smolvideo.evals.cluster_robust import ClusteredMean, clustered_mean, student_p, student_t

CONFIDENCE = 0.95

MIN_EFFECTIVE_VIDEOS = 5
"""Fewer give no paired interval: the t approximation of a clustered error is not to be trusted
below 4 degrees of freedom. E. Tipton, "Small Sample Adjustments for Robust Variance Estimation with
Meta-Regression" (Psychological Methods 20(3), 2015)."""


@dataclass(frozen=True)
class Accuracy:
    """Right answers among those given, and what that says about the benchmark.

    ``low`` and ``high`` are the ends of the 95 % interval, clustered by video, and never on the
    wrong side of ``value``; None where fewer than two videos leave nothing to compute it from.
    ``standard_error`` is that of ``value``. ``effective_videos`` is how many videos of one size are
    worth as much; None where nothing was answered.
    """

    right: int
    answered: int
    videos: int
    effective_videos: float | None
    standard_error: float | None
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        """Between 0 and 1; None where nothing was answered."""
        return self.right / self.answered if self.answered else None


def accuracy(correct: Sequence[bool], videos: Sequence[str]) -> Accuracy:
    """The share of True; ``videos[i]`` is the cluster of ``correct[i]``."""
    total, right = len(correct), sum(correct)
    if total == 0:
        return Accuracy(0, 0, 0, None, None, None, None)
    mean = clustered_mean([int(one) for one in correct], videos)
    low, high = _interval(mean)
    return Accuracy(
        right, total, mean.clusters, mean.effective_clusters, mean.standard_error, low, high
    )


def _interval(mean: ClusteredMean) -> tuple[float, float] | tuple[None, None]:
    """Wilson's interval with as many independent draws as would give the clustered error.

    Never more draws than questions; where the error is 0 the effective videos are counted, the
    most cautious reading. Student's t in place of the normal widens it where videos are few.
    """
    error, share = mean.standard_error, mean.mean
    if error is None:
        return None, None
    spread = share * (1 - share)
    draws = min(float(mean.count), spread / error**2) if error else mean.effective_clusters
    t = student_t(1 - (1 - CONFIDENCE) / 2, mean.degrees)
    middle = (share + t * t / (2 * draws)) / (1 + t * t / draws)
    half = t / (1 + t * t / draws) * math.sqrt(spread / draws + t * t / (4 * draws * draws))
    # Rounding must not put an end between the share and itself (0.9999… where all are right).
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


@dataclass(frozen=True)
class Bounds:
    """The score if every missing answer were wrong, and if every one were right."""

    low: float
    high: float


def bounds(right: int, answered: int, total: int) -> Bounds | None:
    """Over ``total`` questions of which ``answered`` have an answer; None where there are none."""
    if not total:
        return None
    return Bounds(right / total, (right + total - answered) / total)


NoInterval = Literal["no difference", "same in every video", "too few videos"]
"""Why a paired comparison has neither interval nor clustered p."""


@dataclass(frozen=True)
class PairedComparison:
    """Two runs on the same questions: the first less the second.

    ``only_first`` and ``only_second`` count the questions that only one has right.
    ``mcnemar_p`` is exact and takes questions for independent; ``standard_error``, ``low``,
    ``high`` and ``p`` are clustered by video. ``p`` is never below ``mcnemar_p``, and the interval
    holds 0 where ``p`` is 0.05 or more. They are None where ``no_interval`` says why: without
    variance between videos, or with fewer than ``MIN_EFFECTIVE_VIDEOS``, they would mean nothing.
    """

    questions: int
    videos: int
    effective_videos: float
    first: float
    second: float
    only_first: int
    only_second: int
    mcnemar_p: float
    standard_error: float | None
    low: float | None
    high: float | None
    p: float | None
    no_interval: NoInterval | None

    @property
    def difference(self) -> float:
        return (self.only_first - self.only_second) / self.questions

    @property
    def num_discordant(self) -> int:
        """The questions that only one of the two has right."""
        return self.only_first + self.only_second


def compare_pairs(
    first: Sequence[bool], second: Sequence[bool], videos: Sequence[str]
) -> PairedComparison:
    """The paired comparison of two runs; at least one question, else ValueError."""
    differences = [int(a) - int(b) for a, b in zip(first, second, strict=True)]
    mean = clustered_mean(differences, videos)
    only_first, only_second = differences.count(1), differences.count(-1)
    reason = _why_no_interval(mean, only_first + only_second)
    error = low = high = p = None
    if reason is None and mean.standard_error is not None:
        error = mean.standard_error
        p = max(
            student_p(abs(mean.mean) / error, mean.degrees),
            exchanging(differences, videos),
            mcnemar(only_first, only_second),
        )
        half = student_t(1 - (1 - CONFIDENCE) / 2, mean.degrees) * error
        if p >= 1 - CONFIDENCE:
            half = max(half, abs(mean.mean))  # what cannot be told from 0 is not told from it
        low, high = max(-1.0, mean.mean - half), min(1.0, mean.mean + half)
    return PairedComparison(
        questions=mean.count,
        videos=mean.clusters,
        effective_videos=mean.effective_clusters,
        first=sum(first) / mean.count,
        second=sum(second) / mean.count,
        only_first=only_first,
        only_second=only_second,
        mcnemar_p=mcnemar(only_first, only_second),
        standard_error=error,
        low=low,
        high=high,
        p=p,
        no_interval=reason,
    )


def _why_no_interval(mean: ClusteredMean, discordant: int) -> NoInterval | None:
    if not discordant:
        return "no difference"
    # Rounding must not turn five videos of one size into fewer.
    if mean.effective_clusters < MIN_EFFECTIVE_VIDEOS - 1e-9:
        return "too few videos"
    return None if mean.standard_error else "same in every video"


def exchanging(differences: Sequence[int], videos: Sequence[str]) -> float:
    """Two-sided exact p: how often a sum of differences as far from 0, or farther, comes about if
    the two runs are exchanged in each video by chance.

    The distribution of the sum is built video by video. With one question a video this is
    McNemar's test.

    >>> exchanging([1, 1, 1, 1, 1, -1], "abcdef")
    0.21875
    """
    import numpy as np

    sums: Counter[str] = Counter()
    for difference, video in zip(differences, videos, strict=True):
        sums[video] += difference
    steps = [abs(one) for one in sums.values() if one]
    middle = sum(steps)
    chances = np.zeros(2 * middle + 1)
    chances[middle] = 1.0
    for step in steps:  # never beyond the ends, which all steps together reach
        chances = (np.roll(chances, step) + np.roll(chances, -step)) / 2
    lower = chances[: middle - abs(sum(differences)) + 1]
    return min(1.0, float(2 * lower.sum()))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p: as even a division of the discordant pairs, or a less even one, by chance.

    >>> mcnemar(1, 5)
    0.21875
    """
    pairs, fewer = only_first + only_second, min(only_first, only_second)
    tail = ways = 1
    for count in range(fewer):  # each binomial coefficient from the last: exact, and fast for many
        ways = ways * (pairs - count) // (count + 1)
        tail += ways
    return min(1.0, float(2 * tail / (1 << pairs)))
