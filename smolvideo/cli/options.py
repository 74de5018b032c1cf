"""Options shared by several commands, and their conversion to option dataclasses.

Flags have the names of dataclass fields (``--max-frames`` is ``FrameSampling.max_frames``), and
every default is read from the dataclass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, get_args

import click
from click.core import ParameterSource

from smolvideo.cli.main import debug_option
from smolvideo.cli.params import (
    FilePath,
    FloatType,
    IntegerType,
    SectionOption,
    SizeType,
    TimeType,
)
from smolvideo.cli.shell_completion import complete_models
from smolvideo.engines import ENGINES, QUANTIZATIONS, EngineSpec, GenerationOptions
from smolvideo.errors import UsageError
from smolvideo.models.registry import PromptFormat
from smolvideo.prompt import Geometry, PromptOptions
from smolvideo.readers import READERS
from smolvideo.sampling import FrameSampling, Seek, Strategy
from smolvideo.source import DownloadOptions, Named, is_url

Decorator = Callable[[Any], Any]
"""A click decorator: takes a function or command, returns a command."""

DEFAULT_MODEL = "nano"
FILMSTRIPS = ("auto", "kitty", "sixel", "blocks", "times", "none")

FIELD_BY_FLAG = {"start": "start_seconds", "end": "end_seconds"}
"""Flags whose field name has a unit suffix."""


def default_of(options: type, field: str) -> Any:
    """Return the default of a dataclass field, the single source of an option's default."""
    found = next(known for known in fields(options) if known.name == field)
    return None if found.default is MISSING else found.default


def add_options(section: str, *declarations: tuple[tuple[str, ...], dict[str, Any]]) -> Decorator:
    def decorate(command: Any) -> Any:
        for flags, attributes in reversed(declarations):
            command = click.option(*flags, cls=SectionOption, section=section, **attributes)(
                command
            )
        return command

    return decorate


def option(
    *flags: str, default_from: type | None = None, **attributes: Any
) -> tuple[tuple[str, ...], Any]:
    if default_from is not None:
        flag = flags[0].split("/")[0].removeprefix("--").replace("-", "_")
        attributes["default"] = default_of(default_from, FIELD_BY_FLAG.get(flag, flag))
    return flags, attributes


def model_options(command: Any) -> Any:
    """Options that choose the checkpoint."""
    return add_options(
        "Model",
        option(
            "--model",
            "-m",
            default=DEFAULT_MODEL,
            envvar="SMOLVIDEO_MODEL",
            show_envvar=True,
            metavar="NAME",
            shell_complete=complete_models,
            help="A name of `smolvideo models`, a hub id or a folder. nano is bundled and small: "
            "it knows drawn scenes, no real footage.",
        ),
        option("--revision", metavar="REV", show_default="main", help="Revision of a hub model."),
        option(
            "--offline", is_flag=True, default_from=DownloadOptions, help="Touch no network at all."
        ),
    )(command)


def engine_options(command: Any) -> Any:
    """Options of engine, device, dtype and quantization."""
    return add_options(
        "Model",
        option(
            "--engine",
            type=click.Choice(["auto", *ENGINES]),
            default="auto",
            help="What runs the model.",
        ),
        option(
            "--device",
            default="auto",
            metavar="DEVICE",
            help="cpu, cuda, cuda:1, mps; auto is the fastest there is.",
        ),
        option(
            "--dtype",
            default="auto",
            metavar="DTYPE",
            help="bfloat16, float16 or float32; auto is what the device is fast in.",
        ),
        option(
            "--quantize",
            "--quantise",
            type=click.Choice(QUANTIZATIONS),
            default=QUANTIZATIONS[0],
            help="int8: most weights in half the memory of bfloat16; int4: those of the decoder's "
            "layers in less than a third, others as with int8, and it errs more. For the engine "
            "native on a CPU.",
        ),
    )(command)


def sampling_options(command: Any) -> Any:
    """Options of frame sampling."""
    moment = TimeType()
    return add_options(
        "Frames",
        option(
            "--max-frames",
            default_from=FrameSampling,
            type=IntegerType(min=1),
            metavar="N",
            help="Most frames, shared by all sources. What does not fit the context is an error "
            "if you set this; otherwise fewer are taken, with a note.",
        ),
        option(
            "--fps",
            default_from=FrameSampling,
            type=FloatType(min=0, min_open=True),
            metavar="RATE",
            show_default="spread over the window",
            help="Frames to look at in a second, not more than --max-frames in all.",
        ),
        option(
            "--start",
            default_from=FrameSampling,
            type=moment,
            show_default="beginning",
            help="Where to begin: 90, 1:30, 0:01:30.5 or 50%.",
        ),
        option(
            "--end",
            default_from=FrameSampling,
            type=moment,
            show_default="end",
            help="Where to end.",
        ),
        option(
            "--strategy",
            default_from=FrameSampling,
            type=click.Choice(get_args(Strategy)),
            help="uniform: evenly in time. v1, smolvlm2: as the official code of that family does. "
            "scenes: a frame or more of every shot. changes: only what differs, most where most "
            "changes. keyframes: frames that the file stores whole.",
        ),
        option(
            "--seek",
            default_from=FrameSampling,
            type=click.Choice(get_args(Seek)),
            help="exact: the frame on screen at each time. keyframes: a quick look at the key "
            "frames before them, which may be seconds too early.",
        ),
        option(
            "--reader",
            type=click.Choice(["auto", *READERS]),
            default="auto",
            help="What decodes videos; auto is pyav, and the next where that cannot.",
        ),
    )(command)


def geometry_option(*more: str) -> Decorator:
    """``--geometry``: the transform of frames to the model's square; ``more`` adds choices."""
    return add_options(
        "Frames",
        option(
            "--geometry",
            default_from=PromptOptions,
            type=click.Choice([*get_args(Geometry), *more]),
            show_default="official",
            help="How a frame is fitted to the model's square: as its own pipeline does, squeezed, "
            "or with bars." + (" none: as a player shows it." if more else ""),
        ),
    )


def prompt_options(command: Any) -> Any:
    """Options of packing the prompt."""
    return add_options(
        "Prompt",
        option(
            "--layout",
            default_from=PromptOptions,
            type=click.Choice(get_args(PromptFormat)),
            show_default="the model's own",
            help="How the prompt is laid out.",
        ),
        option(
            "--split-images/--no-split-images",
            default_from=PromptOptions,
            show_default="if alone",
            help="Cut still pictures into tiles, for small things.",
        ),
        option(
            "--subtitles",
            metavar="FILE|auto",
            show_default="none",
            help="Give the model the subtitles near the frames: a file (.srt, .vtt, .ass, …), or "
            "auto for the one beside the video or the text track in it.",
        ),
    )(command)


def generation_options(command: Any) -> Any:
    """Options of generating the answer."""
    return add_options(
        "Answer",
        option(
            "--max-new-tokens",
            default_from=GenerationOptions,
            type=IntegerType(min=1),
            metavar="N",
            help="Longest answer, in tokens.",
        ),
        option(
            "--temperature",
            default_from=GenerationOptions,
            type=FloatType(min=0),
            metavar="T",
            help="0 takes the likeliest token each time; above, tokens are drawn.",
        ),
        option(
            "--top-p",
            default_from=GenerationOptions,
            type=FloatType(min=0, max=1, min_open=True),
            metavar="P",
            help="Draw among the likeliest with this probability together.",
        ),
        option(
            "--repetition-penalty",
            default_from=GenerationOptions,
            type=FloatType(min=0, min_open=True),
            metavar="X",
            help="Above 1: what was said becomes less likely.",
        ),
        option(
            "--seed",
            default_from=GenerationOptions,
            type=IntegerType(),
            metavar="N",
            show_default="a new one each time",
            help="Where drawing begins: the same seed gives the same answer.",
        ),
        option(
            "--stop",
            default_from=GenerationOptions,
            multiple=True,
            metavar="TEXT",
            show_default="none",
            help="End the answer where this appears. Repeatable.",
        ),
    )(command)


def download_options(command: Any) -> Any:
    """Options of downloading URLs."""
    return add_options(
        "Download",
        option(
            "--cookies",
            default_from=DownloadOptions,
            type=FilePath(),
            metavar="FILE",
            show_default="none",
            help="Cookies in Netscape format.",
        ),
        option(
            "--cookies-from-browser",
            default_from=DownloadOptions,
            metavar="BROWSER",
            show_default="none",
            help="firefox, chrome, … as yt-dlp names them.",
        ),
        option(
            "--max-filesize",
            default_from=DownloadOptions,
            type=SizeType(),
            show_default="no limit",
            help="Refuse larger downloads: 500M, 2GiB.",
        ),
        option(
            "--max-height",
            default_from=DownloadOptions,
            type=IntegerType(min=1),
            metavar="LINES",
            help="Highest resolution to download.",
        ),
    )(command)


def screen_options(command: Any) -> Any:
    """Options of terminal output."""
    command = debug_option(command)
    return add_options(
        "Terminal",
        option(
            "--filmstrip",
            type=click.Choice(FILMSTRIPS),
            default="auto",
            envvar="SMOLVIDEO_FILMSTRIP",
            show_envvar=True,
            help="How to show the frames the model saw; auto is the best the terminal can.",
        ),
        option("--no-filmstrip", is_flag=True, default=False, help="Short for --filmstrip none."),
        option("--quiet", is_flag=True, default=False, help="Nothing but the answer and errors."),
        option(
            "--verbose", "-v", is_flag=True, default=False, help="Settings and the prompt, too."
        ),
    )(command)


def is_explicit(ctx: click.Context, name: str) -> bool:
    """Whether the value is from the command line or the environment, not a default."""
    source = ctx.get_parameter_source(name)
    return source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def is_on_command_line(ctx: click.Context, name: str) -> bool:
    """Whether the value is from the command line, not from the environment or a default."""
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def read_sampling(ctx: click.Context) -> FrameSampling:
    """Read the sampling options; an explicit number of frames is never reduced."""
    given = ctx.params
    return FrameSampling(
        max_frames=given["max_frames"],
        fps=given["fps"],
        start_seconds=given["start"],
        end_seconds=given["end"],
        strategy=given["strategy"],
        seek=given["seek"],
        reduce_to_fit=not is_explicit(ctx, "max_frames"),
    )


def read_generation(ctx: click.Context) -> GenerationOptions:
    """Read the generation options. Raises UsageError for a seed or top-p at temperature 0."""
    given = ctx.params
    if given["temperature"] == 0:
        for name in ("top_p", "seed"):
            if is_explicit(ctx, name):
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"`{flag}` has no effect: without `--temperature` above 0 nothing is drawn",
                    hint=f"add `--temperature 0.7`, or leave `{flag}` out",
                )
    names = [field.name for field in fields(GenerationOptions)]
    return GenerationOptions(**{name: given[name] for name in names})


def read_prompt_options(ctx: click.Context) -> PromptOptions:
    """Read the prompt options."""
    return PromptOptions(**{field.name: ctx.params[field.name] for field in fields(PromptOptions)})


def read_engine_spec(given: Mapping[str, Any]) -> EngineSpec:
    """Read model and engine options, for commands that have some or all of them."""
    names = (part.name for part in fields(EngineSpec))
    return EngineSpec(**{name: given[name] for name in names if name in given})


def read_download(ctx: click.Context, given_sources: Sequence[Named]) -> DownloadOptions:
    """Read the download options. Raises UsageError if they are set and no source is a URL."""
    names = ("cookies", "cookies_from_browser", "max_filesize", "max_height")
    if not any(is_url(str(source)) for source in given_sources):
        for name in names:
            if is_explicit(ctx, name):
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"`{flag}` is for downloads, and no source is a URL")
    return DownloadOptions(**{name: ctx.params[name] for name in (*names, "offline")})
