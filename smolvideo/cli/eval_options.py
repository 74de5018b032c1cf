"""Options of ``smolvideo eval BENCHMARK``, shared by all benchmarks."""

from pathlib import Path
from typing import Any, get_args

import click

from smolvideo.cli.main import debug_option
from smolvideo.cli.options import (
    download_options,
    engine_options,
    geometry_option,
    model_options,
    sampling_options,
)
from smolvideo.cli.params import FilePath, FloatType, IntegerType, SectionOption
from smolvideo.evals.protocol import EXTRACTORS, PROMPTS
from smolvideo.evals.settings import CONTROLS, SCORINGS, SUBTITLE_CHOICES, EvalSettings
from smolvideo.evals.videos import VideoDownloader
from smolvideo.models.registry import PromptFormat

_DEFAULTS = EvalSettings()
NANO_MAX_NEW_TOKENS = 64
"""nano answers with the text of the option before its letter; the longest are descriptions."""


def eval_options(versions: list[str]) -> Any:
    """Decorate a command with all options; ``versions`` are the dataset versions on the hub."""
    declarations: list[tuple[tuple[str, ...], str, dict[str, Any]]] = []

    def option(*flags: str, section: str, **attributes: Any) -> None:
        declarations.append((flags, section, attributes))

    # Section "Data".
    if len(versions) > 1:
        option(
            "--data-version",
            section="Data",
            type=click.Choice(versions),
            show_default=versions[0],
            help="Which one to fetch from the hub where no FILE is named.",
        )
    option(
        "--videos",
        section="Data",
        type=FilePath(),
        metavar="DIR",
        show_default="the folder of FILE",
        help="Where the videos are, under the benchmark's names; subfolders count.",
    )
    option(
        "--download",
        section="Data",
        is_flag=True,
        default=False,
        help="Fetch videos that are not there. Each is tried in three runs at most.",
    )
    option(
        "--download-every",
        section="Data",
        type=FloatType(min=0),
        metavar="SECONDS",
        default=VideoDownloader.min_interval_seconds,
        help="At most one download in so many seconds.",
    )
    option(
        "--sample",
        section="Data",
        type=IntegerType(min=1),
        metavar="N",
        show_default="all",
        help="N questions drawn by --seed; a smaller sample is part of a larger one.",
    )
    option(
        "--limit",
        section="Data",
        type=IntegerType(min=1),
        metavar="N",
        show_default="none",
        help="The first N questions only.",
    )
    option(
        "--seed",
        section="Data",
        type=IntegerType(min=0),
        metavar="N",
        default=_DEFAULTS.seed,
        help="Of --sample and of what controls shuffle.",
    )
    # Section "Protocol".
    option(
        "--prompt",
        section="Protocol",
        type=click.Choice(PROMPTS),
        show_default="smolvlm; open with --scoring options",
        help="official is CinePile's own; smolvlm the nearest to its authors' run; lmms-eval as "
        "that tool asks; plain and open are ours.",
    )
    option(
        "--extractor",
        section="Protocol",
        type=click.Choice(EXTRACTORS),
        metavar="NAME",
        default=_DEFAULTS.extractor,
        help="How the option is read off an answer: lenient, in any usual dress and language; "
        "official, by the rule of the tool that publishes scores of the benchmark; or one of these "
        f"rules by its name: {', '.join(EXTRACTORS[2:])}.",
    )
    option(
        "--scoring",
        section="Protocol",
        type=click.Choice(SCORINGS),
        default=_DEFAULTS.scoring,
        help="Let the model answer; or take the likeliest letter, or the option whose text is the "
        "likeliest answer (no official protocol).",
    )
    option(
        "--subtitles",
        section="Protocol",
        type=click.Choice(SUBTITLE_CHOICES),
        default=_DEFAULTS.subtitles,
        help="auto: those that come with a question; all: also files beside the videos; frames: "
        "only their lines at the times of the frames.",
    )
    option(
        "--control",
        "controls",
        section="Protocol",
        type=click.Choice(CONTROLS),
        multiple=True,
        show_default="none",
        help="Ask everything once more with grey frames, other orders, or no frames. Repeatable.",
    )
    option(
        "--max-new-tokens",
        section="Protocol",
        type=IntegerType(min=1),
        metavar="N",
        default=_DEFAULTS.generation.max_new_tokens,
        show_default=f"{_DEFAULTS.generation.max_new_tokens}, as lmms-eval; {NANO_MAX_NEW_TOKENS} "
        "for nano",
        help="Longest answer, in tokens. nano says more than its letter.",
    )
    option(
        "--layout",
        section="Protocol",
        type=click.Choice(get_args(PromptFormat)),
        show_default="the model's own",
        help="How the prompt is laid out.",
    )
    # Section "Run".
    option(
        "--run",
        section="Run",
        type=FilePath(),
        metavar="DIR",
        show_default="runs/BENCHMARK-MODEL",
        help="The run's folder; one that is there goes on where it stopped, failures included.",
    )
    option(
        "--only-failed",
        section="Run",
        is_flag=True,
        default=False,
        help="Try failures again, and nothing that was not reached yet.",
    )
    option(
        "--json",
        section="Run",
        is_flag=True,
        default=False,
        help="The scores as one JSON object instead of charts.",
    )
    option("--quiet", section="Run", is_flag=True, default=False, help="Nothing on stderr.")

    # Decorators apply from the last section of the help to the first.
    def decorate(command: Any) -> Any:
        command = debug_option(command)
        command = download_options(command)
        command = _declare([one for one in declarations if one[1] == "Run"])(command)
        command = _declare([one for one in declarations if one[1] == "Protocol"])(command)
        command = geometry_option()(sampling_options(command))
        command = model_options(engine_options(command))
        return _declare([one for one in declarations if one[1] == "Data"])(command)

    return decorate


def _declare(declarations: list[tuple[tuple[str, ...], str, dict[str, Any]]]) -> Any:
    def decorate(command: Any) -> Any:
        for flags, section, attributes in reversed(declarations):
            command = click.option(*flags, cls=SectionOption, section=section, **attributes)(
                command
            )
        return command

    return decorate


def default_run_folder(name: str, model: str) -> Path:
    """Return the folder of a run without ``--run``: ``runs/BENCHMARK-MODEL``."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in model).strip("-.")
    return Path("runs") / f"{name}-{plain[-80:] or 'model'}"
