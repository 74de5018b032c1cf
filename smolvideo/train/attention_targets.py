"""Attention targets: which tokens each token of an answer should attend to; no torch.

A letter is found in three hops: the words of an option attend to the letter before them; the words
of the answer attend to the same words among the options and pick up that letter; the token before
the letter attends to the words of the answer. A question is repeated in as many hops as it has
words, each token attending to the next one of the question; later tokens attend to the repetition,
and not to the question that options follow. A moment is found in one hop: the time stamp in a
question or an answer attends to the frame with the same stamp.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from tokenizers import Encoding

from smolvideo.evals.item import LETTERS
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
