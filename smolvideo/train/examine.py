"""How many questions about held-out scenes are answered exactly, by type; with eyes and blind."""

from collections import Counter
from random import Random

import torch
from tokenizers import Tokenizer

from smolvideo.network import SmolVLM
from smolvideo.train.batches import AskedVideos, draw_asked_videos
from smolvideo.train.tokenizer import special_id


def predicted_tokens(model: SmolVLM, batch: AskedVideos, image_token_id: int) -> torch.Tensor:
    """``[B, L]``: after every token, the one that the model thinks comes next."""
    dtype = next(model.parameters()).dtype
    features = model.encode(batch.pixels.to(dtype))[batch.frames].flatten(0, 2)
    vectors = model.embed(batch.token_ids, features, image_token_id)
    hidden = model.model.text_model(vectors, batch.positions, batch.mask(dtype))
    return model.lm_head(hidden).argmax(-1)


@torch.no_grad()
def examine(
    model: SmolVLM,
    tokenizer: Tokenizer,
    *,
    seed: int,
    videos: int = 96,
    frame_counts: tuple[int, ...] = (6, 10, 16, 50),
    grey: bool = False,
) -> dict[str, float]:
    """Exact-match accuracy per type of question, and ``all``, over videos of held-out scenes.

    An answer counts when each of its tokens, the end included, is the model's first choice after
    the right ones before it: greedy generation then writes just this answer.
    """
    random = Random(seed)
    image_token_id = special_id(tokenizer, "<image>")
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for frames in frame_counts:
        for _ in range(max(1, videos // len(frame_counts) // 8)):
            batch = draw_asked_videos(
                random,
                videos=8,
                frames=frames,
                questions=16,
                network=model.config,
                tokenizer=tokenizer,
                held_out=True,
                grey=grey,
            )
            wrong = (predicted_tokens(model, batch, image_token_id) != batch.targets) & (
                batch.targets >= 0
            )
            for row, questions in enumerate(batch.questions):
                for number, question in enumerate(questions, start=1):
                    missed = bool(wrong[row][batch.blocks[row] == number].any())
                    for group in (question.type, "all"):
                        asked[group] += 1
                        right[group] += not missed
    return {group: right[group] / asked[group] for group in sorted(asked)}
