"""Sequence packing: many questions about one video in one row of tokens, with attention targets.

The frames are the common prefix of the row. Each question attends to the frames and to itself, and
its positions continue from the end of the frames.

Attention targets are which tokens each token of an answer should attend to. A letter is found in
three hops: the words of an option attend to the letter before them; the words of the answer attend
to the same words among the options and pick up that letter; the token before the letter attends to
the words of the answer. A question is repeated in as many hops as it has words, each token
attending to the next one of the question; later tokens attend to the repetition, and not to the
question that options follow. A moment is found in one hop: the time stamp in a question or an
answer attends to the frame with the same stamp.

"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from smolvideo.evals.item import LETTERS
from smolvideo.train.nano_config import special_id
from smolvideo.train.world.question import Question

TargetKind = Literal[
    "next of question",
    "question",
    "letter of option",
    "option of said",
    "said before letter",
    "moment",
    "time",
]

ImageSpans = Mapping[str, tuple[range, ...]]
"""Time stamp → positions in a row of the frames with that stamp: image tokens and stamp."""

_STAMP = re.compile(r"\d\d:\d\d")


class AttentionTarget(NamedTuple):
    """The token at ``query_position`` should attend to the positions ``key_spans``.

    ``option_index``: index of the letter known from then on, for the kinds that find letters.
    """

    kind: TargetKind
    query_position: int
    key_spans: tuple[range, ...]
    option_index: int | None = None


class TokenizedTurn(NamedTuple):
    """A question and its answer as tokens, with the positions in the row where each begins.

    ``text`` is the question with the text before it. ``answer_at`` is the position of the first
    token of the answer, which the token before it predicts.
    """

    question: Question
    text: str
    asked: Encoding
    asked_at: int
    answered: Encoding
    answer_at: int

    @property
    def again(self) -> range:
        """Tokens of the answer that repeat the question, if the question has options."""
        opened = self.question.open_form
        return self._up_to(opened.text) if opened else range(0)

    @property
    def words(self) -> range:
        """Tokens of the answer's own words."""
        lead, words = self.question.echoed_question, self.question.answer_words
        start = len(self._up_to(lead.rstrip())) if lead else 0
        return range(start, len(self._up_to(lead + words)))

    def _up_to(self, said: str) -> range:
        """Tokens of the answer, which begins with a space, up to the end of ``said``."""
        return _tokens(self.answered, 0, len(f" {said}"))


class _Option(NamedTuple):
    """Positions of a listed option in its row."""

    option_index: int
    words: range


def attention_targets(
    turns: Sequence[TokenizedTurn], shown: ImageSpans
) -> Iterator[AttentionTarget]:
    """Yield the targets of one conversation; one of its turns may list options."""
    listed: list[_Option] = []
    for turn in turns:
        if here := _listed(turn):
            listed = here
            for number, option in enumerate(listed):
                for place in option.words:
                    yield AttentionTarget(
                        "letter of option", place, (_only(option.option_index),), number
                    )
        if turn.question.open_form:
            yield from _to_question(turn, turn.question.open_form.text)
            if listed:
                number = LETTERS.index(turn.question.answer)
                yield from _to_letter(turn, listed[number], number)
        yield from _to_moment(turn, shown)


def _to_question(turn: TokenizedTurn, question: str) -> Iterator[AttentionTarget]:
    """Targets for repeating a question: the token before each repeated token attends to that token
    in the question, which has a line of its own; later tokens, up to the end of the answer's words,
    attend to the repetition."""
    line = re.search(rf"(?:^|\n|: ){re.escape(question)}(?=\n|$)", turn.text)
    if line is None:
        return
    start = line.end() - len(question)
    for place in turn.again:
        # Aligned by the last character: the first word has a leading space here, unlike there.
        _, end = turn.answered.offsets[place]
        token = turn.asked.char_to_token(start + max(0, end - len(" ") - 1))
        assert token is not None
        to = _only(turn.asked_at + token)
        yield AttentionTarget("next of question", turn.answer_at - 1 + place, (to,))
    again = range(turn.answer_at, turn.answer_at + turn.again.stop)
    for place in range(turn.again.stop, turn.words.stop - 1):
        yield AttentionTarget("question", turn.answer_at + place, (again,))


def _to_letter(turn: TokenizedTurn, option: _Option, number: int) -> Iterator[AttentionTarget]:
    words_at = turn.answer_at + turn.words.start
    for place, word in enumerate(option.words):
        yield AttentionTarget("option of said", words_at + place, (_only(word),), number)
    said = words_at + len(option.words) - 1
    before_letter = turn.answer_at + len(turn.answered.ids) - 2
    yield AttentionTarget("said before letter", before_letter, (_only(said),), number)


def _to_moment(turn: TokenizedTurn, shown: ImageSpans) -> Iterator[AttentionTarget]:
    question, words = turn.question, turn.words
    text = question.open_form.text if question.open_form else turn.text
    asked = set(_STAMP.findall(text)) & shown.keys()
    if len(asked) == 1:
        yield AttentionTarget("moment", turn.answer_at + words.start - 1, shown[asked.pop()])
    if question.answer_words in shown:
        for place in words:
            yield AttentionTarget("time", turn.answer_at + place - 1, shown[question.answer_words])


def _listed(turn: TokenizedTurn) -> list[_Option]:
    """Positions of the options that the turn lists, each after its letter; empty without a list."""
    found: list[_Option] = []
    end = 0
    for letter, option in zip(LETTERS, turn.question.options, strict=False):
        line = re.compile(rf"(?<!\w){letter}[.)] {re.escape(option)}(?=\n|$)").search(
            turn.text, end
        )
        if line is None:
            return []
        letter_at = turn.asked.char_to_token(line.start())
        words = _tokens(turn.asked, line.start() + len("A."), line.end())
        assert letter_at is not None
        start = turn.asked_at
        found.append(_Option(start + letter_at, range(start + words.start, start + words.stop)))
        end = line.end()
    return found


def _tokens(encoding: Encoding, start: int, end: int) -> range:
    """Tokens that are entirely within these characters."""
    inside = [n for n, (a, b) in enumerate(encoding.offsets) if start <= a and b <= end]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


def _only(place: int) -> range:
    return range(place, place + 1)


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


def split_into_rows(
    front: Prefix, questions: Sequence[Question], tokenizer: Tokenizer, *, limit: int
) -> Iterator[list[Question]]:
    """Divide questions into rows of at most ``limit`` tokens beside the frames, one at least each.

    A question sees the frames and itself alone, so that the rows give the same losses as one; but
    attention over one long row takes time for every pair of questions.
    """
    row: list[Question] = []
    tokens = 0
    for question in questions:
        length = len(pack_questions(front, [question], tokenizer).token_ids) - len(front.token_ids)
        if row and tokens + length > limit:
            yield row
            row, tokens = [], 0
        row.append(question)
        tokens += length
    if row:
        yield row


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
