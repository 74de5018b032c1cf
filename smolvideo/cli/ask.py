"""``smolvideo ask``: answer a question about videos, images, URLs or folders of frames."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from smolvideo.answer import Answer
from smolvideo.cli.ask_arguments import AskArguments, split_arguments
from smolvideo.cli.ask_continue import reopen_last, require_finished, save_as_conversation
from smolvideo.cli.cache import cache_option, open_feature_cache
from smolvideo.cli.conversation_options import continue_option, no_save_option, read_settings
from smolvideo.cli.loading import BackgroundEngine
from smolvideo.cli.options import (
    download_options,
    engine_options,
    generation_options,
    geometry_option,
    model_options,
    prompt_options,
    read_download,
    read_engine_spec,
    read_generation,
    read_prompt_options,
    read_sampling,
    sampling_options,
    screen_options,
)
from smolvideo.cli.outputs import (
    check_different_files,
    check_new_file,
    check_not_a_sidecar,
    check_not_a_source,
    check_not_an_input_file,
    output_options,
    read_filmstrip,
)
from smolvideo.cli.params import SectionCommand, SectionOption
from smolvideo.cli.shell_completion import complete_files
from smolvideo.cli.source_list import allows_outside, list_options
from smolvideo.engines import Engine, EngineSpec, GenerationOptions
from smolvideo.errors import SmolVideoError, UsageError
from smolvideo.pipeline import (
    PreparedPrompt,
    prepare,
    record_answer,
    record_error,
    stream_answer,
)
from smolvideo.pipeline.subtitles import AUTO, subtitles_for_sampling
from smolvideo.prompt import PromptOptions
from smolvideo.readers import prestart_process
from smolvideo.records import AnswerRecord, RecordWriter, write_text_atomic
from smolvideo.sampling import FrameSampling
from smolvideo.show.answer import show_footer, show_settings, stream_pieces
from smolvideo.show.answer import stream_answer as show_answer
from smolvideo.show.console import Output, open_screen
from smolvideo.show.filmstrip import FilmstripChoice, show_filmstrip
from smolvideo.show.stage_progress import StageProgress
from smolvideo.source import DownloadOptions, VideoSource, resolve_sources


@click.command(cls=SectionCommand)
@click.argument("words", nargs=-1, metavar="SOURCE... QUESTION", shell_complete=complete_files)
@click.option(
    "--question",
    "-q",
    cls=SectionOption,
    section="Question",
    metavar="TEXT",
    show_default="the last word",
    help="The question; all that stands alone is then a source.",
)
@list_options("Question")
@continue_option
@no_save_option
@model_options
@engine_options
@cache_option
@sampling_options
@geometry_option()
@prompt_options
@generation_options
@download_options
@output_options
@screen_options
@click.pass_context
def ask(ctx: click.Context, /, **_: Any) -> None:
    """Answer a question about videos, pictures or URLs.

    SOURCE is a video, a picture, a URL, or a folder of frames; several are one prompt, looked at in
    their order. QUESTION comes last, in quotes; - reads it from stdin.

    \b
    smolvideo ask party.mp4 "Who blows out the candles?"
    smolvideo ask before.mp4 after.mp4 "What has changed?"
    smolvideo ask --start 1:30 --end 2:00 talk.mp4 "What is on the slide?" --json
    smolvideo ask --continue "And then?"
    """
    # Check all options.
    request = _read_request(ctx)
    screen = open_screen(quiet=ctx.params["quiet"], verbose=ctx.params["verbose"])
    with ExitStack() as stack:
        save: Path | None = ctx.params["save"]
        # Opened first, so that an unwritable records file fails before the work.
        writer = stack.enter_context(RecordWriter(save)) if save is not None else None
        # Resolve the sources.
        stages = stack.enter_context(StageProgress(screen))
        sources = resolve_sources(
            request.typed.sources, download=request.download, on_progress=stages.on_progress
        )
        if request.output is not None:
            check_not_a_source("--output", request.output, (source.path for source in sources))
            if request.subtitles == AUTO:
                check_not_a_sidecar("--output", request.output, [source.path for source in sources])
        # Answer the question, in a new conversation or the last one.
        try:
            if request.goes_on:
                answered = _continue_conversation(ctx, request, sources, screen, stages)
            else:
                answered = _answer(ctx, request, sources, screen, stages)
        except SmolVideoError as error:
            if writer is not None:
                writer.write(record_error(request.typed.question, sources, error))
            raise
        # Shown before the record is written, so that a full disk does not lose the answer.
        _write(request, answered, screen)
        if writer is not None:
            writer.write(answered.record)
        if writer is not None or request.as_json:
            screen.notes(answered.notices_of_record)


@dataclass(frozen=True)
class _AskResult:
    prepared: PreparedPrompt
    engine: Engine
    answer: Answer

    @cached_property
    def record(self) -> AnswerRecord:
        """Record of the answer; lazy, because it reads every source again for its hash."""
        return record_answer(self.prepared, self.engine, self.answer)

    @property
    def notices_of_record(self) -> tuple[str, ...]:
        """Notices of the record alone: sources that have changed since they were decoded."""
        known = self.prepared.notices
        return tuple(notice for notice in self.record.notices if notice not in known)


@dataclass(frozen=True)
class _Request:
    """All options of the command, validated as far as possible without opening a video."""

    typed: AskArguments
    sampling: FrameSampling
    generation: GenerationOptions
    prompt_options: PromptOptions
    download: DownloadOptions
    filmstrip: FilmstripChoice
    spec: EngineSpec
    no_cache: bool
    reader: str
    subtitles: str | None
    as_json: bool
    output: Path | None
    overwrite: bool
    goes_on: bool
    keep: bool

    @property
    def shows_answer(self) -> bool:
        """Whether the answer streams to stdout; otherwise it is written when complete."""
        return self.output is None and not self.as_json


def _read_request(ctx: click.Context) -> _Request:
    """Read and validate the options.

    Raises UsageError, PromptError, RecordError or SourceError for invalid ones.
    """
    given = ctx.params
    filmstrip = read_filmstrip(ctx)
    # Output files and combinations of options.
    if given["output"] is not None and given["save"] is not None:
        check_different_files(given["output"], given["save"])
    for name in ("output", "save"):
        if given[name] is not None:
            check_not_an_input_file(f"--{name}", given[name], given)
    sampling, generation = read_sampling(ctx), read_generation(ctx)
    if given["output"] is not None:
        check_new_file(given["output"], overwrite=given["overwrite"])
    elif given["overwrite"]:
        raise UsageError("`--overwrite` has no effect without `--output`")
    if given["goes_on"] and given["no_keep"]:
        raise UsageError("`--continue` adds to a conversation that is kept: `--no-keep` cannot be")
    # Sources and question.
    typed = split_arguments(
        given["words"],
        question=given["question"],
        source_list=given["source_list"],
        allow_outside=allows_outside(given),
        needs_source=not given["goes_on"],
    )
    names = ("no_cache", "reader", "subtitles")
    return _Request(
        typed=typed,
        sampling=sampling,
        generation=generation,
        prompt_options=read_prompt_options(ctx),
        download=read_download(ctx, typed.sources),
        filmstrip=filmstrip,
        spec=read_engine_spec(given),
        as_json=given["json"],
        output=given["output"],
        overwrite=given["overwrite"],
        goes_on=given["goes_on"],
        keep=not given["no_keep"],
        **{name: given[name] for name in names},
    )


def _answer(
    ctx: click.Context,
    request: _Request,
    sources: list[VideoSource],
    screen: Output,
    stages: StageProgress,
) -> _AskResult:
    """Answer a question in a new conversation, and show frames, notices and answer."""
    # Decode the frames, while a background thread loads the engine.
    prestart_process()
    checkpoint = request.spec.checkpoint(on_progress=stages.on_progress)
    heard: list[str] = []
    cache = open_feature_cache(request.spec.engine, no_cache=request.no_cache, on_note=heard.append)
    loading = BackgroundEngine(
        lambda: request.spec.load(cache=cache, on_progress=stages.on_progress)
    )
    subtitles = _subtitles(request, sources, heard.append)
    prepared = prepare(
        checkpoint,
        sources,
        request.typed.question,
        sampling=request.sampling,
        prompt_options=request.prompt_options,
        generation=request.generation,
        reader=request.reader,
        subtitles=subtitles,
        notices=heard,
        on_progress=loading.start_on_first_frame(stages.on_progress),
    )
    # Show the frames and the settings.
    with stages.paused():
        show_filmstrip(screen, prepared.batches, request.filmstrip, layout=prepared.prompt.layout)
        screen.notes(prepared.notices)
    engine = loading.result()
    with stages.paused():
        show_settings(screen, prepared, engine)
    # Stream the answer, then its statistics.
    answer = _stream(request, prepared, engine, screen, stages)
    screen.notes(answer.notices)
    frames = sum(map(len, prepared.batches))
    seconds = {"load": engine.load_seconds, **answer.usage.seconds}
    dropped = sum(batch.num_dropped for batch in prepared.batches)
    show_footer(screen, answer.usage, seconds, frames=frames, dropped=dropped)
    # Save the conversation.
    problems = [cache.warning if cache is not None else None]
    if request.keep:
        problems.append(_keep(ctx, request, prepared, answer, subtitles))
    notices = (*answer.notices, *filter(None, problems))
    screen.notes(notices)
    return _AskResult(prepared, engine, replace(answer, notices=notices))


def _keep(
    ctx: click.Context,
    request: _Request,
    prepared: PreparedPrompt,
    answer: Answer,
    subtitles: str | None,
) -> str | None:
    """Save the answer for ``--continue``; return the error message if that failed."""
    settings = read_settings(
        ctx,
        sampling=request.sampling,
        prompt_options=request.prompt_options,
        generation=request.generation,
    )
    return save_as_conversation(settings, prepared, answer, subtitles=subtitles)


def _continue_conversation(
    ctx: click.Context,
    request: _Request,
    sources: list[VideoSource],
    screen: Output,
    stages: StageProgress,
) -> _AskResult:
    """Answer a question in the last conversation, and show frames, notices and answer."""
    progress = stages.on_progress
    with reopen_last(ctx, sources=sources, screen=screen, on_progress=progress) as conversation:
        if sources:
            with stages.paused():
                batches = [look.batch for look in conversation.attachments[-len(sources) :]]
                show_filmstrip(screen, batches, request.filmstrip)
        asked = conversation.ask(request.typed.question, on_progress=progress)
        begun = request.shows_answer and stream_pieces(screen, asked, before_first=stages.close)
        for _ in () if begun else asked:
            pass
        stages.close()
        done = require_finished(asked)
        if request.shows_answer and not begun:
            screen.write("\n")
        screen.notes(done.answer.notices)
        show_footer(screen, done.answer.usage, done.answer.usage.seconds)
        engine = conversation.load_engine()
    return _AskResult(done.prepared, engine, done.answer)


def _write(request: _Request, answered: _AskResult, screen: Output) -> None:
    """Write an answer that was not streamed: as JSON, or to a file."""
    if request.shows_answer:
        return
    text = answered.record.to_json() if request.as_json else answered.answer.text
    if request.output is None:
        screen.write(text + "\n")
    else:
        write_text_atomic(request.output, text + "\n", overwrite=request.overwrite)
        screen.notice(f"the answer is in `{request.output}`")


def _subtitles(
    request: _Request, sources: list[VideoSource], on_notice: Callable[[str], None]
) -> str | None:
    if request.subtitles is None:
        return None
    return subtitles_for_sampling(
        request.subtitles,
        sources,
        request.sampling,
        reader=request.reader,
        on_notice=on_notice,
    )


def _stream(
    request: _Request,
    prepared: PreparedPrompt,
    engine: Engine,
    screen: Output,
    stages: StageProgress,
) -> Answer:
    """Compute the answer, streaming it to stdout if requested."""
    stream = stream_answer(engine, prepared, on_progress=stages.on_progress)
    if request.shows_answer:
        # Progress must end first: on one terminal it would overwrite the answer.
        return show_answer(screen, stream, before_first=stages.close)
    answer = stream.result()
    stages.close()
    return answer
