"""Groups of options shared by several commands, and their conversion to option dataclasses.

Flags have the names of dataclass fields (``--max-frames`` is ``FrameSampling.max_frames``), and
every default is read from the dataclass.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from smolvideo.answer_schema import MAX_ITEMS, MAX_STRING_LENGTH, read_schema
from smolvideo.cli.flags import FilePath, Flags, FloatType, IntegerType, SizeType, TimeType, flag
from smolvideo.engines import GenerationOptions
from smolvideo.errors import UsageError
from smolvideo.models.registry import PromptFormat
from smolvideo.prompt import Geometry, PromptOptions
from smolvideo.readers import READERS
from smolvideo.sampling import FrameSampling, RelativeTime, Seek, Strategy
from smolvideo.show.filmstrip import FilmstripChoice
from smolvideo.source import DownloadOptions, Named, is_url, read_source_list

DOWNLOAD_FIELDS = ("cookies", "cookies_from_browser", "max_filesize", "max_height")


class SamplingFlags(Flags, section="Frames"):
    """Options of frame sampling."""

    max_frames: int = flag(
        default_from=FrameSampling,
        type=IntegerType(min=1),
        metavar="N",
        help="Maximum number of frames, shared by all sources. Too many for the context "
        "are an error if this option is given; otherwise they are reduced, with a "
        "note.",
    )
    fps: float | None = flag(
        default_from=FrameSampling,
        type=FloatType(min=0, min_open=True),
        metavar="RATE",
        show_default="spread over the window",
        help="Frames per second of video, up to --max-frames in total.",
    )
    start: float | RelativeTime | None = flag(
        default_from=FrameSampling,
        type=TimeType(),
        show_default="beginning",
        help="Start of the window: 90, 1:30, 0:01:30.5 or 50%.",
    )
    end: float | RelativeTime | None = flag(
        default_from=FrameSampling, type=TimeType(), show_default="end", help="End of the window."
    )
    strategy: Strategy = flag(
        default_from=FrameSampling,
        type=click.Choice(get_args(Strategy)),
        help="uniform: evenly spaced in time. v1, smolvlm2: as in the official code of "
        "that family. scenes: at least one frame per shot. changes: only frames that "
        "differ from the one before. keyframes: the key frames of the file.",
    )
    seek: Seek = flag(
        default_from=FrameSampling,
        type=click.Choice(get_args(Seek)),
        help="exact: the frame on screen at each time. keyframes: the last key frame "
        "before it, which is faster and may be seconds too early.",
    )
    reader: str = flag(
        type=click.Choice(["auto", *READERS]),
        default="auto",
        help="Video decoder; auto is pyav, or the next one if pyav cannot read the file.",
    )


def geometry_flag(*more: str) -> Any:
    """``--geometry``: the transform of frames to the model's square; ``more`` adds choices."""
    return flag(
        default_from=PromptOptions,
        type=click.Choice([*get_args(Geometry), *more]),
        show_default="official",
        help="How a frame is resized to the model's square: as in its own pipeline, "
        "stretched, or padded with bars." + (" none: as a player shows it." if more else ""),
    )


class GeometryFlags(Flags, section="Frames"):
    """The option ``--geometry``."""

    geometry: Geometry | None = geometry_flag()


class PromptFlags(Flags, section="Prompt"):
    """Options of packing the prompt."""

    layout: PromptFormat | None = flag(
        default_from=PromptOptions,
        type=click.Choice(get_args(PromptFormat)),
        show_default="the model's own",
        help="Prompt format.",
    )
    split_images: bool | None = flag(
        "--split-images/--no-split-images",
        default_from=PromptOptions,
        show_default="if alone",
        help="Split images into tiles, for small details.",
    )
    subtitles: str | None = flag(
        metavar="FILE|auto",
        show_default="none",
        help="Add the subtitles near the frames to the prompt: a file (.srt, .vtt, .ass, "
        "…), or auto for a sidecar file or a text track of the video.",
    )


class GenerationFlags(Flags, section="Answer"):
    """Options of generating the answer."""

    max_new_tokens: int = flag(
        default_from=GenerationOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Maximum length of the answer in tokens.",
    )
    temperature: float = flag(
        default_from=GenerationOptions,
        type=FloatType(min=0),
        metavar="T",
        help="0: greedy decoding (argmax); above 0: sampling.",
    )
    top_p: float = flag(
        default_from=GenerationOptions,
        type=FloatType(min=0, max=1, min_open=True),
        metavar="P",
        help="Sample from the most probable tokens whose total probability reaches P.",
    )
    repetition_penalty: float = flag(
        default_from=GenerationOptions,
        type=FloatType(min=0, min_open=True),
        metavar="X",
        help="Above 1: tokens that occurred before become less likely.",
    )
    seed: int | None = flag(
        default_from=GenerationOptions,
        type=IntegerType(),
        metavar="N",
        show_default="random",
        help="Seed of sampling: the same seed gives the same answer.",
    )
    stop: tuple[str, ...] = flag(
        default_from=GenerationOptions,
        multiple=True,
        metavar="TEXT",
        show_default="none",
        help="Stop string: the answer ends before it. Repeatable.",
    )


class SchemaFlags(Flags, section="Answer"):
    """The option ``--schema``."""

    schema: str | None = flag(
        excludes=("stop", "choices", "rate"),
        metavar="SCHEMA",
        show_default="free text",
        help="Answer as JSON by a JSON Schema: a file, JSON, or fields such as 'name, count int, "
        "colour red|blue, tags str[]'. Choices (red|blue) are right more often than free text. "
        f"Strings have {MAX_STRING_LENGTH} characters and arrays {MAX_ITEMS} items at most, unless "
        "the schema says otherwise. Needs: pip install 'smolvideo[json]'.",
    )


class DownloadFlags(Flags, section="Download"):
    """Options of downloading URLs."""

    cookies: Path | None = flag(
        default_from=DownloadOptions,
        type=FilePath(),
        metavar="FILE",
        show_default="none",
        help="Cookies in Netscape format.",
    )
    cookies_from_browser: str | None = flag(
        default_from=DownloadOptions,
        metavar="BROWSER",
        show_default="none",
        help="firefox, chrome, … as yt-dlp names them.",
    )
    max_filesize: int | None = flag(
        default_from=DownloadOptions,
        type=SizeType(),
        show_default="no limit",
        help="Refuse larger downloads: 500M, 2GiB.",
    )
    max_height: int | None = flag(
        default_from=DownloadOptions,
        type=IntegerType(min=1),
        metavar="LINES",
        help="Maximum resolution to download.",
    )

    def download_options(self, *, offline: bool) -> DownloadOptions:
        """Return the options of downloads."""
        return DownloadOptions(
            cookies=self.cookies,
            cookies_from_browser=self.cookies_from_browser,
            max_filesize=self.max_filesize,
            max_height=self.max_height,
            offline=offline,
        )


class ListFlags(Flags, section="Sources"):
    """Sources from a file."""

    source_list: Path | None = flag(
        "--list",
        "-a",
        type=FilePath(),
        metavar="FILE",
        show_default="none",
        help="More sources, one per line; - is stdin. Files must be in the folder of FILE "
        "or below.",
    )
    allow_outside: bool = flag(help="Allow files outside of the list's folder.")


class ScreenFlags(Flags, section="Terminal"):
    """Options of terminal output."""

    filmstrip: FilmstripChoice = flag(
        type=click.Choice(get_args(FilmstripChoice)),
        excludes=("no_filmstrip",),
        default="auto",
        envvar="SMOLVIDEO_FILMSTRIP",
        show_envvar=True,
        help="How to show the frames of the model; auto is the best that the terminal supports.",
    )
    no_filmstrip: bool = flag(help="Same as --filmstrip none.")
    quiet: bool = flag(excludes=("verbose",), help="Print only the answer and errors.")
    verbose: bool = flag("-v", excludes=("quiet",), help="Also print settings and the prompt.")


def read_sampling(given: SamplingFlags) -> FrameSampling:
    """Read the sampling options; an explicit number of frames is never reduced."""
    return FrameSampling(
        max_frames=given.max_frames,
        fps=given.fps,
        start_seconds=given.start,
        end_seconds=given.end,
        strategy=given.strategy,
        seek=given.seek,
        reduce_to_fit=not given.is_explicit("max_frames"),
    )


def read_generation(given: GenerationFlags) -> GenerationOptions:
    """Read the generation options, and the schema of commands that have one.

    Raises UsageError for a seed or top-p at temperature 0, and for a schema that is not supported;
    ModelError where the library for schemas is not installed.
    """
    if given.temperature == 0 and (useless := given.first_explicit("top_p", "seed")):
        raise UsageError(
            f"`{useless}` has no effect: without `--temperature` above 0 nothing is drawn",
            hint=f"add `--temperature 0.7`, or leave `{useless}` out",
        )
    return GenerationOptions(
        max_new_tokens=given.max_new_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
        repetition_penalty=given.repetition_penalty,
        seed=given.seed,
        stop=given.stop,
        schema=_read_schema(given),
    )


def _read_schema(given: GenerationFlags) -> str | None:
    argument = given.schema if isinstance(given, SchemaFlags) else None
    return None if argument is None else read_schema(argument)


def read_download(
    given: DownloadFlags, given_sources: Sequence[Named], *, offline: bool
) -> DownloadOptions:
    """Read the download options. Raises UsageError if they are set and no source is a URL."""
    if not any(is_url(str(source)) for source in given_sources) and (
        useless := given.first_explicit(*DOWNLOAD_FIELDS)
    ):
        raise UsageError(f"`{useless}` is for downloads, and no source is a URL")
    return given.download_options(offline=offline)


def allows_outside(given: ListFlags) -> bool:
    """Read ``--allow-outside``. Raises UsageError without ``--list``."""
    if given.is_explicit("allow_outside") and given.source_list is None:
        raise UsageError("`--allow-outside` is about the files of a `--list`: there is none")
    return given.allow_outside


def read_list(given: ListFlags) -> list[Named]:
    """Read the sources of ``--list``; empty without one. Raises SourceError, UsageError."""
    allow_outside, path = allows_outside(given), given.source_list
    return [] if path is None else read_source_list(path, allow_outside=allow_outside)
