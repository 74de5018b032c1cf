"""Prompts answered by an engine, up to the record: prompts on the same frames share a prefill."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from smolvideo.answer import Answer
from smolvideo.engines import Engine, SessionEngine
from smolvideo.errors import SmolVideoError
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt, package_versions
from smolvideo.progress import OnProgress, no_progress
from smolvideo.records import SourceRecord
from smolvideo.summaries.blind_check import check_blind, is_sampled
from smolvideo.summaries.loader import IdentifiedSource, LoadedPart, ProbedVideo
from smolvideo.summaries.options import SummaryOptions
from smolvideo.summaries.prompt_hashes import PromptHashes
from smolvideo.summaries.record_log import SummaryRecord
from smolvideo.summaries.summariser import PromptBatch, PromptSteps, Summariser, Summary
from smolvideo.summaries.windows import Window
from smolvideo.summaries.worklist import WorkItem


@dataclass(frozen=True)
class RecordContext:
    """Everything known about an item before it is answered; ``found`` is set once identified."""

    item: WorkItem
    options: SummaryOptions
    settings: Mapping[str, Any]
    settings_key: str
    checkpoint: Checkpoint
    found: IdentifiedSource | None = None

    def with_source(self, found: IdentifiedSource) -> "RecordContext":
        """Return a copy with the identified source."""
        return replace(self, found=found)


def summary_record(
    facts: RecordContext, opened: ProbedVideo, composed: Summary, engine: Engine
) -> SummaryRecord:
    """Record of a new summary."""
    from_source = facts.found.source.notices if facts.found is not None else ()
    return _record(
        facts,
        text=composed.text,
        duration_seconds=opened.metadata.duration_seconds,
        window_seconds=opened.window_seconds,
        chapters=composed.chapters,
        notes=composed.notes,
        engine=engine.name,
        device=engine.device,
        dtype=engine.dtype,
        quantize=engine.quantize,
        arithmetic=engine.arithmetic,
        tokens=composed.tokens,
        frames=composed.frames,
        seconds={name: round(seconds, 4) for name, seconds in composed.seconds.items()},
        notices=tuple(
            dict.fromkeys((*from_source, *opened.metadata.notices, *composed.all_notices()))
        ),
    )


def duplicate_record(facts: RecordContext, duplicate: SummaryRecord) -> SummaryRecord:
    """Record of a video whose content was already summarised under another path."""
    return replace(
        duplicate,
        path=facts.item.path,
        source=_source(facts),
        stamp=facts.found.stamp if facts.found else (),
        same_as=duplicate.same_as or duplicate.path,
        output=None,
        tokens={},
        seconds={},
        created=_record(facts, text="").created,
    )


def error_record(facts: RecordContext, error: SmolVideoError) -> SummaryRecord:
    """Record of a video that could not be summarised."""
    return _record(facts, error=str(error), hint=error.hint, exit_code=error.exit_code)


def _record(facts: RecordContext, **outcome: Any) -> SummaryRecord:
    return SummaryRecord(
        path=facts.item.path,
        source=_source(facts),
        style=facts.options.style,
        settings=facts.settings,
        settings_key=facts.settings_key,
        stamp=facts.found.stamp if facts.found else (),
        model=facts.checkpoint.name,
        model_reason=facts.checkpoint.model_reason,
        revision=facts.checkpoint.revision,
        adapter=facts.checkpoint.adapter_sha256,
        versions=package_versions(),
        **outcome,
    )


def _source(facts: RecordContext) -> SourceRecord:
    source = facts.found.source if facts.found else facts.item.source
    return SourceRecord(
        given=facts.item.given,
        name=source.name if source else facts.item.name,
        kind=source.kind if source else "video",
        sha256=facts.found.sha256 if facts.found else None,
        url=source.url if source else None,
    )


Result = TypeVar("Result")


def answer(
    engine: Engine, ask: PromptBatch, *, on_progress: OnProgress = no_progress
) -> list[Answer]:
    """Answer the prompts of one batch, in order; they share their frames.

    Raises ModelError where the device fails, PromptError where one does not fit.
    """
    if len(ask.prompts) > 1 and isinstance(engine, SessionEngine):
        return engine.answer_batch(ask.prompts, ask.generation, on_progress=on_progress)
    streams = (engine.stream(p, ask.generation, on_progress=on_progress) for p in ask.prompts)
    return [stream.result() for stream in streams]


def run_prompt_batches(
    engine: Engine, asking: PromptSteps[Result], *, on_progress: OnProgress = no_progress
) -> Result:
    """Run a generator of prompt batches to its end, and return its result."""
    answers: Sequence[Answer] | None = None
    while True:
        try:
            ask = next(asking) if answers is None else asking.send(answers)
        except StopIteration as end:
            result: Result = end.value
            return result
        answers = answer(engine, ask, on_progress=on_progress)


def summarise_pieces(
    facts: RecordContext,
    pieces: Iterator[LoadedPart],
    engine: Engine,
    *,
    on_progress: OnProgress = no_progress,
) -> SummaryRecord:
    """Return the record of a video from the loader's parts after ``IdentifiedSource``.

    Raises as ``VideoLoader.load``, and ModelError where the device fails.
    """
    composer = Summariser(facts.checkpoint, facts.options)
    opened = next(pieces)
    assert isinstance(opened, ProbedVideo)
    if opened.window_seconds is not None:
        asking = composer.map_reduce(piece for piece in pieces if isinstance(piece, Window))
    else:
        prepared = next(pieces)
        assert isinstance(prepared, PreparedPrompt)
        asking = composer.summarise_whole(prepared)
    hashes = PromptHashes()
    asking = hashes.watch(asking)
    key = facts.found.sha256 if facts.found is not None else None
    check = None
    if is_sampled(key or facts.item.path, facts.options.check_share):
        checking = check_blind(asking, facts.checkpoint, facts.options.prompt_options)
        composed, check = run_prompt_batches(engine, checking, on_progress=on_progress)
    else:
        composed = run_prompt_batches(engine, asking, on_progress=on_progress)
    record = summary_record(facts, opened, composed, engine)
    return replace(record, check=check, hashes=hashes.of(engine.checkpoint))
