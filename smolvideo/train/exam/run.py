"""An exam on disk: every answer as it comes, so that one that was stopped goes on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smolvideo.engines import Engine
from smolvideo.errors import RecordError
from smolvideo.evals.run import model_identity
from smolvideo.evals.run_files import RunFiles
from smolvideo.pipeline import package_versions
from smolvideo.records import RecordWriter, read_records
from smolvideo.sanitize import display_path
from smolvideo.train.exam.options import ExamOptions
from smolvideo.train.exam.scores import ExamAnswer

_ANSWERS = "answers.jsonl"


class ExamRun:
    """The answers of one engine to one exam, in a folder: run.json and answers.jsonl."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files

    @classmethod
    def open(cls, folder: Path, engine: Engine, options: ExamOptions) -> "ExamRun":
        """A new run, or the one that was there, to go on with.

        Raises UsageError where that was another exam or model, RecordError where the folder holds
        something else or cannot be written.
        """
        files = RunFiles(folder, "smolvideo.exam/1", (_ANSWERS,))
        versions = package_versions()
        exam = asdict(options) | {"smolvideo": versions["smolvideo"]}  # which draws the videos
        setting = {"exam": exam, "model": model_identity(engine)}
        if not files.is_begun:
            files.begin(setting | {"versions": versions}, {})
            return cls(files)
        try:
            before = files.content()
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{display_path(folder)} holds no exam that can be read") from error
        files.check_same(
            [change for part in setting for change in _differences(before, setting, part)]
        )
        return cls(files)

    @contextmanager
    def held(self) -> Iterator[RecordWriter]:
        """What appends answers; nobody else writes meanwhile. Raises RecordError."""
        with self._files.held(), RecordWriter(self._path, ExamAnswer) as writer:
            yield writer

    def answers(self) -> dict[int, tuple[ExamAnswer, ...]]:
        """The answers about each video that has all of them, by its number. Raises RecordError."""
        if not self._path.exists():
            return {}
        found: dict[int, dict[int, ExamAnswer]] = {}
        for answer in read_records(self._path, ExamAnswer):
            found.setdefault(answer.video, {})[answer.place] = answer
        return {
            video: tuple(answers[place] for place in sorted(answers))
            for video, answers in found.items()
            if _is_whole(list(answers.values()))
        }

    @property
    def _path(self) -> Path:
        return self._files.folder / _ANSWERS


def _is_whole(answers: Sequence[ExamAnswer]) -> bool:
    places = {answer.place for answer in answers}
    return {one.count for one in answers} == {len(places)} and places == set(range(len(places)))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], part: str) -> list[str]:
    earlier = before.get(part)
    known = earlier if isinstance(earlier, dict) else {}
    names = dict.fromkeys((*known, *now[part]))
    return [
        f"{name}: {known.get(name)}, now {now[part].get(name)}"
        for name in names
        if known.get(name) != now[part].get(name)
    ]
