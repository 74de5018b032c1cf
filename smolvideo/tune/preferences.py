"""Alignment by pairs of a better and a worse answer: direct preference optimization over the
prepared features (DPO, arXiv 2305.18290).

    loss = −log σ(β · ((log p(chosen) − log p₀(chosen)) − (log p(rejected) − log p₀(rejected))))

p₀ is the untuned model: the same network without its adapter, whose log-probabilities are computed
once, before the first step. A sum of log-probabilities favours the shorter answer before anything
is trained, so a run is judged by greedy answers to held-out prompts: exact match with the chosen
and with the rejected one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from smolvideo.errors import RecordError, UsageError
from smolvideo.tune.network import TuningNetwork
from smolvideo.tune.samples import Role, Sample, SampleSet
from smolvideo.tune.scores import sorted_batches
from smolvideo.tune.training import Training, limit_scored, micro_batches

CHOSEN, REJECTED = "chosen", "rejected"


@dataclass(frozen=True)
class PreferenceOptions:
    """``beta`` holds the model to the untuned one; ``answer_weight`` times the loss of the chosen
    answer's tokens is added (arXiv 2404.19733), so that its own probability does not fall."""

    beta: float = 0.1
    answer_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise UsageError(f"beta must be above 0, not {self.beta}")
        if not 0 <= self.answer_weight < math.inf:
            raise UsageError(f"answer-weight must be 0 or more, not {self.answer_weight}")


@dataclass(frozen=True)
class Pair:
    """Two samples of one prompt, and the untuned model's log-probabilities of their answers."""

    chosen: Sample
    rejected: Sample
    base_chosen: float
    base_rejected: float


def dpo_loss(
    chosen: Tensor, rejected: Tensor, base_chosen: Tensor, base_rejected: Tensor, beta: float
) -> Tensor:
    """Mean loss of pairs from log-probabilities ``[B]`` of whole answers."""
    margins = (chosen - base_chosen) - (rejected - base_rejected)
    return -F.logsigmoid(beta * margins).mean()


def answer_log_probs(network: TuningNetwork, samples: Sequence[Sample]) -> Tensor:
    """Log-probability ``[B]`` of each sample's answer, the end of the turn included."""
    logits, targets, owners = network.logits(samples)
    tokens = -F.cross_entropy(logits, targets, reduction="none")
    return torch.zeros(len(samples), device=tokens.device).index_add(0, owners, tokens)


def pairs_of(samples: SampleSet, role: Role) -> list[tuple[Sample, Sample]]:
    """Chosen and rejected samples of each prompt, which were prepared one after the other."""
    found = samples.of(role)
    return list(zip(found[::2], found[1::2], strict=True))


class PreferenceTraining(Training):
    """A run on pairs."""

    def __init__(
        self,
        folder: Any,
        network: TuningNetwork,
        samples: SampleSet,
        options: Any,
        *,
        preferences: PreferenceOptions,
        **more: Any,
    ) -> None:
        super().__init__(folder, network, samples, options, **more)
        self.preferences = preferences
        trained, held = pairs_of(samples, "train"), pairs_of(samples, "held_out")
        if not trained:
            raise RecordError("there is no pair to train on")
        self.own = [chosen for chosen, _ in trained]
        self.scored = {
            "held-out": limit_scored([chosen for chosen, _ in held], options.seed),
            "rejected": limit_scored([rejected for _, rejected in held], options.seed),
            "rehearsal": [],
        }
        self.steps = options.total_steps(len(self.own))
        base = self._base_log_probs([sample for pair in trained for sample in pair])
        self._pairs = {
            id(chosen): Pair(chosen, rejected, base[id(chosen)], base[id(rejected)])
            for chosen, rejected in trained
        }

    @torch.no_grad()
    def _base_log_probs(self, samples: Sequence[Sample]) -> dict[int, float]:
        self.network.train(training=False)
        found = {}
        with self.network.base():
            for batch in sorted_batches(samples):
                for sample, value in zip(batch, answer_log_probs(self.network, batch), strict=True):
                    found[id(sample)] = float(value)
        return found

    def _own_loss(self, samples: Sequence[Sample], weight: float) -> float:
        """Add the gradients of the pairs whose chosen samples are ``samples``; return their mean
        loss."""
        total, count = 0.0, len(samples)
        tokens = sum(sample.num_targets for sample in samples)
        for chunk in micro_batches(samples, max(1, self.options.micro_batch // 2)):
            pairs = [self._pairs[id(sample)] for sample in chunk]
            both = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
            logs = answer_log_probs(self.network, both)
            chosen, rejected = logs.split(len(pairs))
            base = torch.tensor(
                [[pair.base_chosen for pair in pairs], [pair.base_rejected for pair in pairs]],
                device=logs.device,
            )
            loss = dpo_loss(chosen, rejected, base[0], base[1], self.preferences.beta)
            total += float(loss.detach()) * len(pairs)
            answers = -chosen.sum() / tokens
            share = loss * (len(pairs) / count) + self.preferences.answer_weight * answers
            (weight * share).backward()
        return total / count
