"""Run of nano's evaluation: answers on disk for resuming, and their accuracies."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from smolvideo.bench.report import machine
from smolvideo.engines import Engine
from smolvideo.errors import RecordError
from smolvideo.evals.datasets.schemas.cinepile import cinepile_parts
from smolvideo.evals.run import model_identity
from smolvideo.evals.run_folder import RunFiles
from smolvideo.json_types import Count
from smolvideo.pipeline import package_versions
from smolvideo.records import RecordWriter, json_line, parse_known_fields, read_records
from smolvideo.sanitize import display_path, visible_json
from smolvideo.train.exam import ExamOptions, ExamPart
from smolvideo.train.exam.unanswerable import ABSENT, REFUSED, is_abstention, is_negation
from smolvideo.train.world.question import Question, same_answer
from smolvideo.train.world.scene_sampler import Split


@dataclass(frozen=True)
class ExamAnswer:
    """One question with its two answers: with the frames (``seen``) and with grey ones (``blind``).

    ``likeliest``, ``blind_likeliest``: the letter of the option whose words are most likely, for
    questions with options if the engine gives likelihoods. ``place`` is its index, from 0, among
    the ``count`` questions of its ``part`` about its video. ``intent``: what is asked for, if the
    wording is new.
    """

    video: Count
    side: Split
    novel_wording: bool
    type: str
    question: str
    answer: str
    seen: str
    blind: str
    right: bool
    blind_right: bool
    likeliest: str | None = None
    blind_likeliest: str | None = None
    place: Count = 0
    count: Count = 1
    part: ExamPart = "old"
    intent: str | None = None

    SCHEMA: ClassVar[str] = "smolvideo.exam-answer/1"

    def to_json(self) -> str:
        """Return one line without its line break."""
        return json_line({"record": self.SCHEMA} | asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> "ExamAnswer":
        """Parse one line; raises ValueError if it is not an answer."""
        answer = cls(**parse_known_fields(cls, line))
        if answer.place >= answer.count:
            raise ValueError(f"there is no question {answer.place} of {answer.count}")
        for given, right in (answer.seen, answer.right), (answer.blind, answer.blind_right):
            if answer.type == "choice":
                is_exact = cinepile_parts(given)[0] == answer.answer
            else:
                is_exact = same_answer(given, answer.answer)
            if is_exact != right and (is_exact or answer.type == "choice"):
                raise ValueError(f"`{given}` cannot be {'right' if right else 'wrong'}")
        return answer


@dataclass(frozen=True)
class ExamReport:
    """All answers, in the order of the questions; ``setting``: the model and the evaluation."""

    setting: dict[str, Any]
    answers: tuple[ExamAnswer, ...]

    def to_json(self) -> str:
        """Return one line: the summary, the setting and the machine."""
        return visible_json(json.dumps({**self.summary(), **self.setting, "machine": machine()}))

    def summary(self) -> dict[str, Any]:
        """Return accuracies by group.

        ``open`` and ``multiple_choice`` (a letter is asked for; ``…_by_score``: the most likely
        option is taken) with the frames, ``blind`` with grey frames, ``by_type``, and open
        questions by held-out (``novel``) or known ``combinations`` and ``wordings``: all of these
        of the part ``old``. Then a group for each other part.
        """
        old = [a for a in self.answers if a.part == "old"]
        asked_openly = [a for a in old if a.type != "choice"]
        choices = [a for a in old if a.type == "choice"]
        scored = [a for a in choices if a.likeliest is not None]
        return {
            "questions": len(old),
            "open": _share(asked_openly),
            "multiple_choice": _share(choices),
            "multiple_choice_by_score": _share(scored, lambda a: a.likeliest == a.answer),
            "blind": {
                "open": _share(asked_openly, _blind_right),
                "multiple_choice": _share(choices, _blind_right),
                "multiple_choice_by_score": _share(scored, lambda a: a.blind_likeliest == a.answer),
            },
            "by_type": _by(asked_openly, lambda a: a.type),
            "combinations": {
                "known": _share(a for a in asked_openly if a.side == "fresh"),
                "novel": _share(a for a in asked_openly if a.side == "novel"),
            },
            "wordings": {
                "known": _share(a for a in asked_openly if not a.novel_wording),
                "novel": _share(a for a in asked_openly if a.novel_wording),
            },
            **self._new_parts(),
        }

    def _new_parts(self) -> dict[str, Any]:
        """Accuracies of the parts after ``old``, and abstentions where there is an answer."""
        worded = [a for a in self.answers if a.part == "wordings"]
        redrawn = [a for a in self.answers if a.part == "renderer"]
        unanswerable = [a for a in self.answers if a.part == "unanswerable"]
        answerable = [a for a in self.answers if a.part != "unanswerable"]
        yes_no = [a for a in worded if a.type == "yes-no"]
        return {
            "new_wordings": {
                "all": _shares(worded),
                "yes_no": _shares(yes_no),
                "truth_yes": _shares([a for a in yes_no if a.answer == "yes"]),
                "truth_no": _shares([a for a in yes_no if a.answer == "no"]),
                "by_intent": _by(worded, lambda a: a.intent or ""),
            },
            "second_renderer": {
                "all": _shares(redrawn),
                "by_type": _by(redrawn, lambda a: a.type),
            },
            "unanswerable": {
                "right": _share(unanswerable, lambda a: a.right and not is_abstention(a.seen)),
                "wrong": _share(unanswerable, lambda a: not a.right),
                "abstained": _share(unanswerable, lambda a: is_abstention(a.seen)),
                "asked": len(unanswerable),
            },
            "answerable_abstained": _share(answerable, lambda a: is_abstention(a.seen)),
        }

    def to_jsonl(self) -> str:
        """Return every answer as one JSON line."""
        return "".join(answer.to_json() + "\n" for answer in self.answers)


def is_correct(question: Question, given: str, *, duration: float, step: float) -> bool:
    """Whether ``given`` answers the question.

    Options: the letter that CinePile's own rule extracts. Questions without an answer: the
    abstention, or a negation if presence or number is asked for. Times: at most one sampling
    interval ``step`` (seconds) from the event, in whole seconds like time stamps. Others: exact
    match.
    """
    if question.type == "choice":
        return cinepile_parts(given)[0] == question.answer
    if question.type in (REFUSED, ABSENT):
        return is_abstention(given) or (question.type == ABSENT and is_negation(given))
    if question.event_time is None or same_answer(given, question.answer):
        return same_answer(given, question.answer)
    seconds = _seconds(given)
    return seconds is not None and -step - 1 < seconds - question.event_time * duration <= step


def _seconds(stamp: str) -> int | None:
    minutes, colon, seconds = stamp.strip(" .").partition(":")
    if not (colon and minutes.isdecimal() and seconds.isdecimal() and len(seconds) == 2):
        return None
    return 60 * int(minutes) + int(seconds)


def _share(
    answers: Iterable[ExamAnswer], counts: Callable[[ExamAnswer], bool] = lambda a: a.right
) -> float | None:
    counted = [counts(answer) for answer in answers]
    return round(sum(counted) / len(counted), 4) if counted else None


def _shares(answers: Sequence[ExamAnswer]) -> dict[str, Any]:
    right, blind = _share(answers), _share(answers, _blind_right)
    return {"right": right, "blind": blind, "asked": len(answers)}


def _by(answers: Sequence[ExamAnswer], group: Callable[[ExamAnswer], str]) -> dict[str, Any]:
    names = sorted({group(answer) for answer in answers})
    return {name: _shares([a for a in answers if group(a) == name]) for name in names}


def _blind_right(answer: ExamAnswer) -> bool:
    return answer.blind_right


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

    def answers(self) -> dict[tuple[ExamPart, int], tuple[ExamAnswer, ...]]:
        """Answers of each completely answered video, by part and number. Raises RecordError."""
        if not self._path.exists():
            return {}
        found: dict[tuple[ExamPart, int], dict[int, ExamAnswer]] = {}
        for answer in read_records(self._path, ExamAnswer):
            found.setdefault((answer.part, answer.video), {})[answer.place] = answer
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
