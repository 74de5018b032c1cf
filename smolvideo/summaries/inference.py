"""Prompts answered by an engine: prompts on the same frames share one prefill of them."""

from collections.abc import Sequence
from typing import TypeVar

from smolvideo.answer import Answer
from smolvideo.engines import Engine, SessionEngine
from smolvideo.progress import OnProgress, no_progress
from smolvideo.summaries.summariser import PromptBatch, PromptSteps

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
