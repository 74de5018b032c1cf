"""Which token an answer should be looked for in; no torch.

A letter is found in three looks. The words of an option look at the letter before them; the words
that are said look at the same words among the options, and take that letter; what is to say the
letter looks at what was said. The words themselves are those of the video, and not just any of the
options, where the question is looked at, which the options part from its answer. A moment is found
in one look: the time stamp in a question or an answer is that of a frame.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from tokenizers import Encoding

from smolvideo.evals.item import LETTERS

Look = Literal[
    "question", "letter of option", "option of said", "said before letter", "moment", "time"
]

Shown = Mapping[str, tuple[range, ...]]
"""Time stamp → the places in a row of the frames that have it: image tokens and stamp."""

_STAMP = re.compile(r"\d\d:\d\d")
_LETTER_GIVEN = re.compile(r"\nAnswer: ([A-Z])$")


class Pointer(NamedTuple):
    """The token ``at`` this place of a row looks at those of ``to``.

    ``letter``: the number of the letter that it knows from then on, in the looks for letters.
    """

    look: Look
    at: int
    to: tuple[range, ...]
    letter: int | None = None


class Turn(NamedTuple):
    """A question and its answer, as tokens that begin at these places of a row.

    ``answer_at`` is the place of the first token of the answer; the one before it says it.
    """

    text: str
    asked: Encoding
    asked_at: int
    answer: str
    answered: Encoding
    answer_at: int


class _Option(NamedTuple):
    """Where a listed option stands in its row."""

    letter: int
    words: range


def point(turns: Sequence[Turn], options: Sequence[str], shown: Shown) -> Iterator[Pointer]:
    """All pointers of one conversation, of which a turn may list ``options``."""
    listed: list[_Option] = []
    for turn in turns:
        if options and (here := _listed(turn, options)):
            listed = here
            yield from _to_question(turn, listed[0])
            for number, option in enumerate(listed):
                for place in option.words:
                    yield Pointer("letter of option", place, (_only(option.letter),), number)
        given = _LETTER_GIVEN.search(turn.answer)
        if given and listed:
            number = LETTERS.index(given[1])
            yield from _to_letter(turn, listed[number], number)
        yield from _to_moment(turn, shown)


def _to_question(turn: Turn, first: _Option) -> Iterator[Pointer]:
    """From what is to say the words of the option to the line before the options."""
    letter_at, _ = turn.asked.offsets[first.letter - turn.asked_at]
    lines = turn.text[:letter_at].rsplit("\n", 2)
    if len(lines) > 1:
        end = letter_at - len(lines[-1]) - 1
        question = _tokens(turn.asked, end - len(lines[-2]), end)
        to = range(turn.asked_at + question.start, turn.asked_at + question.stop)
        words = len(_tokens(turn.answered, 0, len(turn.answer.partition("\n")[0]) + 1))
        for place in range(words):
            yield Pointer("question", turn.answer_at - 1 + place, (to,))


def _to_letter(turn: Turn, option: _Option, number: int) -> Iterator[Pointer]:
    for place, word in enumerate(option.words):
        yield Pointer("option of said", turn.answer_at + place, (_only(word),), number)
    said = turn.answer_at + len(option.words) - 1
    before_letter = turn.answer_at + len(turn.answered.ids) - 2
    yield Pointer("said before letter", before_letter, (_only(said),), number)


def _to_moment(turn: Turn, shown: Shown) -> Iterator[Pointer]:
    asked = set(_STAMP.findall(turn.text)) & shown.keys()
    if len(asked) == 1:
        yield Pointer("moment", turn.answer_at - 1, shown[asked.pop()])
    stamp = turn.answer.partition("\n")[0]
    if stamp in shown:
        digits = _tokens(turn.answered, 0, len(f" {stamp}"))
        for place in digits:
            yield Pointer("time", turn.answer_at + place - 1, shown[stamp])


def _listed(turn: Turn, options: Sequence[str]) -> list[_Option]:
    """Where the turn lists the options, each behind its letter; empty where it does not."""
    found: list[_Option] = []
    end = 0
    for letter, option in zip(LETTERS, options, strict=False):
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
