"""Confidence intervals, bounds and tests, against values computed by hand and published tables."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.evals.statistics import (
    Bounds,
    accuracy,
    bounds,
    clustered_mean,
    compare_pairs,
    mcnemar,
    permutation_test,
    student_p,
    student_t,
)

CORRECT = [True, True, False, True, False, False]
VIDEOS = ["a", "a", "a", "b", "b", "c"]


def test_clustered_standard_error_by_hand() -> None:
    # Mean 1/2. Residuals by video: a: .5+.5-.5 = .5; b: .5-.5 = 0; c: -.5. Squares over 1 - n_g/n:
    # .25 / (1/2) + 0 + .25 / (5/6) = .8. Root, over n = 6.
    expected = math.sqrt(0.8) / 6
    assert clustered_mean([1, 1, 0, 1, 0, 0], VIDEOS).standard_error == pytest.approx(expected)
    share = accuracy(CORRECT, VIDEOS)
    assert (share.right, share.answered, share.videos) == (3, 6, 3)
    assert share.standard_error == pytest.approx(expected)
    assert share.effective_videos == pytest.approx(36 / (9 + 4 + 1))


def test_degrees_of_freedom_by_hand() -> None:
    # Independent values, shares 1/2, 1/3, 1/6: 1 over the sum of p^2 (14/36) and of p^2 p'^2 over
    # (1-p)(1-p') for each ordered pair, 2 (1/12 + 1/60 + 1/180): in all 0.6.
    mean = clustered_mean([1, 1, 0, 1, 0, 0], VIDEOS)
    assert mean.degrees == pytest.approx(1 / 0.6)


@pytest.mark.parametrize(
    ("values", "error", "degrees"),
    [
        # scipy.linalg's fractional power of the whole 30 x 30 matrices, by the definition of CR2;
        # the intraclass correlations, 0.0420382 and 0.5928636, from statsmodels' anova_lm.
        ("11111111111111000000 1010 110 00 1", 0.0914742079706, 1.5863521413763),
        ("11111111111111111100 0001 100 00 0", 0.2828704153049, 1.2547362422542),
    ],
)
def test_clustered_mean_with_one_dominant_cluster(
    values: str, error: float, degrees: float
) -> None:
    clusters = [name for name, part in zip("abcde", values.split(), strict=True) for _ in part]
    mean = clustered_mean([int(value) for value in values.replace(" ", "")], clusters)
    assert mean.standard_error == pytest.approx(error, rel=1e-10)
    assert mean.degrees == pytest.approx(degrees, rel=1e-10)
    assert mean.effective_clusters == pytest.approx(900 / (400 + 16 + 9 + 4 + 1))


@given(st.integers(2, 12), st.integers(1, 8), st.randoms(use_true_random=False))
def test_equal_clusters_give_the_usual_correction(count: int, size: int, random) -> None:  # type: ignore[no-untyped-def]
    values = [random.randint(-1, 1) for _ in range(count * size)]
    clusters = [str(place // size) for place in range(count * size)]
    mean = clustered_mean(values, clusters)
    sums = [sum(values[at : at + size]) - mean.mean * size for at in range(0, count * size, size)]
    usual = math.sqrt(count / (count - 1) * sum(one * one for one in sums)) / (count * size)
    assert mean.standard_error == pytest.approx(usual, abs=1e-12)
    assert mean.degrees == pytest.approx(count - 1)
    assert mean.effective_clusters == pytest.approx(count)


def test_one_question_per_video_gives_the_ordinary_error() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 0.0]
    mean = sum(values) / 5
    ordinary = math.sqrt(sum((x - mean) ** 2 for x in values) / 4 / 5)
    assert clustered_mean(values, list("abcde")).standard_error == pytest.approx(ordinary)


def test_copied_questions_do_not_narrow_the_interval() -> None:
    once = accuracy([True, False, True, True], list("abcd"))
    often = accuracy([True, False, True, True] * 10, list("abcd") * 10)
    assert often.standard_error == pytest.approx(once.standard_error)
    assert once.low is not None
    assert often.low is not None
    assert often.low <= once.low + 0.02


def test_accuracy_interval_by_hand() -> None:
    # p = .5, error^2 = .8/36 -> .25/.0222 = 11.25 draws, but there are six questions: 6 draws.
    t = 5.24226513058  # Student's t, 1 / 0.6 degrees, .975 (scipy.stats.t.ppf)
    middle = (0.5 + t**2 / 12) / (1 + t**2 / 6)
    half = t / (1 + t**2 / 6) * math.sqrt(0.25 / 6 + t**2 / (4 * 36))
    share = accuracy(CORRECT, VIDEOS)
    assert share.low == pytest.approx(middle - half)
    assert share.high == pytest.approx(middle + half)


def test_interval_of_all_correct_answers() -> None:
    share = accuracy([True] * 10, list("aabbccddee"))
    assert share.value == 1.0
    assert share.high == 1.0
    assert share.low is not None
    # Five draws of two questions each, Student's t with 4 degrees: G / (G + t^2).
    assert share.low == pytest.approx(5 / (5 + 2.7764451052**2))


@pytest.mark.parametrize("right", [True, False])
@given(st.lists(st.integers(1, 40), min_size=2, max_size=30))
def test_interval_of_all_or_no_correct_answers_ends_at_the_accuracy(
    right: bool, sizes: list[int]
) -> None:
    videos = [str(video) for video, size in enumerate(sizes) for _ in range(size)]
    share = accuracy([right] * len(videos), videos)
    assert (share.high if right else share.low) == share.value == float(right)
    assert share.standard_error == 0
    assert share.low is not None
    assert share.high is not None
    assert share.high - share.low > 0.05, "never a point, however many questions"


def test_too_few_values_give_no_interval() -> None:
    none = accuracy([], [])
    assert (none.value, none.low, none.effective_videos) == (None, None, None)
    one = accuracy([True, False], ["a", "a"])
    assert (one.value, one.low, one.high, one.effective_videos) == (0.5, None, None, 1.0)
    with pytest.raises(ValueError, match="no values"):
        clustered_mean([], [])


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (199, 1.972)],
)
def test_student_quantiles_equal_published_tables(degrees: int, quantile: float) -> None:
    assert student_t(0.975, degrees) == pytest.approx(quantile, abs=6e-5)


def test_student_converges_to_the_normal() -> None:
    assert student_t(0.975, 1e6) == pytest.approx(1.959966, abs=1e-6)
    assert student_t(0.975, 5000) == pytest.approx(1.960439, abs=1e-6)
    assert student_t(0.975, 2000) == pytest.approx(1.961151, abs=1e-6)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1.5, 6.016663104428), (3.25, 3.048339870187), (7.8, 2.316336868389)],
)
def test_student_with_fractional_degrees(degrees: float, quantile: float) -> None:
    # scipy.stats.t.ppf
    assert student_t(0.975, degrees) == pytest.approx(quantile, rel=1e-10)
    assert student_p(quantile, degrees) == pytest.approx(0.05, rel=1e-9)


def test_student_tails() -> None:
    # 2 * scipy.stats.t.sf: the far tail keeps its precision.
    assert student_p(2.5, 3.25) == pytest.approx(0.0812284979753, rel=1e-10)
    assert student_p(0.3, 1.5) == pytest.approx(0.8004721968036, rel=1e-10)
    assert student_p(9, 40.5) == pytest.approx(3.287744573228e-11, rel=1e-9)
    assert (student_p(0, 3), student_p(math.inf, 3)) == (1.0, 0.0)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), min_size=2, max_size=60))
def test_interval_contains_the_accuracy(pairs: list[tuple[bool, str]]) -> None:
    share = accuracy([right for right, _ in pairs], [video for _, video in pairs])
    if share.low is None:
        assert share.videos < 2
        return
    assert share.value is not None
    assert share.high is not None
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_accuracy_bounds() -> None:
    assert bounds(30, 60, 100) == Bounds(0.30, 0.70)
    assert bounds(0, 0, 0) is None


def test_mcnemar_by_hand() -> None:
    # 6 discordant pairs, 1 against 5: 2 * (1 + 6) / 64.
    assert mcnemar(1, 5) == mcnemar(5, 1) == pytest.approx(14 / 64)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(0, 2000) < 1e-100
    # scipy.stats.binomtest(9, 30).pvalue and (4900, 10000)
    assert mcnemar(9, 21) == pytest.approx(0.0427739452571, rel=1e-10)
    assert mcnemar(4900, 5100) == pytest.approx(0.0465855277049, rel=1e-10)


def test_paired_difference_by_hand() -> None:
    first = [True, True, True, False, True, False]
    second = [True, False, False, False, True, True]
    videos = ["a", "a", "b", "b", "c", "c"]
    pair = compare_pairs(first, second, videos)
    assert (pair.only_first, pair.only_second, pair.questions, pair.videos) == (2, 1, 6, 3)
    assert pair.difference == pytest.approx(1 / 6)
    # Differences 0 1 1 0 0 -1, mean 1/6; sums by video less 2/6: 2/3, 2/3, -4/3.
    error = math.sqrt(1.5 * (4 / 9 + 4 / 9 + 16 / 9)) / 6
    assert clustered_mean([0, 1, 1, 0, 0, -1], videos).standard_error == pytest.approx(error)
    # Three videos are too few for an interval.
    assert (pair.standard_error, pair.low, pair.high, pair.p) == (None, None, None, None)
    assert (pair.no_interval, pair.effective_videos) == ("too few videos", 3)
    assert pair.mcnemar_p == 1.0
    # Twice as many are enough: six videos, squares 2 * 24/9, five degrees of freedom.
    twice = compare_pairs(first * 2, second * 2, [*videos, *"ddeeff"])
    error = math.sqrt(6 / 5 * 16 / 3) / 12
    assert twice.standard_error == pytest.approx(error)
    assert student_p((1 / 6) / error, 5) == pytest.approx(0.4651, abs=1e-4)
    # Sums by video 1, 1, -1, twice: four against two, as McNemar's test has them.
    assert twice.p == permutation_test([0, 1, 1, 0, 0, -1] * 2, [*videos, *"ddeeff"]) == 0.6875
    assert twice.low == pytest.approx(1 / 6 - 2.5705818 * error)
    assert twice.no_interval is None


SEVEN = [True] * 6 + [False], [False] * 6 + [True]


def test_p_of_seven_videos_is_at_least_that_of_mcnemar() -> None:
    """t with six degrees of freedom has p = 0.047 here, and an interval without 0."""
    pair = compare_pairs(*SEVEN, "abcdefg")
    assert pair.p == pair.mcnemar_p == 16 / 128
    assert (pair.low, pair.high) == (0.0, 1.0)


def test_sign_flips_are_per_video() -> None:
    # Sums 2, 3 and -1: of eight signs, 2 + 3 + 1 and 2 + 3 - 1 are as far as 4 or farther.
    rows = [("a", 1), ("a", 1), ("b", 1), ("b", 1), ("b", 1), ("c", -1), ("d", 1), ("d", -1)]
    videos, differences = zip(*rows, strict=True)
    assert permutation_test(differences, videos) == 4 / 8


@given(st.lists(st.tuples(st.integers(-1, 1), st.sampled_from("abcdefg")), min_size=1, max_size=40))
def test_exact_permutation_p_counts_all_sign_choices(rows: list[tuple[int, str]]) -> None:
    sums = {video: sum(one for one, of in rows if of == video) for _, video in rows}
    seen = abs(sum(sums.values()))
    signs = list(product((1, -1), repeat=len(sums)))
    far = [
        abs(sum(sign * one for sign, one in zip(of, sums.values(), strict=True))) >= seen
        for of in signs
    ]
    found = permutation_test(*zip(*rows, strict=True))
    assert found == pytest.approx(sum(far) / len(signs), abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(1, 5), (9, 21), (300, 380), (40, 40), (0, 1)])
def test_permutation_of_single_questions_is_mcnemars_test(first: int, second: int) -> None:
    differences = [1] * first + [-1] * second
    videos = [str(place) for place in range(len(differences))]
    assert permutation_test(differences, videos) == pytest.approx(mcnemar(first, second), rel=1e-9)


def test_difference_interval_by_hand() -> None:
    first = [True, True, True, False, True, False] * 6
    second = [True, False, False, False, True, True] * 6
    pair = compare_pairs(first, second, [str(place // 2) for place in range(36)])
    # As above six times over: squares 6 * 24/9, 18 videos, 36 questions; t with 17 degrees.
    error = math.sqrt(18 / 17 * 16) / 36
    assert pair.standard_error == pytest.approx(error)
    assert pair.low == pytest.approx(1 / 6 - 2.1098156 * error)
    assert pair.high == pytest.approx(1 / 6 + 2.1098156 * error)


def test_identical_or_uniform_pairs_have_no_interval() -> None:
    same = compare_pairs([True, False], [True, False], ["a", "b"])
    assert (same.p, same.low, same.high, same.standard_error) == (None,) * 4
    assert (same.no_interval, same.mcnemar_p) == ("no difference", 1.0)
    better = compare_pairs([True, True], [False, False], ["a", "b"])
    assert (better.p, better.low, better.no_interval) == (None, None, "too few videos")
    assert better.mcnemar_p == 0.5
    everywhere = compare_pairs([True] * 30, [False] * 30, [str(place) for place in range(30)])
    assert (everywhere.p, everywhere.low, everywhere.no_interval) == (
        None,
        None,
        "same in every video",
    )
    assert everywhere.mcnemar_p == 2 / 2**30
    assert compare_pairs([True], [False], ["a"]).no_interval == "too few videos"
    with pytest.raises(ValueError, match="no values"):
        compare_pairs([], [], [])


def test_equal_difference_in_every_video_has_no_interval() -> None:
    # 1/3 is not exact in binary: the variance between videos must still be exactly zero.
    first = [True, True, False] * 7 + [True, True, True, True, False, False]
    second = [False, True, False] * 7 + [True, True, False, False, False, False]
    videos = [str(place // 3) for place in range(21)] + ["x"] * 6
    pair = compare_pairs(first, second, videos)
    assert (pair.no_interval, pair.p, pair.difference) == ("same in every video", None, 1 / 3)


@pytest.mark.parametrize(("videos", "few"), [(4, True), (5, False)])
def test_paired_interval_needs_enough_videos(videos: int, few: bool) -> None:
    first = [True] * 10 * videos
    second = [place % 10 < place // 10 for place in range(10 * videos)]
    pair = compare_pairs(first, second, [str(place // 10) for place in range(10 * videos)])
    assert (pair.no_interval == "too few videos") is few
    assert (pair.p is None) is few


def test_effective_videos_with_two_dominant_ones() -> None:
    # Two hundred questions in two videos, forty in forty: 240^2 / (2 * 100^2 + 40) = 2.87.
    videos = ["a"] * 100 + ["b"] * 100 + [str(place) for place in range(40)]
    first = [True] * 150 + [False] * 50 + [True, False] * 20
    pair = compare_pairs(first, [not one for one in first], videos)
    assert pair.effective_videos == pytest.approx(2.8742514970)
    assert pair.no_interval == "too few videos"


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from("abcdefgh")),
        min_size=1,
        max_size=60,
    )
)
def test_paired_comparison_is_complete_or_gives_a_reason(
    rows: list[tuple[bool, bool, str]],
) -> None:
    pair = compare_pairs(*(list(column) for column in zip(*rows, strict=True)))
    gone = [value is None for value in (pair.standard_error, pair.low, pair.high, pair.p)]
    assert set(gone) == {pair.no_interval is not None}
    assert 1 - 1e-9 <= pair.effective_videos <= pair.videos + 1e-9
    assert 0 <= pair.mcnemar_p <= 1
    if pair.low is not None and pair.high is not None and pair.p is not None:
        assert -1 <= pair.low <= pair.difference <= pair.high <= 1
        assert 0 <= pair.p <= 1
        if abs(pair.p - 0.05) > 1e-6:
            assert (pair.p < 0.05) == (pair.low > 0 or pair.high < 0)
        assert pair.p >= pair.mcnemar_p
    other = compare_pairs([b for _, b, _ in rows], [a for a, _, _ in rows], [v for *_, v in rows])
    assert (other.difference, other.p) == (-pair.difference, pair.p)
