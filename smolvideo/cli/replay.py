"""``smolvideo replay``: the same frames, prompt and answer from a record, or what differs."""

import json
from pathlib import Path

import click

from smolvideo.cli.flags import (
    FilePath,
    Flags,
    IntegerType,
    SectionCommand,
    argument,
    flag,
    takes,
)
from smolvideo.cli.shell_completion import complete_models
from smolvideo.engines import ENGINES
from smolvideo.errors import EXIT_SOME_FAILED, UsageError
from smolvideo.readers import READERS
from smolvideo.replay import ReplayOptions, open_replays
from smolvideo.replay.engines import EnginePool
from smolvideo.show.console import open_screen
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.replay import show_replay


class ReplayFlags(Flags, section="Replay"):
    """Which records, and what is used in place of what they say."""

    record: Path = argument(type=FilePath(), metavar="RECORD")
    line: int | None = flag(
        type=IntegerType(min=1),
        metavar="N",
        show_default="all",
        help="Only the record of this number, from 1.",
    )
    videos: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="where they were",
        help="Folder in which sources are found by their names; needed for a run of eval.",
    )
    reader: str | None = flag(
        type=click.Choice(["auto", *READERS]),
        show_default="as recorded",
        help="What decodes videos.",
    )
    model: str | None = flag(
        "-m",
        metavar="NAME",
        show_default="as recorded",
        shell_complete=complete_models,
        help="The model's name, hub id or folder, for example where it lies now.",
    )
    adapter: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="none",
        help="Folder of the LoRA adapter that answered.",
    )
    engine: str | None = flag(
        type=click.Choice([*ENGINES]), show_default="as recorded", help="What runs the model."
    )
    device: str | None = flag(metavar="DEVICE", show_default="as recorded", help="cpu, cuda, mps.")
    dtype: str | None = flag(
        metavar="DTYPE", show_default="as recorded", help="bfloat16, float16 or float32."
    )
    offline: bool = flag(help="Use no network.")


class ReplayOutputFlags(Flags, section="Output"):
    """How results are written."""

    as_json: bool = flag("--json", help="One JSON object per record.")
    quiet: bool = flag(help="No progress, and no equal records.")


class ReplayCommandFlags(ReplayFlags, ReplayOutputFlags):
    """All options of the command."""


@click.command(cls=SectionCommand)
@takes(ReplayCommandFlags)
def replay(given: ReplayCommandFlags) -> int | None:
    """Compute answers of records again, and name the first difference.

    RECORD is a file of `ask --save` or `ask --json`, a `summaries.jsonl`, or the folder of a run of
    `eval`. Compared are the files, readers, frames, prompts, model and weights, versions,
    arithmetic, the answer, and what `--why` and `--check` found. The exit code is 6 if anything
    differs.

    \b
    smolvideo replay answers.jsonl
    smolvideo replay summaries.jsonl --line 3 --json
    smolvideo replay runs/mine --videos clips/
    """
    screen = open_screen(quiet=given.quiet)
    if given.videos is not None and not given.videos.is_dir():
        raise UsageError(f"`--videos {given.videos}` is no folder")
    options = ReplayOptions(
        reader=given.reader,
        model=given.model,
        engine=given.engine,
        device=given.device,
        dtype=given.dtype,
        folder=given.videos,
        offline=given.offline,
    )
    equal = True
    with StageProgress(screen) as stages:
        pool = EnginePool(options, given.adapter, on_progress=stages.on_progress)
        try:
            for result in open_replays(given.record, pool, line=given.line):
                equal &= result.is_equal
                with stages.paused():
                    if given.as_json:
                        screen.write(json.dumps(result.to_dict()) + "\n")
                    elif not (given.quiet and result.is_equal):
                        show_replay(screen, result)
        finally:
            pool.close()
    return None if equal else EXIT_SOME_FAILED
