"""Sequence packing: many questions about one video in one row of tokens.

The frames are the common prefix of the row. Each question attends to the frames and to itself, and
its positions continue from the end of the frames.
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
"""Rows are padded to a multiple of this length: torch caches memory for every new shape."""


@dataclass(frozen=True)
class Prefix:
    """The tokens before all questions of a row, and the positions of its frames by time stamp."""

    token_ids: list[int]
    image_spans: ImageSpans = field(default_factory=dict)


@dataclass(frozen=True)
class PackedSequence:
    """One video's tokens with the position, target, target weight and segment of each, and the
    attention targets (``pointers``)."""

    token_ids: list[int]
    positions: list[int]
    targets: list[int]
    weights: list[float]
    segment_ids: list[int]
    pointers: list[AttentionTarget] = field(default_factory=list)


@dataclass(frozen=True)
class PackedBatch:
    """Padded rows of tokens with their questions, the decoder's input.

    ``token_ids``, ``positions`` ``[B, L]``; ``targets``, ``weights`` ``[B, L]``: the next token
    inside answers, −100 elsewhere, and the weight of its loss; ``segment_ids`` ``[B, L]``: 0 for
    the frames, k for question k, −1 for padding; ``pointers``: the attention targets of each row.
    """

    token_ids: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor
    segment_ids: Tensor
    questions: tuple[tuple[Question, ...], ...]
    pointers: tuple[tuple[AttentionTarget, ...], ...]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """Additive mask ``[B, 1, L, L]``: 0 for earlier tokens of the same segment or the frames,
        else the dtype's minimum."""
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
    """Return the frames of a row, in the layout ``nano``; without stamps it is one still image."""
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
    """Return the prefix of a row without images; the question begins a line here, too."""
    return Prefix([*_opening(tokenizer), *tokenizer.encode("\n").ids])


def _opening(tokenizer: Tokenizer, instruction: str = "") -> list[int]:
    user = f"User: {instruction}" if instruction else "User:"
    return [special_id(tokenizer, "<|im_start|>"), *tokenizer.encode(user).ids]


def pack_questions(
    front: Prefix, questions: Sequence[Question], tokenizer: Tokenizer
) -> PackedSequence:
    """Pack the frames, then every question with its answer, in the layout ``nano``."""
    end = special_id(tokenizer, "<end_of_utterance>")
    start = len(front.token_ids)
    row = PackedSequence(
        [*front.token_ids], list(range(start)), [-100] * start, [0.0] * start, [0] * start
    )
    # One segment per question: its history, the question, and the answers.
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
            # The loss of an answer grows with the square root of its length; a repeated question
            # counts as an answer of its own.
            lead = turns[-1].words.start
            for length in (lead, len(answered.ids) + 1 - lead):
                weights += [max(1, length) ** -0.5] * length
        row.pointers.extend(attention_targets(turns, front.image_spans))
        # Each token predicts the next one; the last token has no target.
        row.token_ids.extend(block[:-1])
        row.positions.extend(range(start, start + len(block) - 1))
        row.targets.extend(targets[1:])
        row.weights.extend(weights[1:])
        row.segment_ids.extend([number] * (len(block) - 1))
    return row


def collate(rows: Sequence[PackedSequence], questions: Sequence[Sequence[Question]]) -> PackedBatch:
    """Pad the rows to one length and stack them, with their questions."""
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
