"""How many questions about held-out scenes are answered exactly, by type; with eyes and blind."""

from collections import Counter
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from smolvideo.network import SmolVLM
from smolvideo.train.packing import PackedBatch
from smolvideo.train.question_mix import QuestionMix
from smolvideo.train.tokenizer import special_id
from smolvideo.train.video_batches import make_video_batch
from smolvideo.train.world.scene_sampler import Split

ASKING = QuestionMix(questions=16, choices=3, prompt_name="official")
"""About each video of an examination."""
VIDEOS_AT_A_TIME = 8
CHOICE_WEIGHT = 3
"""How many types of open questions those with options weigh in the mark."""


def selection_score(scores: dict[str, float]) -> float:
    """The one number that checkpoints are chosen by: the mean over the types of question, however
    often each was asked, and questions with options ``CHOICE_WEIGHT`` times."""
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
    """Exact-match accuracy per type of question, and ``all``, over videos of one side.

    An answer counts when each of its tokens, the end included, is the model's first choice after
    the right ones before it: greedy generation then writes just this answer.
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
    """``[B, L]``: after every token, the one that the model thinks comes next."""
    hidden = model.model.text_model(vectors, rows.positions, rows.mask(vectors.dtype))
    return model.lm_head(hidden).argmax(-1)


class _Tally:
    """Questions asked and answered right, by type."""

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
