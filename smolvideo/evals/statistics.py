"""Statistics of scores: cluster-robust intervals, bounds for missing answers, paired tests.

The estimator is a regression on a constant, so everything is a sum over clusters. Sources:

- Standard error CR2, unbiased for independent values: R. M. Bell and D. F. McCaffrey, "Bias
  Reduction in Standard Errors for Linear Regression with Multi-Stage Samples" (Survey Methodology
  28(2), 2002). With clusters of equal size it is the usual correction G/(G-1).
- Degrees of freedom by Satterthwaite's approximation under a working model with one intraclass
  correlation, as G. W. Imbens and M. Kolesár advise in "Robust Standard Errors in Small Samples"
  (Review of Economics and Statistics 98(4), 2016), §III. With clusters of equal size it is G - 1.
- The intraclass correlation from an analysis of variance: A. Donner (International Statistical
  Review 54(1), 1986), §2.
- The effective number of clusters: L. Kish, "Survey Sampling" (1965), §8.2 and 11.7; the same as
  A. V. Carter, K. T. Schnepel and D. G. Steigerwald (Review of Economics and Statistics 99(4),
  2017) for independent values.

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
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ClusteredMean:
    """A mean with its cluster-robust standard error.

    ``effective_clusters`` is between 1 and ``clusters``; it is smaller the more unequal the
    clusters are. ``standard_error`` is None with one cluster; it is exactly 0 if all clusters have
    the same mean. ``degrees`` are the degrees of freedom of Student's t, not necessarily an
    integer, from 1 to ``clusters`` - 1.
    """

    mean: float
    count: int
    clusters: int
    effective_clusters: float
    standard_error: float | None
    degrees: float


def clustered_mean(values: Sequence[float], clusters: Sequence[str]) -> ClusteredMean:
    """Return the mean of integers such as 0 and 1; ``clusters[i]`` is the cluster of ``values[i]``.

    Raises ValueError without values, or if the two differ in length.
    """
    if not values:
        raise ValueError("no values, no mean")
    members: defaultdict[str, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        members[cluster].append(value)
    count, total = len(values), math.fsum(values)
    sizes = [len(one) for one in members.values()]
    effective = count * count / sum(size * size for size in sizes)
    if len(sizes) == 1:
        return ClusteredMean(total / count, count, 1, 1.0, None, 0.0)
    # Residual sums times `count`: exact for integers, so equal cluster means give exactly 0.
    residuals = [count * math.fsum(one) - total * len(one) for one in members.values()]
    squares = math.fsum(
        residual * residual / (1 - size / count)
        for residual, size in zip(residuals, sizes, strict=True)
    )
    return ClusteredMean(
        mean=total / count,
        count=count,
        clusters=len(sizes),
        effective_clusters=effective,
        standard_error=math.sqrt(squares) / count / count,
        degrees=_degrees(sizes, _correlation(list(members.values()))),
    )


def _correlation(groups: Sequence[Sequence[float]]) -> float:
    """Intraclass correlation, clamped to 0…1; 0 if it is not identified."""
    count = sum(map(len, groups))
    if count == len(groups):
        return 0.0
    overall = math.fsum(value for group in groups for value in group) / count
    means = [math.fsum(group) / len(group) for group in groups]
    between = math.fsum(
        len(group) * (mean - overall) ** 2 for group, mean in zip(groups, means, strict=True)
    ) / (len(groups) - 1)
    within = math.fsum(
        (value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for value in group
    ) / (count - len(groups))
    # The average cluster size of the analysis of variance, for clusters of unequal size.
    size = (count - sum(len(group) ** 2 for group in groups) / count) / (len(groups) - 1)
    whole = between + (size - 1) * within
    return min(1.0, max(0.0, (between - within) / whole)) if whole > 0 else 0.0


def _degrees(sizes: Sequence[int], correlation: float) -> float:
    """Satterthwaite degrees ``tr(W)^2 / tr(W W)`` of the covariance W of the cluster residual sums.

    With shares ``p`` of all values and variances ``v = n (1 + (n - 1) correlation)`` of the sums,
    the covariance of two is ``-p' v - p v' + p p' V``, V the sum of all v; each row and column is
    divided by ``sqrt(1 - p)``, as CR2 does. The double sum is expanded, so that the cost is linear.
    """
    count = sum(sizes)
    shares = [size / count for size in sizes]
    variances = [size * (1 + (size - 1) * correlation) for size in sizes]
    both = list(zip(shares, variances, strict=True))
    total = math.fsum(variances)
    own = [(v * (1 - 2 * p) + p * p * total) / (1 - p) for p, v in both]
    # Off the diagonal W = sqrt(w w') (V - x - x'), where
    weights = [p * p / (1 - p) for p, _ in both]
    ratios = [v / p for p, v in both]
    first, second, third = (
        math.fsum(w * x**power for w, x in zip(weights, ratios, strict=True)) for power in range(3)
    )
    pairs = (total * first) ** 2 - 4 * total * first * second + 2 * (first * third + second**2)
    pairs -= math.fsum((w * (total - 2 * x)) ** 2 for w, x in zip(weights, ratios, strict=True))
    squares = math.fsum(one * one for one in own) + max(0.0, pairs)
    return min(max(1.0, math.fsum(own) ** 2 / squares), len(sizes) - 1.0)


def student_p(t: float, degrees: float) -> float:
    """Two-sided p-value of Student's t with ``degrees`` above 0.

    By the incomplete beta function: M. Abramowitz and I. A. Stegun, "Handbook of Mathematical
    Functions" (1964), 26.7.1 and 26.5.27.
    """
    if math.isinf(t):
        return 0.0
    return _incomplete_beta(degrees / (degrees + t * t), t * t / (degrees + t * t), degrees / 2)


def student_t(probability: float, degrees: float) -> float:
    """Quantile of Student's t for ``probability`` above one half and ``degrees`` of 1 or more.

    By bisection.
    """
    wanted, low, high = 2 * (1 - probability), 0.0, 1e6
    while high - low > 1e-12 * max(1.0, low):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, degrees) > wanted else (low, middle)
    return (low + high) / 2


def _incomplete_beta(x: float, rest: float, a: float, b: float = 0.5) -> float:
    """Regularised incomplete beta I_x(a, b); ``rest`` is 1 - x, passed to avoid cancellation.

    The continued fraction DLMF 8.17.22, on the side on which it converges fast, by the method of
    W. J. Lentz (Applied Optics 15, 1976).
    """
    if x <= 0 or rest <= 0:
        return float(rest <= 0)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(x, a, b) / a
    return 1 - front * _beta_fraction(rest, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    numerator, denominator = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = denominator
    for step in range(1, 10_000):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for factor in (even, odd):
            denominator = 1 / ((1 + factor * denominator) or tiny)
            numerator = (1 + factor / numerator) or tiny
            change = numerator * denominator
            value *= change
        if abs(change - 1) < 1e-15:
            break
    return value


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
            permutation_test(differences, videos),
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


def permutation_test(differences: Sequence[int], videos: Sequence[str]) -> float:
    """Two-sided exact p of a permutation test: the probability of a sum of differences at least as
    far from 0 if the two runs are exchanged at random in each video.

    The distribution of the sum is built video by video. With one question per video this is
    McNemar's test.

    >>> permutation_test([1, 1, 1, 1, 1, -1], "abcdef")
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
