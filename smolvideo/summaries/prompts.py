"""What is asked: the questions of each style, in the words that a model knows.

``nano`` was trained on a few wordings and reads no long texts: it is asked those, and what it says
of several windows is put together as text (``merging``). The published models are asked in plain
English, and merge notes themselves.
"""

from dataclasses import dataclass

from smolvideo.models import Checkpoint
from smolvideo.summaries.options import Style, SummaryOptions
from smolvideo.times import format_timestamp

_NANO: dict[Style, tuple[str, ...]] = {
    "brief": ("Describe the video.",),
    "detailed": (
        "Describe the video.",
        "Does anything move?",
        "What colour is the background?",
    ),
    "chapters": ("Describe the video.",),
    "bullets": (
        "Describe the video.",
        "Does anything move?",
        "What colour is the background?",
    ),
}
"""See ``smolvideo.train.world.questions``."""

_WHOLE: dict[Style, str] = {
    "brief": "Summarise this video in one or two sentences.",
    "detailed": "Describe this video in detail: the place, who and what can be seen, and what "
    "happens, in the order in which it happens.",
    "chapters": "Summarise this video in one or two sentences.",
    "bullets": "List the main things that happen in this video, in their order, as short bullet "
    "points, one a line.",
}
_PART = "Describe what can be seen and what happens in this video, in two or three sentences."

_MERGED: dict[Style, str] = {
    "brief": "Write one summary of the whole video in two or three sentences.",
    "detailed": "Write one detailed description of the whole video, in the order in which things "
    "happen.",
    "chapters": "Write one summary of the whole video in two or three sentences.",
    "bullets": "List the main things that happen in the whole video, in their order, as short "
    "bullet points, one a line.",
}
_NOTES_TEMPLATE = "These are notes about the parts of one video, in their order:\n{notes}\n\n"
_ONE_CHAPTER = "Say in one or two sentences what they tell."
_TITLE = "Write a title of at most six words for this part of a video:\n{text}"


@dataclass(frozen=True)
class SummaryPrompts:
    """The questions of one run."""

    options: SummaryOptions
    is_nano: bool

    @classmethod
    def of(cls, options: SummaryOptions, checkpoint: Checkpoint) -> "SummaryPrompts":
        """The words for a checkpoint."""
        return cls(options, checkpoint.is_nano)

    def video_questions(self) -> tuple[str, ...]:
        """What is asked of a video that is seen at once."""
        if self.options.prompt is not None:
            return (self.options.prompt,)
        return _NANO[self.options.style] if self.is_nano else (_WHOLE[self.options.style],)

    def window(self) -> tuple[str, ...]:
        """What is asked of each window of a longer one."""
        if self.options.prompt is not None:
            return (self.options.prompt,)
        return _NANO[self.options.style] if self.is_nano else (_PART,)

    def answer(self, answers: tuple[str, ...]) -> str:
        """The answers to ``video_questions`` or ``window`` as one text."""
        first, *rest = (text.strip() for text in answers)
        if not rest:
            return first
        moves, background = rest
        facts = (f"Anything moving: {moves.rstrip('.')}", f"background: {background.rstrip('.')}")
        if self.options.style == "bullets":
            return "\n".join(f"- {line}" for line in (first, *facts))
        return f"{first} {'; '.join(facts)}."

    def merge_question(self, notes: list[tuple[float, str]]) -> str:
        """The question that makes one summary out of timed notes."""
        task = self.options.prompt or _MERGED[self.options.style]
        return _NOTES_TEMPLATE.format(notes=_listed(notes)) + task

    def chapter(self, notes: list[tuple[float, str]]) -> str:
        """The question that makes one text out of the notes of one chapter."""
        return _NOTES_TEMPLATE.format(notes=_listed(notes)) + _ONE_CHAPTER

    def title(self, text: str) -> str:
        """The question for a chapter's title."""
        return _TITLE.format(text=text)


def _listed(notes: list[tuple[float, str]]) -> str:
    return "\n".join(f"{format_timestamp(start)} {' '.join(text.split())}" for start, text in notes)
