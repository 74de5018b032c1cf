"""Token sampling compared with the logits processors of transformers."""

import pytest
import torch
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from smolvideo.engines import GenerationOptions
from smolvideo.engines.token_sampler import TokenSampler
from smolvideo.errors import UsageError


def scores(seed: int = 0, vocabulary: int = 50) -> torch.Tensor:
    return torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("prompt_ids", [(), (3, 7, 7, 12)])
def test_greedy_takes_the_argmax(prompt_ids: tuple[int, ...]) -> None:
    assert TokenSampler(GenerationOptions(), prompt_ids).sample(scores()) == int(scores().argmax())


@pytest.mark.parametrize("penalty", [1.7, 2.0, 0.8, 1.01])
def test_repetition_penalty_equals_transformers(penalty: float) -> None:
    processor = RepetitionPenaltyLogitsProcessor(penalty=penalty)
    chooser = TokenSampler(GenerationOptions(repetition_penalty=penalty), (3, 7))
    seen, chosen = [3, 7], []
    for step in range(30):
        expected = processor(torch.tensor([seen]), scores(step % 3)[None].clone())
        token_id = chooser.sample(scores(step % 3))
        assert token_id == int(expected.argmax())
        seen.append(token_id)
        chosen.append(token_id)
    # Without a penalty there are three different tokens, and with a reward fewer.
    assert len(set(chosen)) > 3 or penalty < 1.5


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (2.0, 0.5), (0.3, 0.2)])
def test_sampled_tokens_follow_the_distribution_of_transformers(
    temperature: float, top_p: float
) -> None:
    logits = scores(5, vocabulary=12)
    warped = TemperatureLogitsWarper(temperature)(torch.tensor([[]]), logits[None])
    expected = TopPLogitsWarper(top_p)(torch.tensor([[]]), warped).softmax(-1)[0]
    chooser = TokenSampler(GenerationOptions(temperature=temperature, top_p=top_p, seed=1), ())
    draws = torch.bincount(
        torch.tensor([chooser.sample(logits) for _ in range(3000)]), minlength=12
    )
    assert bool((draws[expected == 0] == 0).all())
    assert (draws / 3000 - expected).abs().max() < 0.03


def test_sampling_is_determined_by_the_seed() -> None:
    def drawn(seed: int | None) -> list[int]:
        chooser = TokenSampler(GenerationOptions(temperature=1.5, seed=seed), ())
        return [chooser.sample(scores(step)) for step in range(30)]

    assert drawn(4) == drawn(4)
    assert drawn(4) != drawn(5)
    assert drawn(None) != drawn(None)


def test_sampling_leaves_the_global_random_state_unchanged() -> None:
    before = torch.get_rng_state()
    TokenSampler(GenerationOptions(temperature=1.0), ()).sample(scores())
    assert torch.equal(before, torch.get_rng_state())


def test_a_tiny_temperature_is_greedy() -> None:
    chooser = TokenSampler(GenerationOptions(temperature=1e-300, seed=0), ())
    assert chooser.sample(scores()) == int(scores().argmax())


def test_smallest_positive_temperature_is_greedy() -> None:
    """Logits are divided by it: without subtracting the maximum first they overflow."""
    chooser = TokenSampler(GenerationOptions(temperature=1e-308, seed=0), ())
    assert chooser.sample(scores() + 100) == int(scores().argmax())
    assert chooser.sample(scores() - 100) == int(scores().argmax())


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": float("nan")},
        {"max_new_tokens": 2.5},
        {"seed": 1.5},
        {"stop": "end"},
        {"stop": ["a", "b"]},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"repetition_penalty": 0.0},
        {"seed": -1},
        {"stop": ("",)},
    ],
)
def test_invalid_options_are_usage_errors(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=name.split("_")[0]):
        GenerationOptions(**wrong)  # type: ignore[arg-type]


def test_random_seed_is_chosen_only_when_sampling() -> None:
    assert GenerationOptions().with_drawn_seed().seed is None
    assert GenerationOptions(temperature=1.0, seed=3).with_drawn_seed().seed == 3
    drawn = GenerationOptions(temperature=1.0).with_drawn_seed()
    assert drawn.seed is not None
    assert drawn.with_drawn_seed() == drawn
