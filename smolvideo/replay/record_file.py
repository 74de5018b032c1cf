"""Files of records, whatever their kind, and the replay of each line."""

from collections.abc import Iterator
from pathlib import Path

from smolvideo.errors import RecordError
from smolvideo.json_types import parse_json
from smolvideo.records import AnswerRecord, read_records
from smolvideo.replay.answers import replay_answer
from smolvideo.replay.comparison import ReplayResult
from smolvideo.replay.engines import EnginePool
from smolvideo.replay.eval_runs import replay_run
from smolvideo.replay.summaries import replay_summary
from smolvideo.sanitize import display_path
from smolvideo.summaries import SummaryRecord
from smolvideo.text_input import open_regular

_EVAL = "smolvideo.eval-answer"
_KINDS = ("smolvideo.answer", "smolvideo.summary", _EVAL)


def open_replays(
    path: Path, pool: EnginePool, *, line: int | None = None
) -> Iterator[ReplayResult]:
    """Yield the replay of each record of ``path``, or of one ``line`` (from 1).

    ``path`` is a file of answers or summaries, a run of ``eval``, or its ``answers.jsonl``. Raises
    RecordError where it cannot be read or has no such line, and the errors of loading the model.
    """
    if path.is_dir():
        return _checked(replay_run(path, pool, only=line), path, line)
    kind = _kind_of(path)
    if kind == _EVAL:
        return _checked(replay_run(path.absolute().parent, pool, only=line), path, line)
    return _checked(_replay_lines(path, kind, pool, line), path, line)


def _replay_lines(
    path: Path, kind: str, pool: EnginePool, only: int | None
) -> Iterator[ReplayResult]:
    folder = path.absolute().parent
    if kind == AnswerRecord.SCHEMA.rpartition("/")[0]:
        for line, answer in enumerate(read_records(path, AnswerRecord), start=1):
            if only is None or only == line:
                yield replay_answer(answer, line, pool, folder=folder)
        return
    for line, summary in enumerate(read_records(path, SummaryRecord), start=1):
        if only is None or only == line:
            yield replay_summary(summary, line, pool, folder=folder)


def _checked(
    results: Iterator[ReplayResult], path: Path, line: int | None
) -> Iterator[ReplayResult]:
    """Yield ``results``; RecordError where there are none."""
    is_empty = True
    for result in results:
        is_empty = False
        yield result
    if is_empty:
        what = "no records" if line is None else f"no record {line}"
        raise RecordError(f"{display_path(path)} has {what}")


def _kind_of(path: Path) -> str:
    """Return the kind of the first record of a file, without its version. Raises RecordError."""
    try:
        with open_regular(path) as stream:
            line = stream.readline()
        content = parse_json(line)
        kind = str(content["record"]).rpartition("/")[0]
    except OSError as error:
        raise RecordError(f"cannot read {display_path(path)}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise _no_records(path) from error
    if kind not in _KINDS:
        raise _no_records(path)
    return kind


def _no_records(path: Path) -> RecordError:
    return RecordError(
        f"{display_path(path)} does not hold records that can be replayed",
        hint="name a file of `ask --save`, a `summaries.jsonl`, or the folder of an eval run",
    )
