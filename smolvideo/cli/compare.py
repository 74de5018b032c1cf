"""``smolvideo compare``: what differs between two videos, their frames on one time axis."""

from contextlib import ExitStack

import click

from smolvideo.answer import Answer
from smolvideo.cli.ask_arguments import split_arguments
from smolvideo.cli.cache import CacheFlags
from smolvideo.cli.conversations import ConversationFlags, read_settings
from smolvideo.cli.flags import Flags, SectionCommand, argument, takes
from smolvideo.cli.load_question import load_question
from smolvideo.cli.model_options import RemoteFlags
from smolvideo.cli.options import DownloadFlags, SchemaFlags, ScreenFlags, read_download
from smolvideo.cli.outputs import (
    OutputFlags,
    check_different_files,
    check_new_file,
    check_not_a_source,
    read_filmstrip,
)
from smolvideo.cli.shell_completion import complete_files
from smolvideo.conversation import Settings
from smolvideo.engines import Engine
from smolvideo.errors import SmolVideoError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt, record_answer, record_error, stream_answer
from smolvideo.pipeline.compare import COMPARE_QUESTION, prepare_comparison
from smolvideo.progress import OnProgress
from smolvideo.records import RecordWriter, write_text_atomic
from smolvideo.sanitize import visible_json
from smolvideo.show.answer import show_footer
from smolvideo.show.answer import stream_answer as show_answer
from smolvideo.show.console import Output, open_screen
from smolvideo.show.progress_bar import StageProgress
from smolvideo.source import VideoSource, resolve_sources


class ComparedFlags(Flags):
    """The two videos, and the question about them."""

    words: tuple[str, ...] = argument(
        nargs=-1, metavar="A B [QUESTION]", shell_complete=complete_files
    )


class CompareFlags(
    ComparedFlags,
    RemoteFlags,
    ConversationFlags,
    SchemaFlags,
    CacheFlags,
    DownloadFlags,
    OutputFlags,
    ScreenFlags,
):
    """All options of the command."""


@click.command(cls=SectionCommand)
@takes(CompareFlags)
def compare(given: CompareFlags) -> None:
    """Say what differs between two videos.

    The frames of both are interleaved by their times, and labelled with video and time. The videos
    share --max-frames evenly. QUESTION is "What differs between video 1 and video 2?" unless given.

    \b
    smolvideo compare before.mp4 after.mp4
    smolvideo compare --max-frames 20 mine.mp4 yours.mp4 "Which one is brighter?"
    """
    screen = open_screen(quiet=given.quiet, verbose=given.verbose)
    sources, question = _read_words(given)
    read_filmstrip(given)  # raises for contradictory options, before any work
    if given.output is not None:
        check_new_file(given.output, overwrite=given.overwrite)
        if given.save is not None:
            check_different_files(given.output, given.save)
    elif given.is_explicit("overwrite"):
        raise UsageError("`--overwrite` has no effect without `--output`")
    download = read_download(given, sources, offline=given.offline)
    with ExitStack() as stack:
        writer = stack.enter_context(RecordWriter(given.save)) if given.save is not None else None
        stages = stack.enter_context(StageProgress(screen))
        resolved = resolve_sources(sources, download=download, on_progress=stages.on_progress)
        if given.output is not None:
            check_not_a_source("--output", given.output, (source.path for source in resolved))
        try:
            prepared, engine, answer = _answer(given, resolved, question, screen, stages)
        except SmolVideoError as error:
            if writer is not None:
                writer.write(record_error(question, resolved, error))
            raise
        # Shown before the record is written, so that a full disk does not lose the answer.
        needs_record = writer is not None or given.as_json
        record = record_answer(prepared, engine, answer) if needs_record else None
        if record is not None and given.as_json:
            _write(given, record.to_json() + "\n", screen)
        elif given.output is not None or not _streams(given):
            _write(given, answer.text + "\n", screen)
        if writer is not None and record is not None:
            writer.write(record)


def _read_words(given: CompareFlags) -> tuple[list[str], str]:
    """Split the positional arguments into two videos and the question. Raises UsageError."""
    if len(given.words) == 2:
        return [*given.words], COMPARE_QUESTION
    if len(given.words) != 3:
        raise UsageError(
            f"a comparison is of two videos and at most one question, not of {len(given.words)} "
            "arguments",
            hint="put a question of several words in quotes",
        )
    typed = split_arguments(given.words, question=None, source_list=None)
    return [str(source) for source in typed.sources], typed.question


def _streams(given: CompareFlags) -> bool:
    return given.output is None and not given.as_json and given.schema is None


def _answer(
    given: CompareFlags,
    sources: list[VideoSource],
    question: str,
    screen: Output,
    stages: StageProgress,
) -> tuple[PreparedPrompt, Engine, Answer]:
    """Decode, show the frames, and answer; streamed to stdout if nothing else goes there."""

    def prepare_with(
        checkpoint: Checkpoint, settings: Settings, heard: list[str], on_progress: OnProgress
    ) -> PreparedPrompt:
        return prepare_comparison(
            checkpoint,
            sources,
            question,
            sampling=settings.sampling,
            prompt_options=settings.prompt_options,
            generation=settings.generation,
            reader=settings.reader,
            notices=heard,
            on_progress=on_progress,
        )

    loaded = load_question(
        given,
        read_settings(given),
        sources,
        prepare_with,
        screen,
        stages,
        filmstrip=read_filmstrip(given),
        no_cache=given.no_cache,
    )
    prepared, engine = loaded.prepared, loaded.engine
    stream = stream_answer(engine, prepared, on_progress=stages.on_progress)
    if _streams(given):
        answer = show_answer(screen, stream, before_first=stages.close)
    else:
        answer = stream.result()
        stages.close()
    screen.notes(answer.notices)
    seconds = {"load": engine.load_seconds, **answer.usage.seconds}
    show_footer(screen, answer.usage, seconds, frames=sum(map(len, prepared.batches)))
    return prepared, engine, answer


def _write(given: CompareFlags, text: str, screen: Output) -> None:
    if given.output is None:
        screen.write(visible_json(text))
    else:
        write_text_atomic(given.output, text, overwrite=given.overwrite)
        screen.notice(f"the answer is in `{given.output}`")
