"""Simulate the coverage of the intervals of accuracies and of paired differences.

    python tests/stress/intervals.py                    # some minutes
    python tests/stress/intervals.py --runs 5000 --seed 7

Each benchmark is simulated as follows: every video has its own probability of a right answer (beta
distributed, with the given intraclass correlation), and its questions are answered with that
probability. The interval covers if it contains the mean probability over all videos; the target is
95 %. The next column is the coverage of the usual clustered interval, G/(G-1) with G - 1 degrees of
freedom, on the same samples. For two runs of equal quality the table has the share of p below 0.05:
the target is 5 % or less, and more than ``MAX_FALSE`` is a failure.
"""

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence

from smolvideo.evals.statistics import accuracy, clustered_mean, compare_pairs, student_p, student_t

SIZES: dict[str, list[int]] = {
    "30 of 1": [1] * 30,
    "5 of 20": [20] * 5,
    "20 of 10": [10] * 20,
    "100 of 15": [15] * 100,
    "3 of 20 hold 80 %": [80] * 3 + [3] * 17,
    "2 of 50 hold half": [100] * 2 + [4] * 48,
    "1 of 31 holds half": [60] + [2] * 30,
    "20, very unequal": [1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 10, 12, 15, 18, 22, 30, 45, 70],
    "3, unequal": [10, 20, 30],
    "2 of 50": [50, 50],
}  # fmt: skip
"""Name → number of questions per video."""

FEW: dict[str, list[int]] = {
    **{f"{videos} of {each}": [each] * videos for videos in (5, 7, 8, 9) for each in (1, 5)},
    "7, unequal": [1, 2, 2, 3, 3, 4, 4],
    "12, unequal": [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4],
}
"""Benchmarks of few videos, on which paired comparisons are simulated as well."""

MAX_FALSE = 0.055
"""Largest share of p below 0.05 for equally good runs: 5 % and the sampling error of a line."""

MIN_COVERAGE = 0.88
"""Below 95 %: sums of few videos with extreme accuracies are skewed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables.

    Returns 1 where an interval covers less than ``MIN_COVERAGE``, or where more than ``MAX_FALSE``
    of equally good runs seem different.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="draws for each line (1000)")
    parser.add_argument("--pairs", type=int, default=4000, help="the same, of two runs (4000)")
    parser.add_argument("--seed", type=int, default=1, help="of the draws (1)")
    given = parser.parse_args(arguments)
    source = random.Random(given.seed)
    lowest = 1.0
    for line, covered in _accuracy_table(source, given.runs):
        print(line, flush=True)  # noqa: T201 -- a program
        lowest = min(lowest, covered)
    highest = 0.0
    for line, false in _pair_table(source, given.pairs):
        print(line, flush=True)  # noqa: T201
        highest = max(highest, false)
    print(f"\nlowest coverage of an accuracy: {lowest:.1%}")  # noqa: T201
    print(f"equally good runs with p < 0.05: {highest:.1%} at most")  # noqa: T201
    return int(lowest < MIN_COVERAGE or highest > MAX_FALSE)


def _accuracy_table(source: random.Random, runs: int) -> Iterator[tuple[str, float]]:
    """Return the lines of the table and their coverages."""
    yield "accuracy: coverage of the 95 % interval, per cent (mean width)", 1.0
    yield f"{'videos':22}{'effective':>10}{'right':>7}{'icc':>6}{'usual':>17}{'ours':>17}", 1.0
    for name, sizes in SIZES.items():
        for chance in (0.5, 0.9):
            for correlation in (0.0, 0.1, 0.4) if max(sizes) > 1 else (0.0,):
                line, covered = _accuracies(source, sizes, chance, correlation, runs)
                yield f"{name:22}{line}", covered


def _pair_table(source: random.Random, runs: int) -> Iterator[tuple[str, float]]:
    """Return the lines of the table and their shares of p below 0.05."""
    yield "\nequally good runs: how often p < 0.05, and how often there is a p, per cent", 0.0
    heads = f"{'McNemar':>10}{'usual':>8}{'ours':>8}{'shown':>8}"
    yield f"{'videos':22}{'effective':>10}{'differ':>7}{'icc':>6}{heads}", 0.0
    for name, sizes in (FEW | SIZES).items():
        for differ in (0.1, 0.3, 0.9):
            for correlation in (0.0, 0.4) if max(sizes) > 1 else (0.0,):
                line, false = _pairs(source, sizes, differ, correlation, runs)
                yield f"{name:22}{line}", false


def _accuracies(
    source: random.Random, sizes: list[int], chance: float, correlation: float, runs: int
) -> tuple[str, float]:
    videos = _videos(sizes)
    covered, usual, widths, usual_widths = 0, 0, 0.0, 0.0
    for _ in range(runs):
        chances = list(_chances(source, len(sizes), chance, correlation))
        correct = [
            source.random() < one
            for one, size in zip(chances, sizes, strict=True)
            for _ in range(size)
        ]
        share = accuracy(correct, videos)
        assert share.low is not None
        assert share.high is not None
        covered += share.low <= chance <= share.high
        widths += share.high - share.low
        low, high = _usual(correct, sizes)
        usual += low <= chance <= high
        usual_widths += high - low
    effective = clustered_mean([0] * len(videos), videos).effective_clusters
    return (
        f"{effective:10.1f}{chance:7}{correlation:6}"
        f"{100 * usual / runs:9.1f} ({usual_widths / runs:.2f}) "
        f"{100 * covered / runs:9.1f} ({widths / runs:.2f}) "
    ), covered / runs


def _pairs(
    source: random.Random, sizes: list[int], differ: float, correlation: float, runs: int
) -> tuple[str, float]:
    videos = _videos(sizes)
    counts = dict.fromkeys(("mcnemar", "usual", "ours", "shown"), 0)
    for _ in range(runs):
        first, second = [], []
        for chance, size in zip(_chances(source, len(sizes), 0.5, correlation), sizes, strict=True):
            for _ in range(size):
                better = source.random() < chance
                apart = source.random() < differ
                first.append(better if apart else True)
                second.append(not better if apart else True)
        pair = compare_pairs(first, second, videos)
        counts["mcnemar"] += pair.mcnemar_p < 0.05
        counts["usual"] += _usual_p(first, second, sizes) < 0.05
        counts["shown"] += pair.p is not None
        counts["ours"] += pair.p is not None and pair.p < 0.05
    effective = clustered_mean([0] * len(videos), videos).effective_clusters
    shares = {name: 100 * count / runs for name, count in counts.items()}
    return (
        f"{effective:10.1f}{differ:7}{correlation:6}{shares['mcnemar']:10.1f}{shares['usual']:8.1f}"
        f"{shares['ours']:8.1f}{shares['shown']:8.0f}"
    ), counts["ours"] / runs


def _videos(sizes: list[int]) -> list[str]:
    return [str(video) for video, size in enumerate(sizes) for _ in range(size)]


def _chances(
    source: random.Random, videos: int, chance: float, correlation: float
) -> Iterator[float]:
    for _ in range(videos):
        if not correlation:
            yield chance
        else:
            both = (1 - correlation) / correlation
            yield source.betavariate(chance * both, (1 - chance) * both)


def _usual_error(values: Sequence[int], sizes: list[int]) -> tuple[float, float]:
    """Return the mean and its standard error with the correction G/(G-1)."""
    mean, squares, at = sum(values) / len(values), 0.0, 0
    for size in sizes:
        squares += (sum(values[at : at + size]) - mean * size) ** 2
        at += size
    return mean, math.sqrt(len(sizes) / (len(sizes) - 1) * squares) / len(values)


def _usual(correct: Sequence[bool], sizes: list[int]) -> tuple[float, float]:
    share, error = _usual_error(correct, sizes)
    spread = share * (1 - share)
    draws = min(len(correct), spread / error**2) if error and spread else len(sizes)
    t = _quantile(len(sizes) - 1)
    middle = (share + t * t / (2 * draws)) / (1 + t * t / draws)
    half = t / (1 + t * t / draws) * math.sqrt(spread / draws + t * t / (4 * draws * draws))
    return middle - half, middle + half + 1e-12


def _usual_p(first: Sequence[bool], second: Sequence[bool], sizes: list[int]) -> float:
    mean, error = _usual_error([a - b for a, b in zip(first, second, strict=True)], sizes)
    return student_p(abs(mean) / error, len(sizes) - 1) if error > 1e-12 else 1.0


_known: dict[int, float] = {}


def _quantile(degrees: int) -> float:
    return _known.setdefault(degrees, student_t(0.975, degrees))


if __name__ == "__main__":
    sys.exit(main())
