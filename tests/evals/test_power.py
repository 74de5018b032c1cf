"""Power of a paired comparison, against its simulation."""

import random

import pytest

from smolvideo.evals.power import POWER, detectable_difference, questions_needed
from smolvideo.evals.report_text import _power_lines
from smolvideo.evals.statistics import PairedComparison, compare_pairs


def sample(questions: int, better: float, seed: int) -> PairedComparison:
    """Two runs, one question per video; the first is right in ``better`` more of the cases."""
    chance = random.Random(seed)
    draws = [(chance.random(), chance.random()) for _ in range(questions)]
    first, second = [a < 0.6 for a, _ in draws], [b < 0.6 - better for _, b in draws]
    return compare_pairs(first, second, [str(number) for number in range(questions)])


def test_questions_needed_find_the_difference_as_often_as_stated() -> None:
    pilot = sample(2_000, 0.2, 0)
    needed = questions_needed(pilot)
    assert needed is not None
    assert 70 < needed < 125
    found = [sample(needed, 0.2, seed).p for seed in range(1, 151)]
    share = sum(p is not None and p < 0.05 for p in found) / len(found)
    assert share == pytest.approx(POWER, abs=0.12), "p is the largest of three, so a bit below"


def test_detectable_difference_needs_exactly_these_questions() -> None:
    pair = sample(400, 0.1, 3)
    shown = detectable_difference(pair)
    needed = questions_needed(pair)
    assert shown is not None
    assert needed == pytest.approx(400 * (shown / pair.difference) ** 2, abs=1)


def test_comparison_without_error_says_nothing_of_power() -> None:
    same = compare_pairs([True] * 9, [True] * 9, list("abcdefghi"))
    few = compare_pairs([True, False], [False, False], ["a", "b"])
    for pair in (same, few):
        assert (detectable_difference(pair), questions_needed(pair)) == (None, None)
        assert _power_lines(pair) == []
