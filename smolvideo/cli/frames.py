"""``smolvideo frames``: show or export the sampled frames of a video without running a model."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import click
from PIL import Image

from smolvideo.cli.flags import FilePath, Flags, SectionCommand, argument, flag, takes
from smolvideo.cli.model_choice import choose_engine
from smolvideo.cli.model_options import ModelFlags
from smolvideo.cli.options import (
    DownloadFlags,
    SamplingFlags,
    ScreenFlags,
    geometry_flag,
    read_download,
    read_sampling,
)
from smolvideo.cli.outputs import (
    check_new_file,
    check_new_folder,
    check_not_a_source,
    check_not_an_input_file,
    read_filmstrip,
    save_atomic,
)
from smolvideo.cli.shell_completion import complete_files
from smolvideo.cost.choose import NoModelError, all_drawn
from smolvideo.errors import UsageError
from smolvideo.formatting import format_clock
from smolvideo.frames import FrameBatch
from smolvideo.models.registry import PromptFormat
from smolvideo.pipeline import load_frames, prepare
from smolvideo.prompt import PLACEHOLDER_QUESTION, Geometry, PromptOptions
from smolvideo.readers import open_video, prestart_process
from smolvideo.records import json_line
from smolvideo.sampling import FrameSampling
from smolvideo.show.console import Output, open_screen
from smolvideo.show.filmstrip import (
    FilmstripChoice,
    captions,
    draw_contact_sheet,
    show_filmstrip,
    shown_aspect,
)
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.tables import show_table
from smolvideo.source import VideoSource, resolve_source

ORIGINAL_ASPECT: Final = "none"
"""The ``--geometry`` of frames in display aspect ratio, not transformed for a model."""

_NO_MODEL = "frames are as a player shows them, and what fits a context is not counted"
_MAX_SHOWN = 640
"""Longest side in pixels of frames for display only: fifty 8K frames would take 5 GB."""


class FrameOutputFlags(Flags, section="Output"):
    """Source and output files."""

    source: str = argument(shell_complete=complete_files)
    output: Path | None = flag(
        "-o",
        type=FilePath(),
        metavar="DIR",
        show_default="none",
        help="Write each frame as a PNG, named by its number and time.",
    )
    sheet: Path | None = flag(
        type=FilePath(),
        metavar="FILE",
        show_default="none",
        help="Write all frames with their times as one image (.png, .jpg, .webp).",
    )
    overwrite: bool = flag(help="Replace files that exist.")
    as_json: bool = flag("--json", help="Metadata and times as one JSON object.")


class AspectFlags(Flags, section="Frames"):
    """``--geometry`` with one choice more."""

    geometry: Geometry | Literal["none"] | None = geometry_flag(ORIGINAL_ASPECT)


class FramesFlags(
    FrameOutputFlags, ModelFlags, SamplingFlags, AspectFlags, DownloadFlags, ScreenFlags
):
    """All options of the command."""


@click.command(cls=SectionCommand)
@takes(FramesFlags)
def frames(given: FramesFlags) -> None:
    """Show the frames that a model will see.

    Filmstrip and times of the frames that `ask` would give to the model: chosen by the same
    options, reduced to what fits its context, and resized to its square. `--geometry none` shows
    them as a player does.

    \b
    smolvideo frames party.mp4
    smolvideo frames party.mp4 --geometry none --output frames/ --sheet sheet.png
    """
    filmstrip, sampling = read_filmstrip(given), read_sampling(given)
    download = read_download(given, [given.source], offline=given.offline)
    _check_outputs(given)
    _check_no_model(given)
    prestart_process()
    screen = open_screen(quiet=given.quiet, verbose=given.verbose)
    # Resolve the source and decode its frames, for display or as the model gets them.
    with StageProgress(screen) as stages:
        source = _one_source(
            resolve_source(given.source, download=download, on_progress=stages.on_progress)
        )
        for name, path in (("--output", given.output), ("--sheet", given.sheet)):
            if path is not None:
                check_not_a_source(name, path, [source.path])
        if given.geometry == ORIGINAL_ASPECT:
            seen = _as_played(given, source, sampling, stages)
        else:
            try:
                seen = _seen_by_model(given, source, given.geometry, screen, stages)
            except NoModelError as error:
                if given.geometry is not None:
                    raise
                seen = _as_played(given, source, sampling, stages, f"{error}: {_NO_MODEL}")
        files = _write_pictures(given, seen)
    # Show notices, then JSON or the filmstrip and the table.
    screen.notes(seen.notices)
    if given.as_json:
        screen.write(json_line(_as_json(seen, files)) + "\n")
        return
    _show(screen, seen, filmstrip, files)
    if given.sheet:
        screen.notice(f"the contact sheet is `{given.sheet}`")


@dataclass(frozen=True)
class _SampledFrames:
    """The frames of one source, and the checkpoint they were transformed for (None: for none)."""

    source: VideoSource
    batch: FrameBatch
    model: str | None
    layout: PromptFormat | None
    notices: tuple[str, ...]
    model_reason: str | None = None

    @property
    def aspect(self) -> float:
        return shown_aspect(self.batch, self.layout)


def _as_played(
    given: FramesFlags,
    source: VideoSource,
    sampling: FrameSampling,
    stages: StageProgress,
    *notices: str,
) -> _SampledFrames:
    """Decode the frames in display aspect ratio, for no model."""
    batch = load_frames(
        source,
        sampling,
        reader=given.reader,
        longest=_MAX_SHOWN,
        on_progress=stages.on_progress,
    )
    explained = (batch.selection_note,) if batch.selection_note else ()
    return _SampledFrames(source, batch, None, None, (*notices, *batch.warnings, *explained))


def _seen_by_model(
    given: FramesFlags,
    source: VideoSource,
    geometry: Geometry | None,
    screen: Output,
    stages: StageProgress,
) -> _SampledFrames:
    """Decode the frames as ``ask`` does; the model's weights are not loaded."""
    spec = choose_engine(
        given,
        screen,
        drawn=lambda: all_drawn([source], reader=given.reader),
        frames=given.max_frames,
        stages=stages,
        asks=False,
    )
    checkpoint = spec.checkpoint(on_progress=stages.on_progress)
    prepared = prepare(
        checkpoint,
        [source],
        PLACEHOLDER_QUESTION,
        sampling=read_sampling(given),
        prompt_options=PromptOptions(geometry=geometry),
        reader=given.reader,
        on_progress=stages.on_progress,
    )
    (batch,) = prepared.batches
    return _SampledFrames(
        source,
        batch,
        checkpoint.name,
        checkpoint.layout,
        prepared.frame_notices,
        checkpoint.model_reason,
    )


def _check_no_model(given: FramesFlags) -> None:
    for name in ("model", "revision"):
        if given.geometry == ORIGINAL_ASPECT and given.is_on_command_line(name):
            raise UsageError(f"`--geometry none` is for no model, and `--{name}` is about one")


def _check_outputs(given: FramesFlags) -> None:
    if given.is_explicit("overwrite") and given.output is None and given.sheet is None:
        raise UsageError("`--overwrite` has no effect without `--output` or `--sheet`")
    if given.output is not None:
        check_new_folder(given.output, overwrite=given.overwrite)
    if given.sheet is not None:
        check_not_an_input_file("--sheet", given.sheet, cookies=given.cookies)
        check_new_file(given.sheet, overwrite=given.overwrite)
        suffix = given.sheet.suffix.lower()
        if suffix not in (".png", ".jpg", ".jpeg", ".webp"):
            raise UsageError(f"`--sheet` is written as .png, .jpg or .webp, not `{suffix}`")


def _one_source(sources: list[VideoSource]) -> VideoSource:
    if len(sources) > 1:
        raise UsageError(
            f"`{sources[0].given}` holds {len(sources)} videos, and one is shown at a time",
            hint=f"`smolvideo frames {shlex.quote(str(sources[0].path))}` shows the first",
        )
    return sources[0]


def _write_pictures(given: FramesFlags, seen: _SampledFrames) -> list[str]:
    """Write the contact sheet and the frames; return the frames' paths, in order."""
    if given.sheet is not None:
        sheet = draw_contact_sheet(seen.batch.images, captions(seen.batch), aspect=seen.aspect)
        save_atomic(given.sheet, sheet.save)
    folder = given.output
    if folder is None:
        return []
    files = [folder / name for name in _file_names(seen.batch)]
    if seen.model is not None:
        for path, image in zip(files, seen.batch.images, strict=True):
            save_atomic(path, Image.fromarray(image).save)
        return [str(path) for path in files]
    # Full-size frames are decoded again, one in memory at a time.
    source, times = seen.source, seen.batch.pts_seconds
    with open_video(source.path, kind=source.kind, reader=given.reader) as reader:
        for path, frame in zip(files, reader.frames_at(times), strict=False):
            save_atomic(path, Image.fromarray(frame.image).save)
    return [str(path) for path in files]


def _file_names(batch: FrameBatch) -> list[str]:
    """Return names like ``frame_03_0m12.480s.png``, sorted by time and valid on all systems."""
    digits = len(str(len(batch)))
    names = []
    for number, seconds in enumerate(batch.pts_seconds, start=1):
        # Rounded to milliseconds first: 59.9996 s are 1m00.000s, not 0m60.000s.
        minutes, rest = divmod(round(seconds * 1000), 60_000)
        time = f"_{minutes}m{rest / 1000:06.3f}s" if batch.metadata.kind == "video" else ""
        names.append(f"frame_{number:0{digits}d}{time}.png")
    return names


def _as_json(seen: _SampledFrames, files: list[str]) -> dict[str, Any]:
    return {
        "source": seen.source.given,
        "metadata": asdict(seen.batch.metadata),
        "model": seen.model,
        "model_reason": seen.model_reason,
        "geometry": seen.batch.geometry,
        "frame_times": list(seen.batch.pts_seconds),
        "asked": seen.batch.num_requested,
        "files": files,
        "notices": list(seen.notices),
    }


def _show(
    screen: Output, seen: _SampledFrames, filmstrip: FilmstripChoice, files: list[str]
) -> None:
    batch = seen.batch
    show_filmstrip(screen, [batch], filmstrip, layout=seen.layout, every_frame=True)
    timed = batch.metadata.kind == "video"
    columns = ["frame", *(["time", "seconds"] if timed else []), *(["file"] if files else [])]
    rows = []
    for number, seconds in enumerate(batch.pts_seconds):
        row = [str(number + 1)]
        if timed:
            row += [format_clock(seconds, decimals=1), f"{seconds:.3f}"]
        rows.append(row + files[number : number + 1])
    show_table(screen, columns, rows, right=frozenset({0, 1, 2} if timed else {0}))
