"""Options of an index, and the questions whose answers are its notes.

``nano`` was trained on a few wordings, and its description names what is written in the picture.
The published models are asked for a note, and for the text on screen.
"""

from dataclasses import dataclass, field

from smolvideo.engines import GenerationOptions
from smolvideo.models import Checkpoint
from smolvideo.summaries.options import SummaryOptions, settings_hash

_NANO_NOTE = "Describe the video."
_NOTE = "Describe what can be seen and what happens in this video, in one or two sentences."
_SCREEN_TEXT = (
    "Which words or numbers are written in this video? Answer with them alone, or with the word "
    "none."
)
_NO_TEXT = frozenset(("", "none", "no", "nothing", "n/a", "no text", "no words", "there is none"))


@dataclass(frozen=True)
class IndexOptions(SummaryOptions):
    """Windows of an index: shorter than those of a summary, as a hit is a window or a part of one.

    ``max_frames`` is per window; their distance is the resolution of hits. Without
    ``at_shot_changes`` all windows have the same length. Raises UsageError for invalid values.
    """

    window_seconds: float = 10.0
    max_frames: int = 8
    at_shot_changes: bool = True
    generation: GenerationOptions = field(
        default_factory=lambda: GenerationOptions(max_new_tokens=64)
    )

    @property
    def ends_at_shot_changes(self) -> bool:
        return self.at_shot_changes

    def window_seconds_for(self, duration_seconds: float) -> float | None:
        """The length of a window: every video has windows, if only one."""
        return self.window_seconds

    def questions(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Questions about each window: the first for its note, the second for text on screen."""
        if self.prompt is not None:
            return (self.prompt, _SCREEN_TEXT)
        return (_NANO_NOTE,) if checkpoint.is_nano else (_NOTE, _SCREEN_TEXT)

    def key(self, checkpoint: Checkpoint, quantize: str = "none") -> str:
        """Hash of all settings that change windows or notes."""
        settings = self.settings(checkpoint, quantize)
        return settings_hash({**settings, "at_shot_changes": self.at_shot_changes, "index": 1})


def screen_text(answer: str) -> str:
    """Return the text on screen from the model's answer; empty where it says that there is none.

    >>> screen_text("None."), screen_text("EXIT 12")
    ('', 'EXIT 12')
    """
    text = " ".join(answer.split())
    return "" if text.casefold().strip(" .!\"'`") in _NO_TEXT else text
