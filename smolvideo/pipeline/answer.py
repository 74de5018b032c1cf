"""Answers: stream one from an engine, also for ``asyncio``, and record it with its cost."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self, TypeVar

from smolvideo.answer import Answer, AnswerStream, SourceFrames, Usage, broken_off_error
from smolvideo.cost import (
    ModelCost,
    PromptSize,
    RateRequest,
    kept_rates,
    predict_uncorrected,
    remember,
    uses_kernels,
)
from smolvideo.engines import Engine, EngineSpec, GenerationOptions, Session
from smolvideo.errors import RecordError, SmolVideoError
from smolvideo.files import content_hash, file_state
from smolvideo.frames import FrameBatch
from smolvideo.models import Checkpoint
from smolvideo.models.weight_hash import weights_hash
from smolvideo.pipeline.prepared_prompt import PreparedPrompt
from smolvideo.progress import Cancelled, OnProgress, Progress, no_progress
from smolvideo.prompt import Prompt, PromptOptions
from smolvideo.record_parts import RecordHashes, SourceRecord, hash_images, hash_token_ids
from smolvideo.records import AnswerRecord
from smolvideo.sampling import FrameSampling, RelativeTime
from smolvideo.source import VideoSource
from smolvideo.version import __version__

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
        return with_context(prepared, replace(stream.result(), text=text))

    return AnswerStream(pieces(), finish)


def with_context(prepared: PreparedPrompt, answer: Answer) -> Answer:
    """Return ``answer`` with the question, frame times, stage times and notices of ``prepared``."""
    return replace(
        answer,
        usage=replace(answer.usage, seconds={**prepared.seconds, **answer.usage.seconds}),
        notices=(*prepared.notices, *answer.notices),
        question=prepared.question,
        sources=tuple(
            SourceFrames(source.name, batch.pts_seconds)
            for source, batch in zip(prepared.sources, prepared.batches, strict=True)
        ),
    )


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


_MIN_TIMED_TOKENS = 4
"""Generated tokens whose mean time says something."""

_RECORDED_PACKAGES = ("av", "numpy", "pillow", "tokenizers", "torch", "transformers")


def record_answer(prepared: PreparedPrompt, engine: Engine, answer: Answer) -> AnswerRecord:
    """Create the record of a finished answer, with the content hash of each source."""
    usage = answer.usage
    return replace(
        _record(
            prepared.question,
            tuple(
                _source_record(source, batch)
                for source, batch in zip(prepared.sources, prepared.batches, strict=True)
            ),
            engine,
            text=answer.text,
        ),
        stop_reason=answer.stop_reason,
        choices=answer.choices,
        evidence=answer.evidence,
        check=answer.check,
        settings=effective_settings(
            prepared.sampling, prepared.prompt_options, prepared.generation, prepared.reader
        ),
        layout=prepared.prompt.layout,
        geometry=prepared.prompt.geometry,
        tokens=usage.tokens,
        frames_from_cache=usage.frames_from_cache,
        seconds={"load": engine.load_seconds, **usage.seconds},
        peak_memory_bytes=usage.peak_memory_bytes,
        subtitles=prepared.subtitles,
        history=len(prepared.messages) - 1,
        interleaved=prepared.interleaved,
        hashes=hash_prompts([prepared.prompt], engine.checkpoint),
        notices=tuple(
            dict.fromkeys((*prepared.notices, *answer.notices, *_changed_since(prepared)))
        ),
    )


def hash_prompts(
    prompts: Sequence[Prompt], checkpoint: Checkpoint, *, together: bool = False
) -> RecordHashes:
    """Return the hashes of ``prompts`` and of the weights of ``checkpoint``.

    Images are hashed one by one, or, with ``together``, all of each prompt.
    """
    images = [
        part for prompt in prompts for part in ((prompt.images,) if together else prompt.images)
    ]
    return RecordHashes(
        frames=tuple(map(hash_images, images)),
        prompt=hash_token_ids(prompt.token_ids for prompt in prompts),
        weights=None if checkpoint.weights is None else weights_hash(checkpoint),
    )


def record_error(
    question: str,
    sources: Sequence[VideoSource],
    error: SmolVideoError,
    *,
    engine: Engine | None = None,
    settings: Mapping[str, Any] | None = None,
) -> AnswerRecord:
    """Create the record of a question that failed, with an error instead of a text."""
    record = _record(
        question,
        tuple(_source_record(source) for source in sources),
        engine,
        error=str(error),
        hint=error.hint,
    )
    return replace(record, settings=dict(settings or {}))


def effective_settings(
    sampling: FrameSampling,
    prompt_options: PromptOptions,
    generation: GenerationOptions,
    reader: str = "auto",
) -> dict[str, Any]:
    """Return all settings by option name; relative times as ``50%``."""
    everything = {**asdict(sampling), **asdict(prompt_options), **generation.to_json()}
    for name in ("start_seconds", "end_seconds"):
        if isinstance(getattr(sampling, name), RelativeTime):
            everything[name] = str(getattr(sampling, name))
    return {**everything, "reader": reader}


def _record(
    question: str, sources: tuple[SourceRecord, ...], engine: Engine | None, **outcome: Any
) -> AnswerRecord:
    record = AnswerRecord(question, sources, versions=package_versions(), **outcome)
    if engine is None:
        return record
    return replace(
        record,
        model=engine.checkpoint.name,
        model_reason=engine.checkpoint.model_reason,
        revision=engine.checkpoint.revision,
        adapter=engine.checkpoint.adapter_sha256,
        engine=engine.name,
        device=engine.device,
        dtype=engine.dtype,
        quantize=engine.quantize,
        arithmetic=engine.arithmetic,
    )


def _source_record(source: VideoSource, batch: FrameBatch | None = None) -> SourceRecord:
    sha256: str | None
    try:
        sha256 = content_hash(source.path)
    except RecordError:
        sha256 = None  # an unreadable source has no hash; its own error reports the reason
    if batch is not None and _has_changed(source, batch):
        sha256 = None
    return SourceRecord(
        given=source.given,
        name=source.name,
        kind=source.kind,
        sha256=sha256,
        url=source.url,
        frame_times=batch.pts_seconds if batch else (),
        geometry=batch.geometry if batch else None,
        reader=batch.metadata.reader if batch else None,
        explanation=(batch.selection_note or None) if batch else None,
    )


def _has_changed(source: VideoSource, batch: FrameBatch) -> bool:
    """Whether the file has changed since its frames were decoded."""
    return file_state(source.path)[: len(batch.state)] != batch.state


def _changed_since(prepared: PreparedPrompt) -> Iterator[str]:
    for source, batch in zip(prepared.sources, prepared.batches, strict=True):
        if _has_changed(source, batch):
            yield (
                f"`{source.name}` has changed since its frames were decoded: the record has no "
                "hash of it"
            )


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of this package and of the packages that influence results."""
    found = {"smolvideo": __version__}
    for package in _RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def remember_cost(engine: Engine, usage: Usage, spec: EngineSpec) -> None:
    """Keep what an answer took, to correct later predictions; only where this machine's rates are
    known, and without measuring them."""
    if engine.name != "native":
        return
    model = ModelCost.of_checkpoint(engine.checkpoint, quantize=engine.quantize)
    rates = kept_rates(RateRequest(spec.device, spec.dtype, model.is_tiny, spec.arithmetic))
    if rates is None or (rates.device, rates.dtype) != (engine.device, engine.dtype):
        return
    size = PromptSize(
        usage.frames, usage.prompt_tokens, usage.answer_tokens, usage.frames_from_cache
    )
    raw = predict_uncorrected(model, size, rates)
    measured = {stage: usage.seconds.get(stage, 0.0) for stage in ("encode", "prefill")}
    measured["load"] = engine.load_seconds
    if usage.tokens_per_second is not None and usage.answer_tokens > _MIN_TIMED_TOKENS:
        measured["token"] = 1 / usage.tokens_per_second
    if usage.peak_memory_bytes is not None:
        measured["memory"] = usage.peak_memory_bytes
    predicted = {**raw.seconds, "token": raw.seconds_per_token, "memory": raw.memory_bytes}
    remember(
        model.name,
        model.quantize,
        rates,
        predicted=predicted,
        measured=measured,
        kernels=uses_kernels(model, rates),
    )
