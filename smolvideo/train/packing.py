"""Many questions about one video as one row of tokens.

The frames stand once at the front of the row; each question sees the frames and itself, and the
positions of every question go on from the frames'.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer
from torch import Tensor

from smolvideo.train.attention_targets import (
    AttentionTarget,
    ImageSpans,
    TokenizedTurn,
    attention_targets,
)
from smolvideo.train.tokenizer import special_id
from smolvideo.train.world.question import Question

LENGTH_STEP = 32
"""Rows of tokens are padded to a multiple of this: torch keeps memory for every shape that it has
ever seen."""


@dataclass(frozen=True)
class Prefix:
    """What stands before all questions of a row, and where ``image_spans`` frames stand in it."""

    token_ids: list[int]
    image_spans: ImageSpans = field(default_factory=dict)


@dataclass(frozen=True)
class PackedSequence:
    """One video's tokens, with the position, the target, its weight and the block of each, and
    the ``pointers`` between them."""

    token_ids: list[int]
    positions: list[int]
    targets: list[int]
    weights: list[float]
    segment_ids: list[int]
    pointers: list[AttentionTarget] = field(default_factory=list)


@dataclass(frozen=True)
class PackedBatch:
    """Rows of tokens with their questions, ready for the decoder.

    ``token_ids``, ``positions`` ``[B, L]``; ``targets``, ``weights`` ``[B, L]``: the next token
    inside answers, −100 elsewhere, and what a mistake there counts; ``segment_ids`` ``[B, L]``: 0
    for the frames, k for question k, −1 for padding; ``pointers``: those of each row.
    """

    token_ids: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor
    segment_ids: Tensor
    questions: tuple[tuple[Question, ...], ...]
    pointers: tuple[tuple[AttentionTarget, ...], ...]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """``[B, 1, L, L]``: 0 where a token may look (its own block and the frames), else −inf."""
        length = self.segment_ids.shape[1]
        same = self.segment_ids.unsqueeze(2) == self.segment_ids.unsqueeze(1)
        to_frames = (self.segment_ids == 0).unsqueeze(1)
        earlier = torch.ones(length, length, dtype=torch.bool).tril()
        allowed = (same | to_frames) & earlier
        mask = torch.zeros(allowed.shape, dtype=dtype)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


def video_prefix(
    stamps: Sequence[str], tokens_per_image: int, tokenizer: Tokenizer, instruction: str = ""
) -> Prefix:
    """The front of a row, in the layout ``nano``; without stamps it is one still picture."""
    image = [special_id(tokenizer, "<image>")] * tokens_per_image
    ids = _opening(tokenizer, instruction)
    if not stamps:
        return Prefix([*ids, *image, *tokenizer.encode("\n").ids])
    shown: dict[str, tuple[range, ...]] = {}
    for stamp in stamps:
        frame = [*image, *tokenizer.encode(f"{stamp}\n").ids]
        shown[stamp] = (*shown.get(stamp, ()), range(len(ids), len(ids) + len(frame)))
        ids += frame
    return Prefix(ids, shown)


def text_prefix(tokenizer: Tokenizer) -> Prefix:
    """The front of a row without pictures; what is asked begins a line, as it does after them."""
    return Prefix([*_opening(tokenizer), *tokenizer.encode("\n").ids])


def _opening(tokenizer: Tokenizer, instruction: str = "") -> list[int]:
    user = f"User: {instruction}" if instruction else "User:"
    return [special_id(tokenizer, "<|im_start|>"), *tokenizer.encode(user).ids]


def pack_questions(
    front: Prefix, questions: Sequence[Question], tokenizer: Tokenizer
) -> PackedSequence:
    """The frames once, then every question with its answer, in the layout ``nano``."""
    end = special_id(tokenizer, "<end_of_utterance>")
    start = len(front.token_ids)
    row = PackedSequence(
        [*front.token_ids], list(range(start)), [-100] * start, [0.0] * start, [0] * start
    )
    for number, question in enumerate(questions, start=1):
        said = "" if question.subtitles is None else f"{question.subtitles}\n\n"
        block: list[int] = []
        targets: list[int] = []
        weights: list[float] = []
        turns: list[TokenizedTurn] = []
        for one in (*question.history, question):
            before = "\nUser: " if turns else said
            text = before + one.text
            asked, answered = tokenizer.encode(text), tokenizer.encode(f" {one.response}")
            at = len(row.token_ids) + len(block)
            asked_ids = [*asked.ids, end, *tokenizer.encode("\nAssistant:").ids]
            turns.append(TokenizedTurn(one, text, asked, at, answered, at + len(asked_ids)))
            block += [*asked_ids, *answered.ids, end]
            targets += [-100] * len(asked_ids) + [*answered.ids, end]
            weights += [0.0] * len(asked_ids)
            # Long answers count more than short ones, but not by as much as they are longer; a
            # question that is said again counts as one of its own.
            lead = turns[-1].words.start
            for length in (lead, len(answered.ids) + 1 - lead):
                weights += [max(1, length) ** -0.5] * length
        row.pointers.extend(attention_targets(turns, front.image_spans))
        # Each token is to tell the next one; the last one has none.
        row.token_ids.extend(block[:-1])
        row.positions.extend(range(start, start + len(block) - 1))
        row.targets.extend(targets[1:])
        row.weights.extend(weights[1:])
        row.segment_ids.extend([number] * (len(block) - 1))
    return row


def collate(rows: Sequence[PackedSequence], questions: Sequence[Sequence[Question]]) -> PackedBatch:
    """The rows, padded to one length, with what each was asked."""
    longest = max(len(row.token_ids) for row in rows)
    length = math.ceil(longest / LENGTH_STEP) * LENGTH_STEP

    def padded(parts: Sequence[Sequence[float]], value: float) -> Tensor:
        return torch.tensor([[*part, *[value] * (length - len(part))] for part in parts])

    return PackedBatch(
        token_ids=padded([row.token_ids for row in rows], 0),
        positions=padded([row.positions for row in rows], 0),
        targets=padded([row.targets for row in rows], -100),
        weights=padded([row.weights for row in rows], 0.0),
        segment_ids=padded([row.segment_ids for row in rows], -1),
        questions=tuple(tuple(asked) for asked in questions),
        pointers=tuple(tuple(row.pointers) for row in rows),
    )
