"""Reliability of probabilities: of the answers with 80 %, are 80 % right?

Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599): predictions are grouped
by confidence into bins of equal width; the expected calibration error (ECE) is the mean difference
between confidence and accuracy of the bins, weighted by their counts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

NUM_BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions with a confidence above ``low``, up to ``high``: their number, mean confidence
    and share of right ones. Both means are 0 where ``count`` is 0."""

    low: float
    high: float
    count: int = 0
    confidence: float = 0.0
    accuracy: float = 0.0


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram, by confidence, and the error over all of them."""

    ece: float
    bins: tuple[ReliabilityBin, ...]

    @property
    def count(self) -> int:
        """Number of predictions."""
        return sum(one.count for one in self.bins)

    @property
    def filled(self) -> tuple[ReliabilityBin, ...]:
        """The bins with predictions."""
        return tuple(one for one in self.bins if one.count)

    def to_json(self) -> dict[str, Any]:
        """Return JSON types; bins without predictions are left out."""
        return {"ece": self.ece, "bins": [asdict(one) for one in self.filled]}


def reliability(
    confidences: Sequence[float], right: Sequence[bool], *, num_bins: int = NUM_BINS
) -> Reliability:
    """Return the reliability of predictions: the probability of each (0 to 1), and whether it was
    right.

    >>> reliability([0.9, 0.9, 0.6, 0.6], [True, True, True, False]).ece
    0.1
    """
    groups: list[list[int]] = [[] for _ in range(num_bins)]
    for at, confidence in enumerate(confidences):
        # Above the lower bound, up to the upper one, as in the paper.
        place = min(max(-int(-confidence * num_bins // 1) - 1, 0), num_bins - 1)
        groups[place].append(at)
    bins = []
    for place, members in enumerate(groups):
        low, high = place / num_bins, (place + 1) / num_bins
        if not members:
            bins.append(ReliabilityBin(low, high))
            continue
        count = len(members)
        mean = sum(confidences[at] for at in members) / count
        share = sum(right[at] for at in members) / count
        bins.append(ReliabilityBin(low, high, count, mean, share))
    total = max(1, len(confidences))
    ece = sum(one.count * abs(one.confidence - one.accuracy) for one in bins) / total
    return Reliability(round(ece, 12), tuple(bins))
