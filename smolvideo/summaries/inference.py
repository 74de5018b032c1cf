"""Prompts answered by an engine, up to the record: prompts on the same frames share a prefill."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from smolvideo.answer import Answer
from smolvideo.engines import Engine, SessionEngine
from smolvideo.pipeline import PreparedPrompt
from smolvideo.progress import OnProgress, no_progress
from smolvideo.summaries.loader import LoadedPart, ProbedVideo
from smolvideo.summaries.record import SummaryRecord
from smolvideo.summaries.recording import RecordContext, summary_record
from smolvideo.summaries.summariser import PromptBatch, PromptSteps, Summariser
from smolvideo.summaries.windows import Window

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


def drive(
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
    composed = drive(engine, asking, on_progress=on_progress)
    return summary_record(facts, opened, composed, engine)
