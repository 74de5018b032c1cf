"""Statistics of scores: intervals clustered by video, bounds for missing answers, paired tests.

Questions about one video are not independent: a video that the model cannot understand costs all
of its questions (E. Miller, "Adding Error Bars to Evals", arXiv:2411.00640, 2024, §2.2). So every
standard error here is computed from sums over videos, see ``cluster_robust``; if a few videos have
most questions, the degrees of freedom fall and intervals widen.

Interval of a share: Wilson's (JASA 22, 1927) with the effective sample size of E. L. Korn and
B. I. Graubard (Survey Methodology 24(2), 1998), which stays within 0 and 1 and does not shrink to a
point if all answers are right. Exact test of pairs: Q. McNemar (Psychometrika 12, 1947), by the
binomial distribution.

With few videos, or few discordant questions, Student's t rejects too often. So the p of a paired
comparison is the largest of three: by t; by McNemar's test; and by exchanging the two runs within
whole videos, which is exact for runs that are equally good, however few videos there are
(R. A. Fisher, "The Design of Experiments", 1935, §21; for clusters I. A. Canay, J. P. Romano and
A. M. Shaikh, Econometrica 85(3), 2017). The coverage of the intervals, and how often p is below
0.05 without a difference, are measured by ``tests/stress/intervals.py``.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from smolvideo.evals.cluster_robust import ClusteredMean, clustered_mean, student_p, student_t

CONFIDENCE = 0.95

MIN_EFFECTIVE_VIDEOS = 5
"""Minimum for a paired interval: the t approximation of a clustered error is unreliable below 4
degrees of freedom. E. Tipton, "Small Sample Adjustments for Robust Variance Estimation with
Meta-Regression" (Psychological Methods 20(3), 2015)."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy among the given answers, with its sampling error.

    ``low`` and ``high`` are the ends of the 95 % interval, clustered by video, and never on the
    wrong side of ``value``; None with fewer than two videos. ``standard_error`` belongs to
    ``value``. ``effective_videos`` is the number of videos of equal size with the same information;
    None if nothing was answered.
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
        """Between 0 and 1; None if nothing was answered."""
        return self.right / self.answered if self.answered else None


def accuracy(correct: Sequence[bool], videos: Sequence[str]) -> Accuracy:
    """Return the share of True; ``videos[i]`` is the cluster of ``correct[i]``."""
    total, right = len(correct), sum(correct)
    if total == 0:
        return Accuracy(0, 0, 0, None, None, None, None)
    mean = clustered_mean([int(one) for one in correct], videos)
    low, high = _interval(mean)
    return Accuracy(
        right, total, mean.clusters, mean.effective_clusters, mean.standard_error, low, high
    )


def _interval(mean: ClusteredMean) -> tuple[float, float] | tuple[None, None]:
    """Wilson's interval for the effective sample size: the number of independent draws with the
    same standard error as the clustered one.

    At most the number of questions; with an error of 0 the effective number of videos, the most
    conservative choice. Student's t instead of the normal widens it for few videos.
    """
    error, share = mean.standard_error, mean.mean
    if error is None:
        return None, None
    spread = share * (1 - share)
    draws = min(float(mean.count), spread / error**2) if error else mean.effective_clusters
    t = student_t(1 - (1 - CONFIDENCE) / 2, mean.degrees)
    middle = (share + t * t / (2 * draws)) / (1 + t * t / draws)
    half = t / (1 + t * t / draws) * math.sqrt(spread / draws + t * t / (4 * draws * draws))
    # Rounding must not move an end past the share itself (0.9999… if all are right).
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


@dataclass(frozen=True)
class Bounds:
    """Score if every missing answer were wrong, and if every one were right."""

    low: float
    high: float


def bounds(right: int, answered: int, total: int) -> Bounds | None:
    """Bounds over ``total`` questions with ``answered`` answers; None without questions."""
    if not total:
        return None
    return Bounds(right / total, (right + total - answered) / total)


NoInterval = Literal["no difference", "same in every video", "too few videos"]
"""Reason for a paired comparison without interval and clustered p."""


@dataclass(frozen=True)
class PairedComparison:
    """Two runs on the same questions: the first minus the second.

    ``only_first`` and ``only_second`` count the questions that only one run has right.
    ``mcnemar_p`` is exact and takes questions as independent; ``standard_error``, ``low``,
    ``high`` and ``p`` are clustered by video. ``p`` is never below ``mcnemar_p``, and the interval
    contains 0 if ``p`` is 0.05 or more. They are None for the reason ``no_interval``: without
    variance between videos, or with fewer than ``MIN_EFFECTIVE_VIDEOS``, they would be meaningless.
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


def compare_pairs(
    first: Sequence[bool], second: Sequence[bool], videos: Sequence[str]
) -> PairedComparison:
    """Compare two runs question by question. Raises ValueError without any question."""
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
            half = max(half, abs(mean.mean))  # not significant: the interval must contain 0
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
    # Rounding must not turn five videos of equal size into fewer.
    if mean.effective_clusters < MIN_EFFECTIVE_VIDEOS - 1e-9:
        return "too few videos"
    return None if mean.standard_error else "same in every video"


def exchanging(differences: Sequence[int], videos: Sequence[str]) -> float:
    """Two-sided exact p of a permutation test: the probability of a sum of differences at least as
    far from 0 if the two runs are exchanged at random in each video.

    The distribution of the sum is built video by video. With one question per video this is
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
    for step in steps:  # np.roll never wraps: the array is as wide as all steps together
        chances = (np.roll(chances, step) + np.roll(chances, -step)) / 2
    lower = chances[: middle - abs(sum(differences)) + 1]
    return min(1.0, float(2 * lower.sum()))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p of McNemar's test: a split of the discordant pairs at least as uneven.

    >>> mcnemar(1, 5)
    0.21875
    """
    pairs, fewer = only_first + only_second, min(only_first, only_second)
    tail = ways = 1
    for count in range(fewer):  # each binomial coefficient from the one before: exact and fast
        ways = ways * (pairs - count) // (count + 1)
        tail += ways
    return min(1.0, float(2 * tail / (1 << pairs)))
