"""Options of ``smolvideo eval BENCHMARK``, shared by all benchmarks."""

from pathlib import Path
from typing import get_args

import click

from smolvideo.cli.flags import FilePath, Flags, FloatType, IntegerType, argument, flag
from smolvideo.cli.options import DownloadFlags, EngineFlags, GeometryFlags, SamplingFlags
from smolvideo.evals.protocol import EXTRACTORS, PROMPTS, ExtractorName
from smolvideo.evals.protocol.prompts import PromptName
from smolvideo.evals.settings import (
    CONTROLS,
    SCORINGS,
    SUBTITLE_CHOICES,
    Control,
    EvalSettings,
    Scoring,
    SubtitleChoice,
)
from smolvideo.evals.videos import VideoDownloader
from smolvideo.models.registry import PromptFormat

_DEFAULTS = EvalSettings()
NANO_MAX_NEW_TOKENS = 64
"""nano answers with the text of the option before its letter; the longest are descriptions."""


class EvalDataFlags(Flags, section="Data"):
    """The questions and their videos."""

    data: Path | None = argument(type=FilePath(), required=False, metavar="[FILE]")
    data_version: str | None = flag(help="Which one to fetch from the hub where no FILE is named.")
    videos: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="the folder of FILE",
        help="Where the videos are, under the benchmark's names; subfolders count.",
    )
    download: bool = flag(
        help="Fetch videos that are not there. Each is tried in three runs at most."
    )
    download_every: float = flag(
        type=FloatType(min=0),
        metavar="SECONDS",
        default=VideoDownloader.min_interval_seconds,
        help="At most one download in so many seconds.",
    )
    sample: int | None = flag(
        type=IntegerType(min=1),
        metavar="N",
        show_default="all",
        help="N questions drawn by --seed; a smaller sample is part of a larger one.",
    )
    limit: int | None = flag(
        type=IntegerType(min=1),
        metavar="N",
        show_default="none",
        help="The first N questions only.",
    )
    seed: int = flag(
        type=IntegerType(min=0),
        metavar="N",
        default=_DEFAULTS.seed,
        help="Of --sample and of what controls shuffle.",
    )


class ProtocolFlags(Flags, section="Protocol"):
    """How questions are asked and answers scored."""

    prompt: PromptName | None = flag(
        type=click.Choice(PROMPTS),
        show_default="smolvlm; open with --scoring options",
        help="official is CinePile's own; smolvlm the nearest to its authors' run; lmms-eval as "
        "that tool asks; plain and open are ours.",
    )
    extractor: ExtractorName = flag(
        type=click.Choice(EXTRACTORS),
        metavar="NAME",
        default=_DEFAULTS.extractor,
        help="How the option is read off an answer: lenient, in any usual dress and language; "
        "official, by the rule of the tool that publishes scores of the benchmark; or one of these "
        f"rules by its name: {', '.join(EXTRACTORS[2:])}.",
    )
    scoring: Scoring = flag(
        type=click.Choice(SCORINGS),
        default=_DEFAULTS.scoring,
        help="Let the model answer; or take the likeliest letter, or the option whose text is the "
        "likeliest answer (no official protocol).",
    )
    subtitles: SubtitleChoice = flag(
        type=click.Choice(SUBTITLE_CHOICES),
        default=_DEFAULTS.subtitles,
        help="auto: those that come with a question; all: also files beside the videos; frames: "
        "only their lines at the times of the frames.",
    )
    controls: tuple[Control, ...] = flag(
        "--control",
        type=click.Choice(CONTROLS),
        default=(),
        multiple=True,
        show_default="none",
        help="Ask everything once more with grey frames, other orders, or no frames. Repeatable.",
    )
    max_new_tokens: int = flag(
        type=IntegerType(min=1),
        metavar="N",
        default=_DEFAULTS.generation.max_new_tokens,
        show_default=f"{_DEFAULTS.generation.max_new_tokens}, as lmms-eval; {NANO_MAX_NEW_TOKENS} "
        "for nano",
        help="Longest answer, in tokens. nano says more than its letter.",
    )
    layout: PromptFormat | None = flag(
        type=click.Choice(get_args(PromptFormat)),
        show_default="the model's own",
        help="How the prompt is laid out.",
    )


class EvalRunFlags(Flags, section="Run"):
    """The run and its output."""

    run: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="runs/BENCHMARK-MODEL",
        help="The run's folder; one that is there goes on where it stopped, failures included.",
    )
    only_failed: bool = flag(help="Try failures again, and nothing that was not reached yet.")
    as_json: bool = flag("--json", help="The scores as one JSON object instead of charts.")
    quiet: bool = flag(help="Nothing on stderr.")


class EvalFlags(
    EvalDataFlags,
    EngineFlags,
    GeometryFlags,
    SamplingFlags,
    ProtocolFlags,
    EvalRunFlags,
    DownloadFlags,
):
    """All options of a benchmark."""


def default_run_folder(name: str, model: str) -> Path:
    """Return the folder of a run without ``--run``: ``runs/BENCHMARK-MODEL``."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in model).strip("-.")
    return Path("runs") / f"{name}-{plain[-80:] or 'model'}"
