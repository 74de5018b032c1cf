"""Intervals, bounds and tests, against computations by hand and published tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.evals.statistics import (
    Bounds,
    bounds,
    clustered_error,
    compare_pairs,
    mcnemar,
    share_right,
    student_t,
)

CORRECT = [True, True, False, True, False, False]
VIDEOS = ["a", "a", "a", "b", "b", "c"]


def test_clustered_error_by_hand() -> None:
    # Mean 1/2. Residuals by video: a: .5+.5-.5 = .5; b: .5-.5 = 0; c: -.5. Sum of squares .5.
    # Times G/(G-1) = 3/2, root, over n = 6.
    expected = math.sqrt(1.5 * 0.5) / 6
    assert clustered_error([1, 1, 0, 1, 0, 0], VIDEOS) == pytest.approx(expected)
    share = share_right(CORRECT, VIDEOS)
    assert (share.right, share.answered, share.videos) == (3, 6, 3)
    assert share.standard_error == pytest.approx(expected)


def test_one_question_a_video_is_the_ordinary_error() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 0.0]
    mean = sum(values) / 5
    ordinary = math.sqrt(sum((x - mean) ** 2 for x in values) / 4 / 5)
    assert clustered_error(values, list("abcde")) == pytest.approx(ordinary)


def test_copies_of_a_question_bring_no_certainty() -> None:
    once = share_right([True, False, True, True], list("abcd"))
    often = share_right([True, False, True, True] * 10, list("abcd") * 10)
    assert often.standard_error == pytest.approx(once.standard_error)
    assert once.low is not None
    assert often.low is not None
    assert often.low <= once.low + 0.02


def test_interval_by_hand() -> None:
    # p = .5, error^2 = .75/36 -> .25/.0208 = 12 draws, but there are six questions: 6 draws.
    t = 4.302652729911275  # Student's t, 2 degrees, .975
    middle = (0.5 + t**2 / 12) / (1 + t**2 / 6)
    half = t / (1 + t**2 / 6) * math.sqrt(0.25 / 6 + t**2 / (4 * 36))
    share = share_right(CORRECT, VIDEOS)
    assert share.low == pytest.approx(middle - half)
    assert share.high == pytest.approx(middle + half)


def test_all_right_is_not_certain() -> None:
    share = share_right([True] * 10, list("aabbccddee"))
    assert share.value == 1.0
    assert share.high == 1.0
    assert share.low is not None
    assert 0.3 < share.low < 0.7


def test_too_little_for_an_interval() -> None:
    assert share_right([], []).value is None
    one = share_right([True, False], ["a", "a"])
    assert (one.value, one.low, one.high) == (0.5, None, None)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (199, 1.972)],
)
def test_student_as_in_the_tables(degrees: int, quantile: float) -> None:
    assert student_t(0.975, degrees) == pytest.approx(quantile, abs=6e-5)


def test_student_ends_as_the_normal() -> None:
    assert student_t(0.975, 5000) == pytest.approx(1.959964, abs=1e-5)
    assert student_t(0.975, 2000) == pytest.approx(1.9612, abs=1e-4)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), min_size=2, max_size=60))
def test_the_interval_holds_the_share(pairs: list[tuple[bool, str]]) -> None:
    share = share_right([right for right, _ in pairs], [video for _, video in pairs])
    if share.low is None:
        assert share.videos < 2
        return
    assert share.value is not None
    assert share.high is not None
    assert 0 <= share.low <= share.value + 1e-9
    assert share.value - 1e-9 <= share.high <= 1


def test_bounds() -> None:
    assert bounds(30, 60, 100) == Bounds(0.30, 0.70)
    assert bounds(0, 0, 0) is None


def test_mcnemar_by_hand() -> None:
    # 6 discordant pairs, 1 against 5: 2 * (1 + 6) / 64.
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(14 / 64)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(0, 2000) < 1e-100


def test_pairs_by_hand() -> None:
    first = [True, True, True, False, True, False]
    second = [True, False, False, False, True, True]
    videos = ["a", "a", "b", "b", "c", "c"]
    pair = compare_pairs(first, second, videos)
    assert (pair.only_first, pair.only_second, pair.questions, pair.videos) == (2, 1, 6, 3)
    assert pair.difference == pytest.approx(1 / 6)
    # Differences 0 1 1 0 0 -1, mean 1/6; sums by video less 2/6: 2/3, 2/3, -4/3.
    error = math.sqrt(1.5 * (4 / 9 + 4 / 9 + 16 / 9)) / 6
    assert pair.standard_error == pytest.approx(error)
    assert pair.high == 1.0, "1/6 + 4.3 errors is more than there can be"
    # Two degrees of freedom: P(|T| > t) = 1 - t / sqrt(2 + t^2).
    t = (1 / 6) / error
    assert pair.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert pair.mcnemar_p == 1.0


def test_the_interval_of_a_difference_by_hand() -> None:
    first = [True, True, True, False, True, False] * 6
    second = [True, False, False, False, True, True] * 6
    pair = compare_pairs(first, second, [str(place // 2) for place in range(36)])
    # As above six times over: squares 6 * 24/9, 18 videos, 36 questions; t with 17 degrees.
    error = math.sqrt(18 / 17 * 16) / 36
    assert pair.standard_error == pytest.approx(error)
    assert pair.low == pytest.approx(1 / 6 - 2.1098156 * error)
    assert pair.high == pytest.approx(1 / 6 + 2.1098156 * error)


def test_pairs_that_all_agree() -> None:
    same = compare_pairs([True, False], [True, False], ["a", "b"])
    assert (same.p, same.low, same.high) == (1.0, 0.0, 0.0)
    better = compare_pairs([True, True], [False, False], ["a", "b"])
    assert better.p == 0.0
    assert compare_pairs([True], [False], ["a"]).p is None
