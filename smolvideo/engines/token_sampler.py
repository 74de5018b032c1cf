"""Choice of the next token from logits: greedy, or sampled with top-p and a repetition penalty."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smolvideo.engines.base import GenerationOptions
from smolvideo.errors import ModelError

if TYPE_CHECKING:
    import torch


class TokenSampler:
    """Sample tokens one by one; the same seed gives the same tokens.

    Sampling happens on the CPU in float32, whatever the network runs on, with a generator of its
    own: torch's global random state is neither read nor changed.
    """

    def __init__(self, generation: GenerationOptions, prompt_ids: Sequence[int]) -> None:
        import torch

        self._generation = generation.with_drawn_seed()
        self._seen = torch.tensor(sorted(set(prompt_ids)), dtype=torch.long)
        self._random = torch.Generator().manual_seed(self._generation.seed or 0)

    def sample(self, logits: "torch.Tensor") -> int:
        """Sample the next token id from ``logits`` [vocabulary]."""
        options = self._generation
        if options.is_greedy and options.repetition_penalty == 1:
            return argmax(logits)
        scores = self._apply_repetition_penalty(logits.float().cpu())
        token_id = argmax(scores) if options.is_greedy else self._sample_top_p(scores)
        self._see(token_id)
        return token_id

    def _apply_repetition_penalty(self, scores: "torch.Tensor") -> "torch.Tensor":
        """Divide positive and multiply negative logits of tokens seen so far by the repetition
        penalty."""
        import torch

        penalty = self._generation.repetition_penalty
        if penalty == 1:
            return scores
        seen = scores[self._seen]
        scores = scores.clone()
        scores[self._seen] = torch.where(seen < 0, seen * penalty, seen / penalty)
        return scores

    def _sample_top_p(self, scores: "torch.Tensor") -> int:
        """Sample an id from the smallest set of likely tokens whose probabilities reach
        ``top_p``."""
        import torch

        scores = scores.double() - scores.max()  # a tiny temperature must not overflow
        probabilities, ids = (
            (scores / self._generation.temperature).softmax(-1).sort(descending=True, stable=True)
        )
        reached_before = probabilities.cumsum(-1) - probabilities
        probabilities[reached_before >= self._generation.top_p] = 0.0
        drawn = torch.multinomial(probabilities, 1, generator=self._random)
        return int(ids[drawn])

    def _see(self, token_id: int) -> None:
        """Add ``token_id`` to the tokens that the repetition penalty applies to."""
        import torch

        if token_id not in self._seen:
            self._seen = torch.cat([self._seen, torch.tensor([token_id])])


def argmax(scores: "torch.Tensor") -> int:
    """Return the index of the first maximum, or of the first NaN if there is one.

    On a CPU by numpy: torch shares even this among threads, which then spin for more work while the
    next token needs their core. A token of 256M took a fifth longer.
    """
    if scores.device.type == "cpu":
        return int(scores.float().numpy().argmax())
    return int(scores.float().argmax())


def check_logits(logits: "torch.Tensor") -> None:
    """Raise ModelError where the argmax of ``logits`` [vocabulary] is infinite or NaN.

    Reading it also waits for a GPU, so that its failures surface here.
    """
    if not math.isfinite(logits[argmax(logits)]):  # argmax returns the NaN if there is one
        raise no_numbers(logits)


def no_numbers(logits: "torch.Tensor") -> ModelError:
    """Make the error for logits that are infinite or NaN."""
    return ModelError(
        f"`{logits.device}` computed no numbers, but NaN or infinity",
        hint="run with `--dtype float32`, or check the weights",
    )
