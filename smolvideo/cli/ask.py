"""``smolvideo ask``: answer a question about videos, images, URLs or folders of frames."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

import click

from smolvideo.answer import Answer
from smolvideo.cli.ask_choices import (
    ONE_TOKEN,
    answer_choices,
    describe_calibration,
    run_calibration,
)
from smolvideo.cli.ask_proof import Proof
from smolvideo.cli.ask_request import AskFlags, AskRequest, read_request
from smolvideo.cli.conversations import (
    reopen_last,
    require_finished,
    save_as_conversation,
)
from smolvideo.cli.flags import SectionCommand, takes
from smolvideo.cli.load_question import load_question
from smolvideo.cli.outputs import (
    check_not_a_sidecar,
    check_not_a_source,
)
from smolvideo.cli.plan import PlanRequest, run_plan
from smolvideo.conversation import Settings
from smolvideo.engines import Engine, Session
from smolvideo.errors import SmolVideoError
from smolvideo.evidence import open_session
from smolvideo.models import Checkpoint
from smolvideo.pipeline import (
    PreparedPrompt,
    prepare,
    record_answer,
    record_error,
    remember_cost,
    stream_answer,
)
from smolvideo.pipeline.subtitles import AUTO, subtitles_for_sampling
from smolvideo.progress import OnProgress
from smolvideo.records import AnswerRecord, RecordWriter, write_text_atomic
from smolvideo.sanitize import visible_json
from smolvideo.show.answer import show_footer, stream_pieces
from smolvideo.show.answer import stream_answer as show_answer
from smolvideo.show.choices import choice_lines, show_choices
from smolvideo.show.console import Output, open_screen
from smolvideo.show.filmstrip import show_filmstrip
from smolvideo.show.progress_bar import StageProgress
from smolvideo.source import VideoSource, resolve_sources


@click.command(cls=SectionCommand)
@takes(AskFlags)
def ask(given: AskFlags) -> int | None:
    """Answer a question about videos, pictures or URLs.

    SOURCE is a video, an image, a URL, or a folder of frames; several form one prompt, in the given
    order. QUESTION comes last, in quotes; - reads it from stdin.

    \b
    smolvideo ask party.mp4 "Who blows out the candles?"
    smolvideo ask before.mp4 after.mp4 "What has changed?"
    smolvideo ask --start 1:30 --end 2:00 talk.mp4 "What is on the slide?" --json
    smolvideo ask --schema "colour, people int" party.mp4 "What is on the table?"
    smolvideo ask --choices yes,no party.mp4 "Does anybody dance?"
    smolvideo ask --continue "And then?"
    """
    # Check all options.
    screen = open_screen(quiet=given.quiet, verbose=given.verbose)
    if given.calibrate is not None:
        return run_calibration(given, screen)
    request = read_request(given)
    if given.dry_run:
        settings = request.settings
        if request.choices is not None:
            settings = replace(settings, generation=ONE_TOKEN)
        run_plan(
            PlanRequest(request.typed, settings, request.download, given.subtitles, given.as_json),
            screen,
        )
        return None
    with ExitStack() as stack:
        # Opened first, so that an unwritable records file fails before the work.
        writer = stack.enter_context(RecordWriter(given.save)) if given.save is not None else None
        # Resolve the sources.
        stages = stack.enter_context(StageProgress(screen))
        sources = resolve_sources(
            request.typed.sources, download=request.download, on_progress=stages.on_progress
        )
        if given.output is not None:
            check_not_a_source("--output", given.output, (source.path for source in sources))
            if given.subtitles == AUTO:
                check_not_a_sidecar("--output", given.output, [source.path for source in sources])
        # Answer the question, in a new conversation or the last one.
        try:
            if given.goes_on:
                answered = _continue_conversation(request, sources, screen, stages)
            else:
                answered = _answer(request, sources, screen, stages)
        except SmolVideoError as error:
            if writer is not None:
                writer.write(record_error(request.typed.question, sources, error))
            raise
        # Shown before the record is written, so that a full disk does not lose the answer.
        _write(request, answered, screen)
        if writer is not None:
            writer.write(answered.record)
        if writer is not None or given.as_json:
            screen.notes(answered.notices_of_record)
    return None


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


def _answer(
    request: AskRequest,
    sources: list[VideoSource],
    screen: Output,
    stages: StageProgress,
) -> _AskResult:
    """Answer a question in a new conversation, and show frames, notices and answer."""
    given = request.given

    def prepare_with(
        checkpoint: Checkpoint, settings: Settings, heard: list[str], on_progress: OnProgress
    ) -> PreparedPrompt:
        return prepare(
            checkpoint,
            sources,
            request.typed.question,
            sampling=settings.sampling,
            prompt_options=settings.prompt_options,
            generation=settings.generation if request.choices is None else ONE_TOKEN,
            reader=settings.reader,
            subtitles=_subtitles(request, sources, heard.append),
            notices=heard,
            on_progress=on_progress,
        )

    loaded = load_question(
        given,
        request.settings,
        sources,
        prepare_with,
        screen,
        stages,
        filmstrip=request.filmstrip,
        no_cache=given.no_cache,
    )
    prepared, engine, cache = loaded.prepared, loaded.engine, loaded.cache
    # Stream the answer, then its statistics.
    session = open_session(engine, prepared)
    answer = _stream(request, prepared, engine, session, screen, stages)
    screen.notes(answer.notices)
    frames = sum(map(len, prepared.batches))
    if screen.is_interactive and (line := describe_calibration(answer)) is not None:
        screen.notice(line)
    seconds = {"load": engine.load_seconds, **answer.usage.seconds}
    dropped = sum(batch.num_dropped for batch in prepared.batches)
    show_footer(screen, answer.usage, seconds, frames=frames, dropped=dropped)
    proof = Proof(given, screen, request.filmstrip)
    answer = proof.of(prepared, answer, engine, session, request.choices)
    if not given.no_cache:
        remember_cost(engine, answer.usage, loaded.settings.spec)
    # Save the conversation.
    problems = [cache.warning if cache is not None else None]
    if not given.no_keep:
        kept = save_as_conversation(loaded.settings, prepared, answer, subtitles=prepared.subtitles)
        problems.append(kept)
    notices = (*answer.notices, *filter(None, problems))
    screen.notes(notices)
    return _AskResult(prepared, engine, replace(answer, notices=notices))


def _continue_conversation(
    request: AskRequest,
    sources: list[VideoSource],
    screen: Output,
    stages: StageProgress,
) -> _AskResult:
    """Answer a question in the last conversation, and show frames, notices and answer."""
    progress = stages.on_progress
    given = request.given
    with reopen_last(given, sources=sources, screen=screen, on_progress=progress) as conversation:
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
        proof = Proof(given, screen, request.filmstrip)
        answer = proof.of_last(conversation, done.prepared, done.answer)
    return _AskResult(done.prepared, engine, answer)


def _write(request: AskRequest, answered: _AskResult, screen: Output) -> None:
    """Write an answer that was not streamed: as JSON, or to a file."""
    if request.shows_answer:
        return
    given = request.given
    found = answered.answer.choices
    text = answered.answer.text + "\n"
    if given.as_json:
        text = answered.record.to_json() + "\n"
    elif found is not None:
        text = choice_lines(found)
    if given.output is None and found is not None and not given.as_json:
        show_choices(screen, found)
    elif given.output is None:
        screen.write(visible_json(text))
    else:
        write_text_atomic(given.output, text, overwrite=given.overwrite)
        screen.notice(f"the answer is in `{given.output}`")


def _subtitles(
    request: AskRequest, sources: list[VideoSource], on_notice: Callable[[str], None]
) -> str | None:
    if request.given.subtitles is None:
        return None
    return subtitles_for_sampling(
        request.given.subtitles,
        sources,
        request.settings.sampling,
        reader=request.settings.reader,
        on_notice=on_notice,
    )


def _stream(
    request: AskRequest,
    prepared: PreparedPrompt,
    engine: Engine,
    session: Session | None,
    screen: Output,
    stages: StageProgress,
) -> Answer:
    """Compute the answer, streaming it to stdout if requested."""
    if request.choices is not None:
        return answer_choices(request.choices, prepared, engine, session, stages)
    stream = stream_answer(session or engine, prepared, on_progress=stages.on_progress)
    if request.shows_answer:
        # Progress must end first: on one terminal it would overwrite the answer.
        return show_answer(screen, stream, before_first=stages.close)
    answer = stream.result()
    stages.close()
    return answer
