"""Prompt templates of each summary style, per model family.

``nano`` was trained on a few question wordings and on no long texts: its prompts use those
wordings, and its answers about several windows are concatenated (``Summariser.map_reduce``). The
published models get plain English prompts and merge the notes themselves.
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
    """The prompt templates of one run."""

    options: SummaryOptions
    is_nano: bool

    @classmethod
    def of(cls, options: SummaryOptions, checkpoint: Checkpoint) -> "SummaryPrompts":
        """Select the templates for a checkpoint."""
        return cls(options, checkpoint.is_nano)

    def video_questions(self) -> tuple[str, ...]:
        """Questions about a video that is one prompt."""
        if self.options.prompt is not None:
            return (self.options.prompt,)
        return _NANO[self.options.style] if self.is_nano else (_WHOLE[self.options.style],)

    def window(self) -> tuple[str, ...]:
        """Questions about each window of a longer video (the map step)."""
        if self.options.prompt is not None:
            return (self.options.prompt,)
        return _NANO[self.options.style] if self.is_nano else (_PART,)

    def answer(self, answers: tuple[str, ...]) -> str:
        """Join the answers to ``video_questions`` or ``window`` to one text."""
        first, *rest = (text.strip() for text in answers)
        if not rest:
            return first
        moves, background = rest
        facts = (f"Anything moving: {moves.rstrip('.')}", f"background: {background.rstrip('.')}")
        if self.options.style == "bullets":
            return "\n".join(f"- {line}" for line in (first, *facts))
        return f"{first} {'; '.join(facts)}."

    def merge_question(self, notes: list[tuple[float, str]]) -> str:
        """Prompt that merges timed notes into the summary (the reduce step)."""
        task = self.options.prompt or _MERGED[self.options.style]
        return _NOTES_TEMPLATE.format(notes=_listed(notes)) + task

    def chapter(self, notes: list[tuple[float, str]]) -> str:
        """Prompt that merges the notes of one chapter into one text."""
        return _NOTES_TEMPLATE.format(notes=_listed(notes)) + _ONE_CHAPTER

    def title(self, text: str) -> str:
        """Prompt for the title of a chapter with this text."""
        return _TITLE.format(text=text)


def _listed(notes: list[tuple[float, str]]) -> str:
    return "\n".join(f"{format_timestamp(start)} {' '.join(text.split())}" for start, text in notes)
