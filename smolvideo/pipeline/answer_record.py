"""Records of answers and errors, with everything needed to reproduce them, and of their cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from smolvideo.answer import Answer, Usage
from smolvideo.cost import (
    ModelCost,
    PromptSize,
    RateRequest,
    kept_rates,
    predict_uncorrected,
    remember,
)
from smolvideo.engines import Engine, EngineSpec, GenerationOptions
from smolvideo.errors import RecordError, SmolVideoError
from smolvideo.files import content_hash, file_state
from smolvideo.frames import FrameBatch
from smolvideo.pipeline.prepare_prompt import PreparedPrompt
from smolvideo.prompt import PromptOptions
from smolvideo.records import AnswerRecord, SourceRecord
from smolvideo.sampling import FrameSampling, RelativeTime
from smolvideo.source import VideoSource
from smolvideo.version import __version__

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
        settings=effective_settings(
            prepared.sampling, prepared.prompt_options, prepared.generation, prepared.reader
        ),
        layout=prepared.prompt.layout,
        geometry=prepared.prompt.geometry,
        tokens=usage.tokens,
        frames_from_cache=usage.frames_from_cache,
        seconds={"load": engine.load_seconds, **usage.seconds},
        peak_memory_bytes=usage.peak_memory_bytes,
        notices=tuple(
            dict.fromkeys((*prepared.notices, *answer.notices, *_changed_since(prepared)))
        ),
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
    everything = {**asdict(sampling), **asdict(prompt_options), **asdict(generation)}
    for name in ("start_seconds", "end_seconds"):
        if isinstance(getattr(sampling, name), RelativeTime):
            everything[name] = str(getattr(sampling, name))
    everything["stop"] = list(generation.stop)
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
        engine=engine.name,
        device=engine.device,
        dtype=engine.dtype,
        quantize=engine.quantize,
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
    rates = kept_rates(RateRequest(spec.device, spec.dtype, model.is_tiny))
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
    remember(model.name, model.quantize, rates, predicted=predicted, measured=measured)
