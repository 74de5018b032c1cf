"""Settings of a run: all that its answers depend on, and the selection of items."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from smolvideo.engines import GenerationOptions
from smolvideo.errors import UsageError
from smolvideo.evals.item import LETTERS, Benchmark, EvalItem
from smolvideo.evals.protocol import (
    ExtractorName,
    check_prompt,
    extractor_for,
    format_question,
    letters_known,
)
from smolvideo.evals.protocol.prompts import PromptName
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling, RelativeTime

Scoring = Literal["generate", "likelihood", "options"]
SCORINGS: tuple[Scoring, ...] = get_args(Scoring)

Control = Literal["blind", "shuffled-options", "shuffled-frames", "subtitles-only"]
CONTROLS: tuple[Control, ...] = get_args(Control)

Condition = Literal["main", "blind", "shuffled-options", "shuffled-frames", "subtitles-only"]
"""The item as it is, or one of the controls."""

SubtitleChoice = Literal["auto", "none", "all", "frames"]
SUBTITLE_CHOICES: tuple[SubtitleChoice, ...] = get_args(SubtitleChoice)


@dataclass(frozen=True)
class EvalSettings:
    """Settings of a run.

    ``scoring``: ``generate`` generates an answer and parses it with ``extractor`` (records have the
    name of the rule that ``official`` resolves to); ``likelihood`` takes the letter with the
    highest log-probability, ``options`` the option text with the highest; neither of the two is a
    benchmark's official protocol. ``controls`` are additional conditions: ``blind`` with grey
    frames, ``shuffled-options``, ``shuffled-frames``, and ``subtitles-only`` without any frames.

    ``subtitles``: ``auto`` uses the ones that come with an item, ``all`` also files next to the
    videos, ``frames`` only their lines at the times of the frames, ``none`` none.

    ``sample`` samples that many items, the same for the same ``seed``; a smaller sample is a subset
    of a larger one. ``limit`` then takes the first ones. The seed also shuffles.
    """

    prompt: PromptName = "smolvlm"
    extractor: ExtractorName = "lenient"
    scoring: Scoring = "generate"
    controls: tuple[Control, ...] = ()
    subtitles: SubtitleChoice = "auto"
    seed: int = 0
    sample: int | None = None
    limit: int | None = None
    sampling: FrameSampling = FrameSampling()  # noqa: RUF009 -- frozen
    prompt_options: PromptOptions = PromptOptions()  # noqa: RUF009 -- frozen
    generation: GenerationOptions = GenerationOptions(max_new_tokens=16)  # noqa: RUF009 -- frozen
    reader: str = "auto"

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """``main``, then the controls in the order of ``CONTROLS``."""
        return ("main", *(control for control in CONTROLS if control in self.controls))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values by the names of the options, for records."""
        plain = asdict(self)
        for name in ("start_seconds", "end_seconds"):
            if isinstance(getattr(self.sampling, name), RelativeTime):
                plain["sampling"][name] = str(getattr(self.sampling, name))
        plain["controls"] = list(self.conditions[1:])
        plain["generation"] = self.generation.to_json()
        return plain


def check_settings(settings: EvalSettings, benchmark: Benchmark) -> None:
    """Raise UsageError for settings that the benchmark cannot honour."""
    check_prompt(settings.prompt, benchmark.name)
    shows = _shows(settings.prompt, benchmark)
    if settings.prompt == "open" and settings.scoring == "likelihood":
        raise UsageError(
            "the prompt `open` shows no letters to score",
            hint="`--scoring options` scores the texts of the options",
        )
    if "shuffled-options" in settings.controls and not shows["options"]:
        raise UsageError("the prompt `open` shows no options to shuffle")
    wants_subtitles = "subtitles-only" in settings.controls or settings.subtitles in (
        "all",
        "frames",
    )
    if wants_subtitles and not shows["subtitles"]:
        raise UsageError(
            f"the prompt `{settings.prompt}` for `{benchmark.name}` shows no subtitles",
            hint="the prompt `plain` does",
        )
    if settings.subtitles == "frames" and any(item.subtitles for item in benchmark.items):
        raise UsageError("the subtitles of these items have no times, so no frames to go by")
    most = max(len(item.options) for item in benchmark.items)
    if settings.scoring == "generate":
        extractor = extractor_for(settings.extractor, benchmark.name)
        known = letters_known(extractor)
        if known is not None and most > known:
            raise UsageError(
                f"the extractor `{extractor}` knows the letters A to {LETTERS[known - 1]}, and an "
                f"item has {most} options",
                hint="use `--extractor lenient`",
            )
    if settings.prompt in ("official", "lmms-eval") and benchmark.name == "cinepile" and most > 5:
        raise UsageError(f"the prompt `{settings.prompt}` is for five options, not {most}")


def _shows(prompt: PromptName, benchmark: Benchmark) -> dict[str, bool]:
    marks = ("option-mark", "another-mark")
    text = format_question(prompt, benchmark.name, "?", marks, "subtitle-mark").text
    return {"options": marks[0] in text, "subtitles": "subtitle-mark" in text}


def select_items(items: Sequence[EvalItem], settings: EvalSettings) -> tuple[EvalItem, ...]:
    """Return the items of the run, in the benchmark's order."""
    chosen = list(items)
    if settings.sample is not None:
        drawn = sorted(chosen, key=lambda item: _rank(settings.seed, item))[: settings.sample]
        kept = {item.id for item in drawn}
        chosen = [item for item in chosen if item.id in kept]
    return tuple(chosen[: settings.limit])


def _rank(seed: int, item: EvalItem) -> bytes:
    return hashlib.sha256(f"{seed}/{item.id}".encode("utf-8", "surrogatepass")).digest()
