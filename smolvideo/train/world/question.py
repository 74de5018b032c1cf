"""A question with its right answer."""

from dataclasses import dataclass, replace
from random import Random

LETTER_PREFIX = "\nThat is:"
"""Between the repeated question and its answer; it ends like the text before every answer."""


@dataclass(frozen=True)
class Question:
    """A question with its one right answer; ``type`` groups the scores.

    ``subtitles``: the subtitles before it. ``history``: the earlier turns of the conversation.
    ``event_time``: if the answer is a time, the share of the duration at which it happens.
    ``options``: its options, if the answer is a letter; ``open_form`` is then the same question
    without them. A later question of a conversation may refer to options listed in an earlier one.
    """

    type: str
    text: str
    answer: str
    subtitles: str | None = None
    history: tuple["Question", ...] = ()
    event_time: float | None = None
    options: tuple[str, ...] = ()
    open_form: "Question | None" = None

    @property
    def response(self) -> str:
        """The full response: with options, the repeated question, the answer in words, its letter.

        Options put distance between question and answer; the repetition puts the question right
        before the answer, as in a question without options (re-reading, arXiv 2309.06275). Once the
        words are generated, attention only has to find them in the list; CinePile's own rule
        extracts the letter from such an answer.
        """
        letter = f"\nAnswer: {self.answer}" if self.open_form else ""
        return f"{self.echoed_question}{self.answer_words}{letter}"

    @property
    def echoed_question(self) -> str:
        """Text before the words of the answer: with options, the repeated question."""
        return f"{self.open_form.text}{LETTER_PREFIX} " if self.open_form else ""

    @property
    def answer_words(self) -> str:
        """The answer in words, even if a letter is asked for."""
        return self.answer if self.open_form is None else self.open_form.answer


def informal(random: Random, question: Question) -> Question:
    """Sometimes rewrite the question as typed in haste: no capital, no question mark."""
    if random.random() < 0.8:
        return question
    return replace(question, text=question.text[0].lower() + question.text[1:].rstrip("?."))


def same_answer(given: str, right: str) -> bool:
    """Whether two answers match, ignoring case, surrounding whitespace and punctuation."""
    return _bare(given) == _bare(right)


def _bare(text: str) -> str:
    return " ".join(text.lower().strip(" .!\n").split())
