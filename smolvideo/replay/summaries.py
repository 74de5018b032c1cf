"""Replay of summaries: lines of ``summaries.jsonl``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smolvideo.errors import RecordError, SmolVideoError
from smolvideo.replay.answers import generation_of, prompt_options_of
from smolvideo.replay.comparison import Comparison, ReplayResult
from smolvideo.replay.engines import EnginePool, compare_checkpoint, compare_engine
from smolvideo.replay.evidence import compare_check
from smolvideo.replay.sources import compare_source, find_source
from smolvideo.sanitize import display_name
from smolvideo.summaries import SummaryOptions, SummaryRecord, summarise


def replay_summary(
    record: SummaryRecord, line: int, pool: EnginePool, *, folder: Path
) -> ReplayResult:
    """Summarise the video of ``record`` again, and compare what its record says.

    ``folder`` is that of the record file. Raises ModelError where the model cannot be loaded.
    """
    why = "it holds an error in place of a summary" if record.error is not None else None
    if record.same_as is not None:
        why = "it is a copy of the summary of a video with the same content"
    if (why := why or pool.why_not(record)) is not None:
        return ReplayResult(display_name(record.path), line, skipped=why)
    found = Comparison()
    notices = () if record.hashes else ("the record has no hashes of frames, prompts and weights",)
    _compare(found, record, pool, folder)
    return found.result(record.path, line, notices)


def _compare(found: Comparison, record: SummaryRecord, pool: EnginePool, folder: Path) -> None:
    given = pool.options.folder
    folders = (folder,) if given is None else (given, folder)
    try:
        source = find_source(record.source, folders=folders, offline=pool.options.offline)
        if not compare_source(found, record.source, source):
            return
    except SmolVideoError as error:
        found.differs("file", str(error))
        return
    try:
        checkpoint = pool.checkpoint(record)
    except SmolVideoError as error:
        found.differs("model", str(error), record.model)
        return
    weights = record.hashes.weights if record.hashes is not None else None
    is_same = compare_checkpoint(found, record, weights, checkpoint)
    options = _options(record, pool.options.reader)
    found.values("reader", {"reader": record.settings.get("reader")}, {"reader": options.reader})
    if not is_same:
        return
    engine = pool.engine(record)
    (again,) = summarise(engine, source.path, options=options)
    if again.error is not None:
        found.differs("frames", again.error)
        return
    if record.hashes is not None and again.hashes is not None:
        windows = [
            place
            for place, (before, now) in enumerate(
                zip(record.hashes.frames, again.hashes.frames, strict=False), start=1
            )
            if before != now
        ]
        if windows or len(record.hashes.frames) != len(again.hashes.frames):
            where = f"of window {windows[0]}" if windows else "are of other windows: the frames"
            found.differs("frames", f"the frames {where} differ")
        else:
            found.same("frames")
        prompts = {"token ids": record.hashes.prompt}
        found.values("prompt", prompts, {"token ids": again.hashes.prompt})
    compare_engine(found, record, engine)
    if _compare_texts(found, record, again) and record.check is not None and again.check:
        compare_check(found, record.check, again.check)


def _compare_texts(found: Comparison, record: SummaryRecord, again: SummaryRecord) -> bool:
    for place, (before, now) in enumerate(zip(record.notes, again.notes, strict=False), start=1):
        if before.text != now.text:
            found.differs("answer", f"the note of window {place} is another", before.text, now.text)
            return False
    if record.text != again.text:
        found.differs("answer", "the summary is another", record.text, again.text)
    elif [one.text for one in record.chapters] != [one.text for one in again.chapters]:
        found.differs("answer", "the chapters are others")
    else:
        found.same("answer")
        return True
    return False


def _options(record: SummaryRecord, reader: str | None) -> SummaryOptions:
    settings: Mapping[str, Any] = record.settings
    own = {
        name: settings[name]
        for name in ("style", "prompt", "window_seconds", "max_frames", "reader")
        if name in settings
    }
    if reader is not None:
        own["reader"] = reader
    try:
        return SummaryOptions(
            **own,
            check_share=float(record.check is not None),
            prompt_options=prompt_options_of(settings),
            generation=generation_of(settings),
        )
    except (TypeError, ValueError, SmolVideoError) as error:
        raise RecordError(f"the settings of the record are damaged: {error}") from error
