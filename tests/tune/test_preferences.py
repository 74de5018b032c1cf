"""DPO over the prepared features."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.newwords import write_pairs

from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint
from smolvideo.tune.items import read_items
from smolvideo.tune.network import TuningNetwork
from smolvideo.tune.options import TuneOptions
from smolvideo.tune.preferences import (
    PreferenceOptions,
    PreferenceTraining,
    answer_log_probs,
    dpo_loss,
    pairs_of,
)
from smolvideo.tune.run import TuneRequest, open_folder, prepare_samples, tune
from smolvideo.tune.samples import SampleSet

OPTIONS = TuneOptions(
    steps=3, batch_size=4, rank=4, dropout=0.0, held_out=0.3, max_frames=2, rehearse_share=0.0
)


@pytest.fixture(scope="module")
def request_of_pairs(tmp_path_factory: pytest.TempPathFactory, nano: Checkpoint) -> TuneRequest:
    folder = tmp_path_factory.mktemp("pairs")
    items = read_items(write_pairs(folder, clips=5, size=48), pairs=True)
    return TuneRequest(items, nano, OPTIONS, folder / "out", preferences=PreferenceOptions())


@pytest.fixture(scope="module")
def pairs(request_of_pairs: TuneRequest) -> SampleSet:
    with open_folder(request_of_pairs) as facts:
        return prepare_samples(request_of_pairs, facts, lambda _: None)


def test_pairs_share_prompt_and_frames(pairs: SampleSet) -> None:
    for chosen, rejected in pairs_of(pairs, "train"):
        assert (chosen.kind, rejected.kind) == ("chosen", "rejected")
        assert chosen.line == rejected.line
        assert chosen.frames == rejected.frames
        start = len(chosen.token_ids) - chosen.num_targets + 1
        assert chosen.token_ids[:start] == rejected.token_ids[:start]


@given(st.lists(st.floats(-40, 0), min_size=4, max_size=4), st.floats(0.01, 2))
def test_loss_is_that_of_the_paper(logs: list[float], beta: float) -> None:
    chosen, rejected, base_chosen, base_rejected = logs
    margin = beta * ((chosen - base_chosen) - (rejected - base_rejected))
    expected = math.log1p(math.exp(-abs(margin))) + max(0.0, -margin)
    a, b, c, d = (torch.tensor([one], dtype=torch.float64) for one in logs)
    found = dpo_loss(a, b, c, d, beta)
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@torch.no_grad()
def test_log_probability_is_the_sum_over_the_answer(pairs: SampleSet, nano: Checkpoint) -> None:
    network = TuningNetwork(nano, OPTIONS, pairs.features, dtype="float32")
    network.train(training=False)
    both = list(pairs_of(pairs, "train")[0])
    together = answer_log_probs(network, both)
    for sample, value in zip(both, together, strict=True):
        logits, targets, _ = network.logits([sample])
        expected = logits.log_softmax(-1).gather(1, targets[:, None]).sum()
        assert float(value) == pytest.approx(float(expected), abs=1e-3)


def test_first_loss_is_log_two_and_training_prefers_the_chosen(
    request_of_pairs: TuneRequest, pairs: SampleSet, tmp_path: Path
) -> None:
    del pairs  # prepared in the run's folder
    first = tune(request_of_pairs)
    points = first.course.curve
    # The untrained adapter is the untuned model: no margin.
    assert points[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert points[-1]["loss"] < points[0]["loss"]
    scores = first.course.evaluations[-1]["scores"]
    assert scores["held-out"]["all"]["count"] == scores["rejected"]["all"]["count"] > 0
    again = tune(request_of_pairs)  # finished
    assert again.course.curve == points


def test_gradients_are_those_of_the_loss(pairs: SampleSet, nano: Checkpoint) -> None:
    """In parts of two answers as in one."""
    found = []
    for micro in (2, 16):
        options = TuneOptions(**{**OPTIONS.__dict__, "micro_batch": micro})
        network = TuningNetwork(nano, options, pairs.features, dtype="float32")
        training = PreferenceTraining(
            Path("unused"),
            network,
            pairs,
            options,
            preferences=PreferenceOptions(answer_weight=0.5),
            facts="",
            write=lambda _: None,
        )
        network.train(training=True)
        loss = training._own_loss(training.own[:4], 1.0)
        found.append((loss, {name: one.grad for name, one in network.trainable.items()}))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"beta": math.inf}, {"answer_weight": -1}])
def test_invalid_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        PreferenceOptions(**wrong)
