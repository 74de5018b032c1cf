"""Options of a summary, the settings hash of a run, and the prompts of each style.

``nano`` was trained on a few question wordings and on no long texts: its prompts use those
wordings, and its answers about several windows are concatenated (``Summariser.map_reduce``). The
published models get plain English prompts and merge the notes themselves.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from smolvideo.engines import GenerationOptions
from smolvideo.errors import UsageError
from smolvideo.formatting import format_timestamp
from smolvideo.models import Checkpoint
from smolvideo.prompt import PromptOptions

Style = Literal["brief", "detailed", "chapters", "bullets"]

SINGLE_PASS_WINDOWS = 1.5
"""Videos up to this many windows long are one prompt: cutting them in two gains little."""
MIN_CHAPTER_WINDOWS = 6
MIN_WINDOW_SECONDS = 5.0
"""With style ``chapters`` a short clip has at least ``MIN_CHAPTER_WINDOWS`` windows, none shorter
than ``MIN_WINDOW_SECONDS``."""


@dataclass(frozen=True)
class SummaryOptions:
    """Style, prompt and sampling of a summary. Raises UsageError for invalid values.

    ``prompt`` replaces the question of the style. ``window_seconds`` is the length of one window
    of a long video, ``max_frames`` the number of frames per window (fewer where the context is too
    small, if ``reduce_to_fit``). ``check_share`` is the share of the videos whose prompts are
    asked again with grey frames; it changes no summary.
    """

    style: Style = "brief"
    prompt: str | None = None
    window_seconds: float = 60.0
    max_frames: int = 50
    reduce_to_fit: bool = True
    prompt_options: PromptOptions = field(default_factory=PromptOptions)
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    reader: str = "auto"
    check_share: float = 0.0

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise UsageError(f"unknown style `{self.style}`: {', '.join(get_args(Style))}")
        if self.prompt is not None and not self.prompt.strip():
            raise UsageError("the prompt has no text")
        if not (math.isfinite(self.window_seconds) and self.window_seconds >= 1):
            raise UsageError(f"a window lasts 1 second or more, not {self.window_seconds:g}")
        if not isinstance(self.max_frames, int) or self.max_frames < 1:
            raise UsageError(f"max_frames must be a whole number above 0, not {self.max_frames!r}")
        if not 0 <= self.check_share <= 1:
            raise UsageError(f"a share to check is from 0 to 1, not {self.check_share:g}")

    @property
    def ends_at_shot_changes(self) -> bool:
        """Whether windows end at shot changes near their planned length."""
        return True

    def window_seconds_for(self, duration_seconds: float) -> float | None:
        """Window length for a video of this duration; None where it is a single prompt."""
        if self.style == "chapters":
            finer = max(duration_seconds / MIN_CHAPTER_WINDOWS, MIN_WINDOW_SECONDS)
            window = min(self.window_seconds, finer)
            return window if duration_seconds > window else None
        if duration_seconds <= SINGLE_PASS_WINDOWS * self.window_seconds:
            return None
        return self.window_seconds

    def settings(self, checkpoint: Checkpoint, quantize: str = "none") -> dict[str, Any]:
        """All settings that change the answer, by option name: quantized weights and adapter, but
        not the engine or device."""
        everything: dict[str, Any] = {"model": checkpoint.name, "revision": checkpoint.revision}
        own = {"style", "prompt", "window_seconds", "max_frames", "reader"}
        everything |= {name: value for name, value in asdict(self).items() if name in own}
        everything |= asdict(self.prompt_options) | self.generation.to_json()
        # Records without quantization and schema keep their settings key.
        if quantize != "none":
            everything["quantize"] = quantize
        if checkpoint.adapter_sha256 is not None:
            everything["adapter"] = checkpoint.adapter_sha256
        if everything["schema"] is None:
            del everything["schema"]
        return everything


def settings_hash(settings: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the settings as sorted JSON."""
    # The spelling of version 1: what was summarised then stays done.
    hashed = {"quantise" if name == "quantize" else name: value for name, value in settings.items()}
    written = json.dumps(hashed, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(written.encode()).hexdigest()[:16]


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
