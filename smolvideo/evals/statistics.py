"""How sure a score is: intervals clustered by video, bounds for what is missing, paired tests.

Questions about one video are not independent draws: a video that cannot be understood takes all of
its questions with it. So every error here is computed from sums over videos.

Clustered standard error of a mean: E. Miller, "Adding Error Bars to Evals" (arXiv:2411.00640,
2024), §2.2, with the correction G/(G-1) for few clusters of A. C. Cameron and D. L. Miller, "A
Practitioner's Guide to Cluster-Robust Inference" (J. Human Resources 50(2), 2015), §III and VI.
Interval of a share: Wilson's (JASA 22, 1927) with the effective sample size of E. L. Korn and
B. I. Graubard (Survey Methodology 24(2), 1998), which stays within 0 and 1 and does not shrink to a
point where all answers are right. Exact test of pairs: Q. McNemar (Psychometrika 12, 1947), by the
binomial distribution.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Share:
    """Right answers among those given, and what that says about the benchmark.

    ``low`` and ``high`` are the ends of the 95 % interval, clustered by video; None where fewer
    than two videos leave nothing to compute it from. ``standard_error`` is that of ``value``.
    """

    right: int
    answered: int
    videos: int
    standard_error: float | None
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        """Between 0 and 1; None where nothing was answered."""
        return self.right / self.answered if self.answered else None


def share_right(correct: Sequence[bool], videos: Sequence[str]) -> Share:
    """The share of True; ``videos[i]`` is the cluster of ``correct[i]``."""
    total, right, clusters = len(correct), sum(correct), len(set(videos))
    if total == 0 or clusters < 2:
        return Share(right, total, clusters, None, None, None)
    error = clustered_error([float(one) for one in correct], videos)
    low, high = _interval(right / total, total, clusters, error)
    return Share(right, total, clusters, error, low, high)


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> float:
    """The standard error of the mean of ``values``, of which those of one cluster go together.

    ``sqrt(G/(G-1) * sum over clusters of (sum of (x - mean))^2) / n`` with G clusters, at least 2.
    """
    mean = math.fsum(values) / len(values)
    sums: defaultdict[str, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - mean
    count = len(sums)
    squares = math.fsum(total * total for total in sums.values())
    return math.sqrt(count / (count - 1) * squares) / len(values)


def _interval(share: float, total: int, clusters: int, error: float) -> tuple[float, float]:
    """Wilson's interval with as many independent draws as would give the clustered error.

    Never more draws than questions; where the error is 0 the videos are counted, the most cautious
    reading. Student's t in place of the normal widens it where videos are few.
    """
    spread = share * (1 - share)
    draws = min(float(total), spread / error**2) if error and spread else float(clusters)
    t = student_t(1 - (1 - CONFIDENCE) / 2, clusters - 1)
    middle = (share + t * t / (2 * draws)) / (1 + t * t / draws)
    half = t / (1 + t * t / draws) * math.sqrt(spread / draws + t * t / (4 * draws * draws))
    return max(0.0, middle - half), min(1.0, middle + half)


def student_t(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution, for ``probability`` above one half.

    By halving, on the closed form of the distribution for whole degrees of freedom: M. Abramowitz
    and I. A. Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 and 26.7.4.
    """
    if degrees > 2000:
        return NormalDist().inv_cdf(probability)
    wanted, low, high = 2 * probability - 1, 0.0, 1e6
    while high - low > 1e-10 * max(1.0, low):
        middle = (low + high) / 2
        low, high = (low, middle) if _t_within(middle, degrees) > wanted else (middle, high)
    return (low + high) / 2


def _t_within(t: float, degrees: int) -> float:
    """The probability of a value between -t and t."""
    angle = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = total = cosine if odd else 1.0
    for step in range(2 + odd, degrees - 1, 2):
        term *= (step - 1) / step * cosine * cosine
        total += term
    if odd:
        return (angle + (sine * total if degrees > 1 else 0.0)) * 2 / math.pi
    return sine * total


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


@dataclass(frozen=True)
class Paired:
    """Two runs on the same questions: the first less the second.

    ``only_first`` and ``only_second`` count the questions that only one has right.
    ``mcnemar_p`` is exact and takes questions for independent; ``low``, ``high`` and ``p`` are
    clustered by video (t with one degree less than videos), None where there is one video only.
    """

    questions: int
    videos: int
    first: float
    second: float
    only_first: int
    only_second: int
    mcnemar_p: float
    standard_error: float | None
    low: float | None
    high: float | None
    p: float | None

    @property
    def difference(self) -> float:
        return self.first - self.second

    @property
    def discordant(self) -> int:
        """The questions that only one of the two has right."""
        return self.only_first + self.only_second

    @property
    def varies(self) -> bool:
        """Whether the interval is one: its ends are the same where all videos agree."""
        return bool(self.standard_error)


def compare_pairs(first: Sequence[bool], second: Sequence[bool], videos: Sequence[str]) -> Paired:
    """The paired comparison of two runs; at least one question."""
    count, clusters = len(first), len(set(videos))
    differences = [float(a) - float(b) for a, b in zip(first, second, strict=True)]
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    return Paired(
        questions=count,
        videos=clusters,
        first=sum(first) / count,
        second=sum(second) / count,
        only_first=only_first,
        only_second=only_second,
        mcnemar_p=mcnemar(only_first, only_second),
        **_clustered_difference(differences, videos),
    )


def _clustered_difference(
    differences: Sequence[float], videos: Sequence[str]
) -> dict[str, float | None]:
    """Error, interval and p of a mean difference; nothing where there is one video only."""
    clusters = len(set(videos))
    if clusters < 2:
        return dict.fromkeys(("standard_error", "low", "high", "p"))
    mean = math.fsum(differences) / len(differences)
    error = clustered_error(differences, videos)
    half = student_t(1 - (1 - CONFIDENCE) / 2, clusters - 1) * error
    # Where all videos agree there is no difference at all, or one that nothing speaks against.
    p = 1 - _t_within(abs(mean) / error, clusters - 1) if error else float(not mean)
    low, high = max(-1.0, mean - half), min(1.0, mean + half)
    return {"standard_error": error, "low": low, "high": high, "p": p}


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p: as even a division of the discordant pairs, or a less even one, by chance.

    >>> mcnemar(1, 5)
    0.21875
    """
    pairs, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(pairs, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / (1 << pairs)))
