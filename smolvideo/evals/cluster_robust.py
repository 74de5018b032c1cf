"""Mean of clustered values: cluster-robust standard error and degrees of freedom.

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
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


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
