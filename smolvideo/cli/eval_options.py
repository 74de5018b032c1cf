"""Options of ``smolvideo eval BENCHMARK``, shared by all benchmarks."""

from pathlib import Path
from typing import Any, get_args

import click

from smolvideo.cli.flags import FilePath, Flags, FloatType, IntegerType, argument, flag
from smolvideo.cli.model_options import EngineFlags
from smolvideo.cli.options import DownloadFlags, GeometryFlags, SamplingFlags
from smolvideo.cli.ray_options import RayFlags
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
from smolvideo.evals.shards import Shard
from smolvideo.evals.videos import VideoDownloader
from smolvideo.models.registry import PromptFormat

_DEFAULTS = EvalSettings()
GROUP_HELP = (
    "Score groups by this field of the questions, or by the combinations of several: "
    "duration,domain,task_type. Repeatable."
)
NANO_MAX_NEW_TOKENS = 64
"""nano answers with the text of the option before its letter; the longest are descriptions."""


class ShardType(click.ParamType):  # type: ignore[type-arg]
    """``3/8``"""

    name = "shard"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        if isinstance(value, Shard):
            return value
        try:
            return Shard.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class EvalDataFlags(Flags, section="Data"):
    """The questions and their videos."""

    data: Path | None = argument(type=FilePath(), required=False, metavar="[FILE]")
    data_version: str | None = flag(help="Version to download from the hub without FILE.")
    videos: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="the folder of FILE",
        help="Folder of the videos, under the benchmark's names; subfolders are searched, too.",
    )
    download: bool = flag(help="Download missing videos. Each is tried in at most three runs.")
    download_every: float = flag(
        type=FloatType(min=0),
        metavar="SECONDS",
        default=VideoDownloader.min_interval_seconds,
        help="Minimum seconds between downloads.",
    )
    sample: int | None = flag(
        type=IntegerType(min=1),
        metavar="N",
        show_default="all",
        help="N questions sampled with --seed; a smaller sample is a subset of a larger one.",
    )
    limit: int | None = flag(
        type=IntegerType(min=1),
        metavar="N",
        show_default="none",
        help="Only the first N questions.",
    )
    shard: Shard | None = flag(
        type=ShardType(),
        metavar="N/COUNT",
        show_default="all",
        help="Ask the questions about every COUNT-th video, in a run of their own; `eval merge` "
        "joins the runs of all shards.",
    )
    unlabelled: bool = flag(
        help="Also ask questions without a public answer; they are in no score, and `eval export` "
        "writes the submission for EgoSchema's server."
    )
    seed: int = flag(
        type=IntegerType(min=0),
        metavar="N",
        default=_DEFAULTS.seed,
        help="Seed of --sample and of the shuffled controls.",
    )


class ProtocolFlags(Flags, section="Protocol"):
    """How questions are asked and answers scored."""

    prompt: PromptName | None = flag(
        type=click.Choice(PROMPTS),
        show_default="smolvlm; open with --scoring options",
        help="official: CinePile's own. smolvlm: the closest to the protocol of SmolVLM's "
        "authors. lmms-eval, vlmevalkit: as in that tool. plain, open: of this project.",
    )
    extractor: ExtractorName = flag(
        type=click.Choice(EXTRACTORS),
        metavar="NAME",
        default=_DEFAULTS.extractor,
        help="Rule that extracts the option from an answer: lenient, in any usual wording "
        "and language; official, the rule of the tool that publishes scores of the "
        f"benchmark; or one of these by name: {', '.join(EXTRACTORS[2:])}.",
    )
    scoring: Scoring = flag(
        type=click.Choice(SCORINGS),
        default=_DEFAULTS.scoring,
        help="generate: let the model answer. likelihood: the letter with the highest "
        "log-probability. options: the option whose text has the highest "
        "log-probability. The last two are no official protocol.",
    )
    subtitles: SubtitleChoice = flag(
        type=click.Choice(SUBTITLE_CHOICES),
        default=_DEFAULTS.subtitles,
        help="auto: those of the question. all: also files next to the videos. frames: "
        "only the lines at the times of the frames.",
    )
    controls: tuple[Control, ...] = flag(
        "--control",
        type=click.Choice(CONTROLS),
        default=(),
        multiple=True,
        show_default="none",
        help="Repeat all questions with grey frames, shuffled options or frames, or no "
        "frames. Repeatable.",
    )
    max_new_tokens: int = flag(
        type=IntegerType(min=1),
        metavar="N",
        default=_DEFAULTS.generation.max_new_tokens,
        show_default=f"{_DEFAULTS.generation.max_new_tokens}, as lmms-eval; {NANO_MAX_NEW_TOKENS} "
        "for nano",
        help="Maximum length of an answer in tokens. nano writes more than the letter.",
    )
    layout: PromptFormat | None = flag(
        type=click.Choice(get_args(PromptFormat)),
        show_default="the model's own",
        help="Prompt format.",
    )


class EvalRunFlags(RayFlags, section="Run"):
    """The run and its output."""

    run: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="runs/BENCHMARK-MODEL",
        help="Folder of the run; an existing run is resumed and its failures are repeated.",
    )
    group: tuple[str, ...] = flag(
        metavar="FIELD[,FIELD]",
        default=(),
        multiple=True,
        show_default="each field",
        help=GROUP_HELP,
    )
    only_failed: bool = flag(help="Repeat failures only, without pending questions.")
    as_json: bool = flag("--json", help="Scores as one JSON object instead of charts.")
    quiet: bool = flag(help="Print nothing to stderr.")


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


def default_run_folder(name: str, model: str, shard: Shard | None = None) -> Path:
    """Return the folder of a run without ``--run``: ``runs/BENCHMARK-MODEL``, and ``-3of8``."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in model).strip("-.")
    end = "" if shard is None else f"-{shard.number}of{shard.count}"
    return Path("runs") / f"{name}-{plain[-80:] or 'model'}{end}"
