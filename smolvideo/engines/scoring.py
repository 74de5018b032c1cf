"""Log-likelihood of given answers to a prompt, for every engine."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from smolvideo.engines.generate import check_context
from smolvideo.engines.token_sampler import no_numbers
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint
from smolvideo.prompt import Prompt, answer_ids

if TYPE_CHECKING:
    import torch

ReadPrompt = Callable[[], "torch.Tensor"]
"""Prefill the prompt; return the logits [vocabulary] of the next token."""

ReadAnswer = Callable[[Sequence[int]], "torch.Tensor"]
"""Return the logits [L, vocabulary] after each of L tokens that follow the prompt; the cache is
left unchanged."""


def log_probabilities(
    checkpoint: Checkpoint,
    prompt: Prompt,
    answers: Sequence[str],
    *,
    with_end: bool,
    read_prompt: ReadPrompt,
    read_answer: ReadAnswer,
) -> list[float]:
    """Return the log-likelihood (natural logarithm) of each of ``answers``; see
    ``Engine.score``."""
    if isinstance(answers, str):  # each of its characters would be scored as an answer
        raise UsageError(f"answers to score must be several texts, not one: {answers!r}")
    answers = list(answers)
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise UsageError(f"answers to score must be one text or more in a list, not {answers!r}")
    all_ids = [answer_ids(prompt, answer, checkpoint) for answer in answers]
    check_context(prompt, checkpoint, max(map(len, all_ids)) + with_end)
    first = read_prompt()
    ends = checkpoint.eos_token_ids if with_end else ()
    return [_log_probability(token_ids, ends, first, read_answer) for token_ids in all_ids]


def _log_probability(
    token_ids: Sequence[int],
    ends: Sequence[int],
    first: "torch.Tensor",
    read_answer: ReadAnswer,
) -> float:
    """Log-likelihood of ``token_ids`` in sequence, and then of any one of ``ends`` if there are."""
    import torch

    rows = first[None]
    to_read = token_ids if ends else token_ids[:-1]
    if to_read:
        rows = torch.cat((rows, read_answer(to_read)))
    rows = rows.float().log_softmax(-1)
    wanted = torch.tensor(token_ids, device=rows.device)[:, None]
    total = rows[: len(token_ids)].gather(1, wanted).double().sum()
    if ends:
        total += rows[-1, list(ends)].double().logsumexp(0)
    if not math.isfinite(total):
        raise no_numbers(first)
    return float(total)
