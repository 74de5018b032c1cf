"""One question with its right answer, whatever it is about."""

from dataclasses import dataclass, replace
from random import Random

THAT_IS = "\nThat is:"
"""Between the question, said again, and its answer; it ends as what stands before every answer."""


@dataclass(frozen=True)
class Question:
    """A question with its one right answer; ``type`` groups the scores.

    ``said``: the subtitles that stand before it. ``earlier``: the turns of the conversation before
    it. ``moment``: where the answer is a time, the share of the duration at which it happens.
    ``options``: those it has, the answer then being a letter, and ``opened`` is the same question
    without them, or one of those before it in its conversation that listed them.
    """

    type: str
    text: str
    answer: str
    said: str | None = None
    earlier: tuple["Question", ...] = ()
    moment: float | None = None
    options: tuple[str, ...] = ()
    opened: "Question | None" = None

    @property
    def response(self) -> str:
        """What is to be said: with options the question again, the right one in its words, and
        then its letter.

        Options part the question from its answer; said again it stands right before it, as one
        without options does (re-reading, arXiv 2309.06275). Who has said the words need only look
        for them in the list; CinePile's own rule reads the letter off such an answer.
        """
        letter = f"\nAnswer: {self.answer}" if self.opened else ""
        return f"{self.lead}{self.words}{letter}"

    @property
    def lead(self) -> str:
        """What is said before the words: with options the question again."""
        return f"{self.opened.text}{THAT_IS} " if self.opened else ""

    @property
    def words(self) -> str:
        """The answer in words, even where a letter is asked for."""
        return self.answer if self.opened is None else self.opened.answer


def carelessly(random: Random, question: Question) -> Question:
    """Now and then the same question as people type it: without a capital, without its mark."""
    if random.random() < 0.8:
        return question
    return replace(question, text=question.text[0].lower() + question.text[1:].rstrip("?."))


def same_answer(given: str, right: str) -> bool:
    """Exact match, but for case, outer blanks and the full stop."""
    return _bare(given) == _bare(right)


def _bare(text: str) -> str:
    return " ".join(text.lower().strip(" .!\n").split())
