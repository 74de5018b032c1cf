"""Run folder of nano's evaluation: answers are saved as they come, so that it can be resumed."""

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
    """One engine's answers to one evaluation, in a folder: run.json and answers.jsonl."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files

    @classmethod
    def open(cls, folder: Path, engine: Engine, options: ExamOptions) -> "ExamRun":
        """Create a run, or open the existing one to resume it.

        Raises UsageError if it belongs to another evaluation or model, RecordError if the folder
        holds something else or cannot be written.
        """
        files = RunFiles(folder, "smolvideo.exam/1", (_ANSWERS,))
        versions = package_versions()
        exam = asdict(options) | {"smolvideo": versions["smolvideo"]}  # determines the videos
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
        """Lock the run and yield a writer that appends answers. Raises RecordError."""
        with self._files.held(), RecordWriter(self._path, ExamAnswer) as writer:
            yield writer

    def answers(self) -> dict[int, tuple[ExamAnswer, ...]]:
        """Answers of each completely answered video, by video number. Raises RecordError."""
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
