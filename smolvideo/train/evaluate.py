"""Exact-match accuracy on held-out scenes by question type, with and without the images."""

from collections import Counter
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from smolvideo.network import SmolVLM
from smolvideo.train.packing import PackedBatch
from smolvideo.train.question_batches import make_video_batch
from smolvideo.train.schedule import QuestionMix
from smolvideo.train.tokenizer import special_id
from smolvideo.train.world.scene_sampler import Split

ASKING = QuestionMix(questions=16, choices=3, prompt_name="official")
"""Questions about each video of an evaluation."""
VIDEOS_AT_A_TIME = 8
CHOICE_WEIGHT = 3
"""Weight of multiple choice in ``selection_score``; an open type has weight 1."""


def selection_score(scores: dict[str, float]) -> float:
    """Return the score by which checkpoints are selected: the mean over the types of question,
    however often each was asked, with weight ``CHOICE_WEIGHT`` for multiple choice."""
    weights = {name: CHOICE_WEIGHT if name == "choice" else 1 for name in scores if name != "all"}
    return sum(weights[name] * scores[name] for name in weights) / sum(weights.values())


@torch.no_grad()
def evaluate(
    model: SmolVLM,
    tokenizer: Tokenizer,
    *,
    seed: int,
    videos: int = 96,
    frame_counts: tuple[int, ...] = (6, 10, 16, 50),
    side: Split = "fresh",
    grey: bool = False,
) -> dict[str, float]:
    """Return exact-match accuracy per question type, and ``all``, over videos of one split.

    An answer counts if each of its tokens, the end included, is the argmax given the right tokens
    before it (teacher forcing): greedy decoding then generates exactly this answer.
    """
    random = Random(seed)
    each = max(1, videos // len(frame_counts))
    image_token_id = special_id(tokenizer, "<image>")
    dtype = next(model.parameters()).dtype
    tally = _Tally()
    for frames in frame_counts:
        for _ in range(max(1, each // VIDEOS_AT_A_TIME)):
            batch = make_video_batch(
                random,
                videos=min(each, VIDEOS_AT_A_TIME),
                frames=frames,
                asking=ASKING,
                network=model.config,
                tokenizer=tokenizer,
                side=side,
                grey=grey,
            )
            features = model.encode_images(batch.pixels.to(dtype))[batch.frames].flatten(0, 2)
            vectors = model.embed_inputs(batch.rows.token_ids, features, image_token_id)
            tally.count(batch.rows, _predicted(model, vectors, batch.rows))
    return tally.shares()


def _predicted(model: SmolVLM, vectors: Tensor, rows: PackedBatch) -> Tensor:
    """Argmax of the next token after every token: ``[B, L]``."""
    hidden = model.model.text_model(vectors, rows.positions, rows.mask(vectors.dtype))
    return model.lm_head(hidden).argmax(-1)


class _Tally:
    """Counts of questions and of right answers, by type."""

    def __init__(self) -> None:
        self._right: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    def count(self, rows: PackedBatch, predicted: Tensor) -> None:
        wrong = (predicted != rows.targets) & (rows.targets >= 0)
        for row, questions in enumerate(rows.questions):
            for number, question in enumerate(questions, start=1):
                missed = bool(wrong[row][rows.segment_ids[row] == number].any())
                for group in (question.type, "all"):
                    self._asked[group] += 1
                    self._right[group] += not missed

    def shares(self) -> dict[str, float]:
        return {group: self._right[group] / self._asked[group] for group in sorted(self._asked)}
