"""Stream the answer of an engine to a prepared prompt, in a thread or for ``asyncio``."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Self, TypeVar

from smolvideo.answer import Answer, AnswerStream, SourceFrames, broken_off_error
from smolvideo.engines import Engine, Session
from smolvideo.pipeline.prepare_prompt import PreparedPrompt
from smolvideo.progress import Cancelled, OnProgress, Progress, no_progress

Result = TypeVar("Result")


def stream_answer(
    engine: Engine | Session,
    prepared: PreparedPrompt,
    *,
    on_progress: OnProgress = no_progress,
) -> AnswerStream:
    """Stream the answer to a prepared prompt.

    ``Usage.seconds`` includes the stages of preparation, such as decoding, and ``Answer.notices``
    the notices of ``prepared``.
    """
    stream = engine.stream(prepared.prompt, prepared.generation, on_progress=on_progress)
    return with_prepared(prepared, stream)


def with_prepared(prepared: PreparedPrompt, stream: AnswerStream) -> AnswerStream:
    """Wrap ``stream`` so that its answer includes the question, frame times, stage times and
    notices of ``prepared``."""

    def pieces() -> Iterator[str]:
        try:
            yield from stream
        finally:
            stream.close()

    def finish(text: str) -> Answer:
        answer = stream.result()
        return replace(
            answer,
            text=text,
            usage=replace(answer.usage, seconds={**prepared.seconds, **answer.usage.seconds}),
            notices=(*prepared.notices, *answer.notices),
            question=prepared.question,
            sources=tuple(
                SourceFrames(source.name, batch.pts_seconds)
                for source, batch in zip(prepared.sources, prepared.batches, strict=True)
            ),
        )

    return AnswerStream(pieces(), finish)


class AsyncAnswerStream:
    """A running answer for ``asyncio``: iterate with ``async for``, then ``await result()``.

    All work is done in the threads of ``executor``, from the first ``await`` on; between two pieces
    nothing is computed. Cancelling the task that waits for a piece stops generation after the
    current token, and breaks the answer off. An asynchronous context manager that closes itself.
    """

    def __init__(
        self,
        start: Callable[[OnProgress], AnswerStream],
        executor: Executor,
        *,
        on_progress: OnProgress = no_progress,
    ) -> None:
        self._start = start
        self._executor = executor
        self._cancelled = threading.Event()
        self._on_progress = stop_when(self._cancelled, on_progress)
        self._stream: AnswerStream | None = None

    async def __aiter__(self) -> AsyncIterator[str]:
        while (piece := await self._in_thread(lambda stream: next(iter(stream), None))) is not None:
            yield piece

    async def result(self) -> Answer:
        """Generate to the end and return the whole answer."""
        return await self._in_thread(AnswerStream.result)

    async def aclose(self) -> None:
        """Stop generating and release resources; pieces already yielded stay valid, and so does the
        result of an answer that had ended."""
        if self._stream is None:
            self._cancelled.set()
        else:
            await call_in_thread(self._stream.close, self._executor, threading.Event())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _in_thread(self, work: Callable[[AnswerStream], Result]) -> Result:
        def step() -> Result:
            if self._stream is None:
                self._stream = self._start(self._on_progress)
            return work(self._stream)

        return await call_in_thread(step, self._executor, self._cancelled)


def stop_when(cancelled: threading.Event, on_progress: OnProgress) -> OnProgress:
    """Wrap ``on_progress`` so that it raises Cancelled once ``cancelled`` is set."""

    def report(progress: Progress) -> None:
        if cancelled.is_set():
            raise Cancelled
        on_progress(progress)

    return report


async def call_in_thread(
    work: Callable[[], Result], executor: Executor | None, cancelled: threading.Event
) -> Result:
    """Call ``work`` in a thread of ``executor``, asyncio's own for None; the event loop goes on.

    Where the waiting task is cancelled, ``cancelled`` is set, for ``work`` to stop by its progress
    callback, and CancelledError is raised once it has: no thread computes for a cancelled task.
    """

    def unless_cancelled() -> Result:
        if cancelled.is_set():
            raise broken_off_error()
        return work()

    running = asyncio.get_running_loop().run_in_executor(executor, unless_cancelled)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # read, or asyncio reports it as never retrieved
        raise
