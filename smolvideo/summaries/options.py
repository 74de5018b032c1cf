"""Options of a summary, and the settings hash by which a run recognises finished work."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from smolvideo.engines import GenerationOptions
from smolvideo.errors import UsageError
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
    small, if ``reduce_to_fit``).
    """

    style: Style = "brief"
    prompt: str | None = None
    window_seconds: float = 60.0
    max_frames: int = 50
    reduce_to_fit: bool = True
    prompt_options: PromptOptions = field(default_factory=PromptOptions)
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    reader: str = "auto"

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise UsageError(f"unknown style `{self.style}`: {', '.join(get_args(Style))}")
        if self.prompt is not None and not self.prompt.strip():
            raise UsageError("the prompt has no text")
        if not (math.isfinite(self.window_seconds) and self.window_seconds >= 1):
            raise UsageError(f"a window lasts 1 second or more, not {self.window_seconds:g}")
        if not isinstance(self.max_frames, int) or self.max_frames < 1:
            raise UsageError(f"max_frames must be a whole number above 0, not {self.max_frames!r}")

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
        """All settings that change the answer, by option name: quantized weights, but not the
        engine or device."""
        everything: dict[str, Any] = {"model": checkpoint.name, "revision": checkpoint.revision}
        own = {"style", "prompt", "window_seconds", "max_frames", "reader"}
        everything |= {name: value for name, value in asdict(self).items() if name in own}
        everything |= asdict(self.prompt_options) | asdict(self.generation)
        everything["stop"] = list(self.generation.stop)
        if quantize != "none":  # records without quantization keep their settings key
            everything["quantize"] = quantize
        return everything


def settings_hash(settings: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the settings as sorted JSON."""
    # The spelling of version 1: what was summarised then stays done.
    hashed = {"quantise" if name == "quantize" else name: value for name, value in settings.items()}
    written = json.dumps(hashed, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(written.encode()).hexdigest()[:16]
