"""Which token comes next: the likeliest, or one drawn at random."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smolvideo.engines.base import GenerationOptions
from smolvideo.errors import ModelError

if TYPE_CHECKING:
    import torch


class TokenSampler:
    """Chooses tokens one after the other; the same seed gives the same choices.

    Drawing happens on the CPU in float32, whatever the network runs on, with a generator of its
    own: torch's global random state is neither read nor changed.
    """

    def __init__(self, generation: GenerationOptions, prompt_ids: Sequence[int]) -> None:
        import torch

        self._generation = generation.with_drawn_seed()
        self._seen = torch.tensor(sorted(set(prompt_ids)), dtype=torch.long)
        self._random = torch.Generator().manual_seed(self._generation.seed or 0)

    def sample(self, logits: "torch.Tensor") -> int:
        """The id after those seen so far, by ``logits`` [vocabulary]."""
        options = self._generation
        if options.is_greedy and options.repetition_penalty == 1:
            return argmax(logits)
        scores = self._apply_repetition_penalty(logits.float().cpu())
        token_id = argmax(scores) if options.is_greedy else self._sample_top_p(scores)
        self._see(token_id)
        return token_id

    def _apply_repetition_penalty(self, scores: "torch.Tensor") -> "torch.Tensor":
        """Scores with the repetition penalty: positive ones divided, negative ones multiplied."""
        import torch

        penalty = self._generation.repetition_penalty
        if penalty == 1:
            return scores
        seen = scores[self._seen]
        scores = scores.clone()
        scores[self._seen] = torch.where(seen < 0, seen * penalty, seen / penalty)
        return scores

    def _sample_top_p(self, scores: "torch.Tensor") -> int:
        """One id, drawn from the fewest likely ones whose probabilities reach ``top_p``."""
        import torch

        scores = scores.double() - scores.max()  # a tiny temperature must not give infinities
        probabilities, ids = (
            (scores / self._generation.temperature).softmax(-1).sort(descending=True, stable=True)
        )
        reached_before = probabilities.cumsum(-1) - probabilities
        probabilities[reached_before >= self._generation.top_p] = 0.0
        drawn = torch.multinomial(probabilities, 1, generator=self._random)
        return int(ids[drawn])

    def _see(self, token_id: int) -> None:
        import torch

        if token_id not in self._seen:
            self._seen = torch.cat([self._seen, torch.tensor([token_id])])


def argmax(scores: "torch.Tensor") -> int:
    """The first of the highest, which is the first that is no number where one is not.

    On a CPU by numpy: torch shares even this among threads, which then look out for more while the
    next token needs their core. A token of 256M took a fifth longer.
    """
    if scores.device.type == "cpu":
        return int(scores.float().numpy().argmax())
    return int(scores.float().argmax())


def check_logits(logits: "torch.Tensor") -> None:
    """Raise ModelError where the likeliest of ``logits`` [vocabulary] is infinite or no number.

    Asking also waits for a GPU, so that it fails here.
    """
    if not math.isfinite(logits[argmax(logits)]):  # of numbers and no numbers that is none
        raise no_numbers(logits)


def no_numbers(logits: "torch.Tensor") -> ModelError:
    """The error for logits that are infinite or no numbers."""
    dtype = str(logits.dtype).removeprefix("torch.")
    return ModelError(
        f"`{logits.device}` computed no numbers in {dtype}, but NaN or infinity",
        hint="run with `--dtype float32`, or check the weights",
    )
