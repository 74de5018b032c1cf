"""Replay of answers: lines of ``ask --save``, ``ask --json`` and ``chat --jsonl``."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from smolvideo.answer import Answer
from smolvideo.calibration import Calibration
from smolvideo.engines import Engine, GenerationOptions, Session
from smolvideo.errors import RecordError, SmolVideoError
from smolvideo.evidence import answers_alike, open_session
from smolvideo.formatting import format_clock
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt, answer_by_choice, prepare
from smolvideo.pipeline.compare import prepare_comparison
from smolvideo.prompt import Prompt, PromptOptions, answer_ids
from smolvideo.record_parts import hash_images, hash_token_ids
from smolvideo.records import AnswerRecord
from smolvideo.replay.comparison import Comparison, ReplayResult
from smolvideo.replay.engines import EnginePool, compare_checkpoint, compare_engine
from smolvideo.replay.evidence import compare_evidence
from smolvideo.replay.sources import compare_source, find_source
from smolvideo.sampling import FrameSampling, parse_time
from smolvideo.sanitize import display_name
from smolvideo.source import VideoSource

Options = TypeVar("Options", FrameSampling, PromptOptions, GenerationOptions)

_TOLERANCE = 1e-3
"""Of probabilities: they are equal to the bit where the arithmetic is."""


def replay_answer(
    record: AnswerRecord, line: int, pool: EnginePool, *, folder: Path
) -> ReplayResult:
    """Compute the answer of ``record`` again, and compare it step by step.

    ``folder`` is that of the record file. Raises ModelError where the model cannot be loaded.
    """
    if (why := _why_not(record) or pool.why_not(record)) is not None:
        return ReplayResult(display_name(record.question), line, skipped=why)
    found = Comparison()
    prepared, checkpoint = _prepare(record, found, pool, folder)
    notices = () if record.hashes else ("the record has no hashes of frames, prompt and weights",)
    if any(source.sha256 is None for source in record.sources):
        notices = (*notices, "the record has no hash of a source, whose content is not compared")
    if prepared is not None and checkpoint is not None:
        engine = pool.engine(record)
        session = open_session(engine, prepared)
        answer = _answer(record, prepared, engine, session)
        compare_engine(found, record, engine)
        _compare_answers(found, record, answer, prepared.prompt, checkpoint)
        if record.text == answer.text:  # evidence is about one answer
            choices, calibration = _choices(record)
            alike = answers_alike(prepared, engine, session, choices, calibration)
            compare_evidence(found, record, prepared, answer, engine, session, alike)
    return found.result(record.question, line, notices)


def _why_not(record: AnswerRecord) -> str | None:
    if record.error is not None:
        return "it holds an error in place of an answer"
    if record.history:
        return "it is of a conversation, whose earlier turns are not in the record"
    if not record.sources or not record.settings:
        return "it has no sources or no settings"
    if record.settings.get("temperature") and record.settings.get("seed") is None:
        return "its tokens were sampled without a seed"
    return None


def _prepare(
    record: AnswerRecord, found: Comparison, pool: EnginePool, folder: Path
) -> tuple[PreparedPrompt | None, Checkpoint | None]:
    """Find, decode and pack again; None after a difference that another answer follows from."""
    try:
        sources = _sources(record, found, pool, folder)
    except (SmolVideoError, RecordError) as error:
        found.differs("file", str(error))
        return None, None
    if sources is None:
        return None, None
    try:
        checkpoint = pool.checkpoint(record)
    except SmolVideoError as error:
        found.differs("model", str(error), record.model)
        return None, None
    reader = pool.options.reader or str(record.settings.get("reader", "auto"))
    with_subtitles = partial(prepare, subtitles=record.subtitles)
    again = prepare_comparison if record.interleaved else with_subtitles
    prepared = again(
        checkpoint,
        sources,
        record.question,
        sampling=sampling_of(record.settings),
        prompt_options=prompt_options_of(record.settings),
        generation=_generation(record),
        reader=reader,
    )
    is_same = _compare_frames(found, record, prepared)
    is_same &= compare_checkpoint(
        found, record, record.hashes.weights if record.hashes else None, checkpoint
    )
    return (prepared, checkpoint) if is_same else (None, None)


def _sources(
    record: AnswerRecord, found: Comparison, pool: EnginePool, folder: Path
) -> list[VideoSource] | None:
    given = pool.options.folder
    folders = (folder,) if given is None else (given, folder)
    offline = pool.options.offline
    sources = [find_source(one, folders=folders, offline=offline) for one in record.sources]
    pairs = zip(record.sources, sources, strict=True)
    return sources if all([compare_source(found, one, source) for one, source in pairs]) else None


def _compare_frames(found: Comparison, record: AnswerRecord, prepared: PreparedPrompt) -> bool:
    """Compare readers, times, pixels and token ids; return whether the input is the same."""
    pairs = list(zip(record.sources, prepared.batches, strict=True))
    readers = [
        found.values("reader", {"reader": one.reader}, {"reader": batch.metadata.reader})
        for one, batch in pairs
    ]
    is_same = all(readers)
    for one, batch in pairs:
        times = [round(time, 3) for time in batch.pts_seconds]
        if [round(time, 3) for time in one.frame_times] != times:
            is_same = False
            text = f"the frames of `{display_name(one.name)}` are at other times"
            found.differs("frames", text, list(one.frame_times), list(batch.pts_seconds))
    if record.hashes is None:
        return is_same
    hashes = [hash_images(image) for image in prepared.prompt.images]
    if list(record.hashes.frames) != hashes:
        is_same = False
        text = _describe_frames(record.hashes.frames, hashes, prepared)
        found.differs("frames", text)
    else:
        found.same("frames")
    now = hash_token_ids([prepared.prompt.token_ids])
    return found.values("prompt", {"token ids": record.hashes.prompt}, {"token ids": now}) & is_same


def _describe_frames(
    recorded: Sequence[str], hashes: Sequence[str], prepared: PreparedPrompt
) -> str:
    """Name the first image whose pixels differ."""
    if len(recorded) != len(hashes):
        return f"there were {len(recorded)} images, and there are {len(hashes)} now"
    places = [place for place, one in enumerate(recorded) if one != hashes[place]]
    times = [time for batch in prepared.batches for time in batch.pts_seconds]
    where = f"image {places[0] + 1}"
    if len(times) == len(hashes):
        where = f"frame {places[0] + 1}, at {format_clock(times[places[0]], decimals=1)},"
    return f"the pixels of {len(places)} of {len(hashes)} images differ: {where} is the first"


def _answer(
    record: AnswerRecord, prepared: PreparedPrompt, engine: Engine, session: Session | None
) -> Answer:
    source = engine if session is None else session
    choices, calibration = _choices(record)
    if choices is None:
        return source.stream(prepared.prompt, prepared.generation).result()
    return answer_by_choice(source, engine.checkpoint, prepared, choices, calibration=calibration)


def _choices(record: AnswerRecord) -> tuple[list[str] | None, Calibration | None]:
    if record.choices is None:
        return None, None
    scale = record.choices.calibration
    calibration = None if scale is None else Calibration(**scale)  # type: ignore[arg-type]
    return [*record.choices.probabilities], calibration


def _compare_answers(
    found: Comparison, record: AnswerRecord, answer: Answer, prompt: Prompt, checkpoint: Checkpoint
) -> None:
    recorded = record.text or ""
    if recorded != answer.text:
        text = describe_texts(recorded, answer.text, prompt, checkpoint)
        found.differs("answer", text, recorded, answer.text)
        return
    found.values("answer", {"stop reason": record.stop_reason}, {"stop reason": answer.stop_reason})
    if record.choices is None or answer.choices is None:
        return
    if abs(record.choices.mass - answer.choices.mass) > _TOLERANCE:
        before, now = record.choices.mass, answer.choices.mass
        text = f"the probability of all choices together was {before:.4f}, and is {now:.4f}"
        found.differs("answer", text, before, now)
    for choice, before in record.choices.probabilities.items():
        now = answer.choices.probabilities.get(choice, 0.0)
        if abs(before - now) > _TOLERANCE:
            text = f"the probability of `{display_name(choice)}` was {before:.4f}, and is {now:.4f}"
            found.differs("answer", text, before, now)


def describe_texts(recorded: str, now: str, prompt: Prompt, checkpoint: Checkpoint) -> str:
    """Name the first token at which two answers differ."""
    ids = [answer_ids(prompt, text, checkpoint) if text.strip() else [] for text in (recorded, now)]
    for place, (before, after) in enumerate(zip_longest(*ids), start=1):
        if before != after:
            shown = [_piece(checkpoint, token) for token in (before, after)]
            return f"token {place} of the answer was {shown[0]}, and is {shown[1]}"
    return "the answers differ in blanks"


def _piece(checkpoint: Checkpoint, token: int | None) -> str:
    if token is None:
        return "its end"
    return f"`{display_name(checkpoint.tokenizer.decode([token]).strip())}`"


def _generation(record: AnswerRecord) -> GenerationOptions:
    if record.choices is not None:
        return GenerationOptions(max_new_tokens=1)
    return generation_of(record.settings)


def generation_of(settings: Mapping[str, Any]) -> GenerationOptions:
    """Return the options of generation among the settings of a record. Raises RecordError."""
    return _options(GenerationOptions, {**settings, "stop": tuple(settings.get("stop") or ())})


def prompt_options_of(settings: Mapping[str, Any]) -> PromptOptions:
    """Return the options of the prompt among the settings of a record. Raises RecordError."""
    return _options(PromptOptions, settings)


def sampling_of(settings: Mapping[str, Any]) -> FrameSampling:
    """Return the options of sampling among the settings of a record. Raises RecordError."""
    content = dict(settings)
    for name in ("start_seconds", "end_seconds"):
        if isinstance(content.get(name), str):
            content[name] = parse_time(content[name])
    return _options(FrameSampling, content)


def _options(kind: type[Options], settings: Mapping[str, Any]) -> Options:
    """Return the options of ``kind`` among the settings of a record. Raises RecordError."""
    names = {option.name for option in fields(kind)}
    try:
        return kind(**{name: value for name, value in settings.items() if name in names})
    except (TypeError, ValueError, SmolVideoError) as error:
        raise RecordError(f"the settings of the record are damaged: {error}") from error
