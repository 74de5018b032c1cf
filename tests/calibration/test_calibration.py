"""Scales are fitted to labelled scores, judged on other videos, and kept for one checkpoint."""

import json
import math
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.calibration import (
    IDENTITY,
    Calibration,
    LabelledScores,
    Scale,
    cross_validated,
    fit_scale,
    keep_calibration,
    kept_calibration,
    reliability,
)
from smolvideo.errors import RecordError, UsageError
from smolvideo.models import Checkpoint, open_checkpoint

CHOICES = ("yes", "no")


def overconfident(
    count: int, *, slope: float, offset: float, kinds: int = 2
) -> list[LabelledScores]:
    """Return examples whose probabilities are right after ``Scale(slope, offset)``."""
    random = Random(7)
    examples = []
    for number in range(count):
        scores = tuple(random.gauss(0, 4) for _ in range(kinds))
        (label,) = random.choices(range(kinds), Scale(slope, offset).probabilities(scores))
        examples.append(LabelledScores(scores, label, number // 4))
    return examples


def likelihood(scale: Scale, examples: list[LabelledScores]) -> float:
    return sum(math.log(scale.probabilities(one.log_probabilities)[one.label]) for one in examples)


@pytest.mark.parametrize("kinds", [2, 3, 5])
def test_fit_finds_the_scale_that_made_the_labels(kinds: int) -> None:
    examples = overconfident(2000, slope=0.3, offset=1.2, kinds=kinds)
    scale = fit_scale(examples)
    assert scale.slope == pytest.approx(0.3, abs=0.05)
    assert scale.offset == pytest.approx(1.2, abs=0.3)


def test_fit_is_a_maximum() -> None:
    examples = overconfident(400, slope=0.5, offset=-0.7)
    scale = fit_scale(examples)
    # Smoothed targets move the maximum by less than this step.
    for slope, offset in ((0.1, 0), (-0.1, 0), (0, 0.4), (0, -0.4)):
        other = Scale(scale.slope + slope, scale.offset + offset)
        assert likelihood(other, examples) < likelihood(scale, examples)


def test_separable_examples_have_a_finite_scale() -> None:
    examples = [
        LabelledScores((9.0 * sign, 0.0), sign < 0, at) for at, sign in enumerate([1, -1] * 9)
    ]
    scale = fit_scale(examples)
    assert 0 < scale.slope < 10
    assert abs(scale.offset) < 10


def test_calibration_lowers_the_error_on_other_videos() -> None:
    examples = overconfident(800, slope=0.25, offset=1.0)
    labels = [example.label for example in examples]

    def ece(found: list[list[float]]) -> float:
        right = [p.index(max(p)) == label for p, label in zip(found, labels, strict=True)]
        return reliability([max(p) for p in found], right).ece

    before = ece([IDENTITY.probabilities(one.log_probabilities) for one in examples])
    assert before > 0.15
    assert ece(cross_validated(examples)) < 0.05


def test_cross_validation_never_sees_the_group_of_an_example(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = overconfident(60, slope=1, offset=0)
    seen: list[set[object]] = []

    def spy(part: list[LabelledScores]) -> Scale:
        seen.append({one.group for one in part})
        return IDENTITY

    monkeypatch.setattr("smolvideo.calibration.scale._fit", spy)
    assert len(cross_validated(examples)) == 60
    groups = {one.group for one in examples}
    held_out = [groups - part for part in seen]
    assert len(seen) == 5
    assert set.union(*map(set, held_out)) == groups
    assert sum(map(len, held_out)) == len(groups)


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([], "10 labelled questions or more"),
        ([LabelledScores((0.0, 1.0), 1)] * 12, "all labelled questions have the same answer"),
    ],
)
def test_too_few_examples_are_refused(examples: list[LabelledScores], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fit_scale(examples)


def test_examples_of_one_video_are_refused() -> None:
    with pytest.raises(UsageError, match="two videos or more"):
        cross_validated([LabelledScores((0.0, 1.0), at % 2, "one") for at in range(20)])


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_reliability_counts_each_prediction_once(
    predictions: list[tuple[float, bool]], bins: int
) -> None:
    confidences, right = [p for p, _ in predictions], [r for _, r in predictions]
    found = reliability(confidences, right, num_bins=bins)
    assert found.count == len(predictions)
    assert 0 <= found.ece <= 1
    for one in found.bins:
        assert one.count == 0 or one.low - 1e-9 <= one.confidence <= one.high + 1e-9
    by_hand = sum(one.count * abs(one.confidence - one.accuracy) for one in found.bins)
    assert found.ece == pytest.approx(by_hand / len(predictions))


def test_confidence_on_a_bound_is_in_the_lower_bin() -> None:
    found = reliability([0.5, 1.0, 0.0], [True, True, False], num_bins=2)
    assert [one.count for one in found.bins] == [2, 1]


@given(st.lists(st.floats(-700, 0), min_size=2, max_size=9), st.floats(-5, 5), st.floats(-9, 9))
def test_scaled_probabilities_are_probabilities(
    scores: list[float], slope: float, offset: float
) -> None:
    found = Scale(slope, offset).probabilities(scores)
    assert sum(found) == pytest.approx(1)
    assert all(0 <= p <= 1 for p in found)


@pytest.fixture
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setenv("SMOLVIDEO_DATA_DIR", str(tmp_path))
    return open_checkpoint("nano")


KEPT = Calibration(0.5, -0.25, 200, 40, 0.157, 0.026)


def test_calibration_is_kept_by_checkpoint_and_choices(nano: Checkpoint, tmp_path: Path) -> None:
    assert kept_calibration(nano, CHOICES) is None
    keep_calibration(nano, CHOICES, replace(KEPT, slope=9.0))
    keep_calibration(nano, CHOICES, KEPT)
    keep_calibration(nano, ("a", "b"), replace(KEPT, slope=2.0))
    assert kept_calibration(nano, ("Yes", "NO")) == KEPT
    assert kept_calibration(nano, ("no", "yes")) is None
    other = tmp_path / "other"
    other.mkdir()
    for file in nano.folder.glob("*.safetensors"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        (other / file.name).write_bytes(content)
    assert kept_calibration(replace(nano, folder=other), CHOICES) is None


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "3", '{"calibrations": 3}', '{"calibrations": [3]}', '{"calibrations": [[]]}'],
)
def test_damaged_file_is_an_error(content: str, nano: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "calibrations.json").write_text(content)
    with pytest.raises(RecordError, match="damaged"):
        kept_calibration(nano, CHOICES)


def test_damaged_entry_is_an_error(nano: Checkpoint, tmp_path: Path) -> None:
    file = keep_calibration(nano, CHOICES, KEPT)
    content = json.loads(file.read_text())
    content["calibrations"][0]["slope"] = "steep"
    file.write_text(json.dumps(content))
    with pytest.raises(RecordError, match="`slope`"):
        kept_calibration(nano, CHOICES)
