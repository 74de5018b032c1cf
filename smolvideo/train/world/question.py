"""A question, its right answer, and the wordings of questions."""

import hashlib
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


HELD_OUT_WORDINGS = 8
"""One in this many of the wordings with a polite prefix is held out of training."""

POLITE_PREFIXES = ("Please tell me: ", "Tell me, ", "I want to know: ", "Look closely. ")

TEMPLATES: dict[str, tuple[str, ...]] = {
    "count": (
        "How many things are there?",
        "How many objects are there?",
        "How many shapes are in the video?",
        "How many things can you see?",
        "Count the objects.",
    ),
    "count at start": (
        "How many things are there at the start?",
        "How many objects are there at first?",
    ),
    "count at end": (
        "How many things are there at the end?",
        "How many objects are left at the end?",
    ),
    "shots": (
        "How many shots are there?",
        "How many scenes are there?",
        "How many shots does the video have?",
    ),
    "background": (
        "What colour is the background?",
        "What is the colour of the background?",
        "What color is the background?",
        "Which colour is behind everything?",
    ),
    "background at start": (
        "What colour is the background at the start?",
        "What color is the background at first?",
    ),
    "background at end": (
        "What colour is the background at the end?",
        "What color is the last background?",
    ),
    "colour": (
        "What colour is the {shape}?",
        "What color is the {shape}?",
        "Which colour does the {shape} have?",
        "What is the colour of the {shape}?",
    ),
    "colour at start": (
        "What colour is the {shape} at the start?",
        "What color is the {shape} at first?",
    ),
    "colour at end": (
        "What colour is the {shape} at the end?",
        "What colour does the {shape} turn?",
        "Which colour does the {shape} get?",
    ),
    "shape": (
        "What shape is the {colour} thing?",
        "What shape is the {colour} object?",
        "Which shape is {colour}?",
        "What is the {colour} thing?",
    ),
    "only shape": (
        "What shape is in the video?",
        "Which shape do you see?",
        "What shape is shown?",
    ),
    "only colour": (
        "What colour is the shape?",
        "What colour is the object?",
        "What color is the thing in the video?",
    ),
    "size": (
        "How big is the {thing}?",
        "What size is the {thing}?",
        "Is the {thing} small or large?",
    ),
    "direction": (
        "Which way does the {thing} move?",
        "In which direction does the {thing} move?",
        "Where does the {thing} go?",
        "Where is the {thing} moving?",
    ),
    "motion": (
        "What does the {thing} do?",
        "What happens to the {thing}?",
        "What is the {thing} doing?",
    ),
    "mover": (
        "What moves?",
        "Which thing moves?",
        "What is moving in the video?",
        "What moves in this video?",
    ),
    "mover colour": (
        "What colour is the moving thing?",
        "Which colour moves?",
        "What color is the thing that moves?",
    ),
    "mover shape": (
        "Which shape moves?",
        "What shape is the moving thing?",
        "What shape moves?",
    ),
    "appears": ("What appears?", "Which thing appears?", "What enters the scene?"),
    "disappears": ("What disappears?", "Which thing disappears?", "What leaves the scene?"),
    "turns": ("What changes its colour?", "Which thing changes colour?"),
    "place": (
        "Where is the {thing}?",
        "In which part of the picture is the {thing}?",
        "Where do you see the {thing}?",
    ),
    "text": (
        "What does the text say?",
        "Read the text.",
        "What is written in the video?",
        "What text is on the screen?",
    ),
    "word": ("Which word is shown?", "What is the word?"),
    "number": ("Which number is shown?", "What is the number?"),
    "first": (
        "What comes first?",
        "What is shown first?",
        "What appears first?",
        "What do you see first?",
    ),
    "second": ("What comes second?", "What is shown second?"),
    "last": (
        "What comes last?",
        "What is shown last?",
        "What do you see at the end?",
    ),
    "after": (
        "What comes after the {thing}?",
        "What follows the {thing}?",
        "What is shown after the {thing}?",
    ),
    "before": (
        "What comes before the {thing}?",
        "What is shown before the {thing}?",
    ),
    "when appears": (
        "When does the {thing} appear?",
        "At what time does the {thing} appear?",
        "When does the {thing} enter?",
    ),
    "when disappears": (
        "When does the {thing} disappear?",
        "At what time does the {thing} disappear?",
        "When does the {thing} leave?",
    ),
    "when turns": (
        "When does the {thing} change colour?",
        "At what time does the {thing} change its colour?",
        "When does the {thing} turn {colour}?",
    ),
    "when cut": (
        "When does the background change?",
        "At what time does the background change?",
    ),
    "describe": (
        "What is in this video?",
        "Describe the video.",
        "Describe this video.",
        "What happens in the video?",
        "What can you see?",
        "Summarise the video.",
        "What do you see in this video?",
    ),
    "present": (
        "Is there a {thing}?",
        "Is there a {thing} in the video?",
        "Can you see a {thing}?",
        "Does the video show a {thing}?",
    ),
    "anything moves": ("Does anything move?", "Is anything moving?"),
    "moves": ("Does the {shape} move?", "Is the {shape} moving?"),
    "left of": (
        "Is the {shape} left of the {other}?",
        "Is the {shape} to the left of the {other}?",
    ),
    "above": ("Is the {shape} above the {other}?", "Is the {shape} higher than the {other}?"),
}
"""Kind of question → its wordings. Fields in braces are filled from the scene."""


def fill_template(random: Random, asked: str, *, novel: bool = False, **value: str) -> str:
    """Return a wording of ``asked`` with its fields filled, sometimes after a polite prefix.

    ``novel``: use a wording that is held out of training, if there is one.
    """
    while True:
        wording = random.choice(TEMPLATES[asked])
        courtesy = random.choice(POLITE_PREFIXES) if novel or random.random() < 0.2 else ""
        if _held_out(courtesy, wording) == novel:
            break
        if novel and not any(_held_out(c, w) for c in POLITE_PREFIXES for w in TEMPLATES[asked]):
            break
    if courtesy and not courtesy.endswith(". "):
        wording = wording[0].lower() + wording[1:]
    return courtesy + wording.format(**value)


def _held_out(courtesy: str, wording: str) -> bool:
    digest = hashlib.sha256(f"wording {courtesy}{wording}".encode()).digest()
    return bool(courtesy) and digest[0] % HELD_OUT_WORDINGS == 0
