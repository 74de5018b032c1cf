"""Scores of samples: loss and teacher-forced exact match, by kind."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from smolvideo.tune.network import TuningNetwork
from smolvideo.tune.samples import Sample

ALL = "all"
_TOKENS_PER_BATCH = 2048
"""Without gradients nothing is kept, so that batches of short samples can be larger."""
MAX_SCORED = 128
"""Samples of each role that are scored during a run; the first ones by the seed's order."""


@dataclass(frozen=True)
class Score:
    """``loss`` is the mean negative log-probability of a token in nats; ``exact`` the share of
    answers of which every token is the most likely one after the right ones before it: greedy
    decoding then generates exactly this answer."""

    loss: float
    exact: float
    count: int

    @property
    def quality(self) -> float:
        """Mean of exact match and of the geometric mean probability of a token, 0 to 1: the former
        alone stays 0 for long answers, whose wording may vary."""
        return (self.exact + math.exp(-self.loss)) / 2


@torch.no_grad()
def score_samples(
    network: TuningNetwork, samples: Sequence[Sample], *, grey_row: int | None = None
) -> dict[str, Score]:
    """Score ``samples`` by kind, and ``all`` of them; empty for none. ``grey_row``: see ``pad``."""
    network.train(training=False)
    totals: dict[str, list[float]] = {}
    for batch in sorted_batches(samples):
        logits, targets, owners = network.logits(batch, grey_row=grey_row)
        losses = F.cross_entropy(logits, targets, reduction="none")
        wrong = logits.argmax(-1) != targets
        for place, sample in enumerate(batch):
            mine = owners == place
            facts = (
                float(losses[mine].sum()),
                int(mine.sum()),
                float(not bool(wrong[mine].any())),
                1,
            )
            for group in {ALL, sample.kind or ALL}:
                known = totals.setdefault(group, [0.0, 0, 0.0, 0])
                totals[group] = [a + b for a, b in zip(known, facts, strict=True)]
    return {
        group: Score(loss / max(1, tokens), exact / count, int(count))
        for group, (loss, tokens, exact, count) in sorted(totals.items())
    }


def sorted_batches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Yield all samples in batches of about one length, the longest first."""
    ordered = sorted(samples, key=lambda sample: len(sample.token_ids))
    while ordered:
        size = max(1, _TOKENS_PER_BATCH // len(ordered[-1].token_ids))
        yield ordered[-size:]
        del ordered[-size:]
