"""One question with its right answer, whatever it is about."""

from dataclasses import dataclass, replace
from random import Random

LETTER_PREFIX = "\nThat is:"
"""Between the question, said again, and its answer; it ends as what stands before every answer."""


@dataclass(frozen=True)
class Question:
    """A question with its one right answer; ``type`` groups the scores.

    ``subtitles``: the subtitles that stand before it. ``history``: the turns of the conversation
    before it. ``event_time``: where the answer is a time, the share of the duration at which it
    happens. ``options``: those it has, the answer then being a letter, and ``open_form`` is the
    same question without them, or one of those before it in its conversation that listed them.
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
        """What is to be said: with options the question again, the right one in its words, and
        then its letter.

        Options part the question from its answer; said again it stands right before it, as one
        without options does (re-reading, arXiv 2309.06275). Who has said the words need only look
        for them in the list; CinePile's own rule reads the letter off such an answer.
        """
        letter = f"\nAnswer: {self.answer}" if self.open_form else ""
        return f"{self.echoed_question}{self.answer_words}{letter}"

    @property
    def echoed_question(self) -> str:
        """What is said before the words: with options the question again."""
        return f"{self.open_form.text}{LETTER_PREFIX} " if self.open_form else ""

    @property
    def answer_words(self) -> str:
        """The answer in words, even where a letter is asked for."""
        return self.answer if self.open_form is None else self.open_form.answer


def informal(random: Random, question: Question) -> Question:
    """Now and then the same question as people type it: without a capital, without its mark."""
    if random.random() < 0.8:
        return question
    return replace(question, text=question.text[0].lower() + question.text[1:].rstrip("?."))


def same_answer(given: str, right: str) -> bool:
    """Exact match, but for case, outer blanks and the full stop."""
    return _bare(given) == _bare(right)


def _bare(text: str) -> str:
    return " ".join(text.lower().strip(" .!\n").split())
