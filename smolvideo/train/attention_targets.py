"""Which token an answer should be looked for in; no torch.

A letter is found in three looks. The words of an option look at the letter before them; the words
that are said look at the same words among the options, and take that letter; what is to say the
letter looks at what was said. A question is said again in as many looks as it has words, each at
the next one; from then on it is looked at there, and not where options follow it. A moment is found
in one look: the time stamp in a question or an answer is that of a frame.
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
"""Time stamp → the places in a row of the frames that have it: image tokens and stamp."""

_STAMP = re.compile(r"\d\d:\d\d")


class AttentionTarget(NamedTuple):
    """The token ``query_position`` this place of a row looks at those of ``key_spans``.

    ``option_index``: the number of the letter that it knows from then on, in the looks for letters.
    """

    kind: TargetKind
    query_position: int
    key_spans: tuple[range, ...]
    option_index: int | None = None


class TokenizedTurn(NamedTuple):
    """A question and its answer, as tokens that begin at these places of a row.

    ``text`` is the question with what stands before it. ``answer_at`` is the place of the first
    token of the answer; the one before it says it.
    """

    question: Question
    text: str
    asked: Encoding
    asked_at: int
    answered: Encoding
    answer_at: int

    @property
    def again(self) -> range:
        """The tokens of the answer that say the question again, where it has options."""
        opened = self.question.open_form
        return self._up_to(opened.text) if opened else range(0)

    @property
    def words(self) -> range:
        """The tokens of the answer that are its words."""
        lead, words = self.question.echoed_question, self.question.answer_words
        start = len(self._up_to(lead.rstrip())) if lead else 0
        return range(start, len(self._up_to(lead + words)))

    def _up_to(self, said: str) -> range:
        """The tokens of the answer, which begins with a blank, up to the end of these words."""
        return _tokens(self.answered, 0, len(f" {said}"))


class _Option(NamedTuple):
    """Where a listed option stands in its row."""

    option_index: int
    words: range


def attention_targets(
    turns: Sequence[TokenizedTurn], shown: ImageSpans
) -> Iterator[AttentionTarget]:
    """All pointers of one conversation, of which a turn may list options."""
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
    """From what is to say a token of the question again to that token, on a line of its own; and
    from all that follows up to the end of the words to the question as said again."""
    line = re.search(rf"(?:^|\n|: ){re.escape(question)}(?=\n|$)", turn.text)
    if line is None:
        return
    start = line.end() - len(question)
    for place in turn.again:
        # Each by its last character; a blank of its own goes before the first word.
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
    """Where the turn lists the options, each behind its letter; empty where it does not."""
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
    """The tokens of these characters."""
    inside = [n for n, (a, b) in enumerate(encoding.offsets) if start <= a and b <= end]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


def _only(place: int) -> range:
    return range(place, place + 1)
