"""What the answers of an exam are worth."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from smolvideo.bench.report import machine
from smolvideo.evals.protocol.official_rules import cinepile_parts
from smolvideo.json_types import Count
from smolvideo.records import json_line, parse_known_fields
from smolvideo.sanitize import visible_json
from smolvideo.train.world.question import Question, same_answer
from smolvideo.train.world.scene_sampler import Split


@dataclass(frozen=True)
class ExamAnswer:
    """One question with what was answered to it, seeing and blind.

    ``likeliest``, ``blind_likeliest``: the letter of the option whose words are the likeliest
    answer, where there are options and the engine tells probabilities. It is number ``place``, from
    0, of the ``count`` questions about its video.
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

    SCHEMA: ClassVar[str] = "smolvideo.exam-answer/1"

    def to_json(self) -> str:
        """One line without its line break."""
        return json_line({"record": self.SCHEMA} | asdict(self))

    @classmethod
    def from_json(cls, line: str | bytes) -> "ExamAnswer":
        """The answer of one line; ValueError if it is none."""
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
    """All answers, in the order of the paper; ``setting`` is who sat it, and which exam it was."""

    setting: dict[str, Any]
    answers: tuple[ExamAnswer, ...]

    def to_json(self) -> str:
        """One line: the summary, and what it was measured on."""
        return visible_json(json.dumps({**self.summary(), **self.setting, "machine": machine()}))

    def summary(self) -> dict[str, Any]:
        """Shares of right answers, of the questions that each entry speaks of.

        ``open`` and ``multiple_choice`` (a letter wanted; ``…_by_score``: the likeliest option
        taken) seen, ``blind`` all with grey frames, ``by_type``, and open questions of
        ``combinations`` and in ``wordings`` that training knew or did not.
        """
        asked_openly = [a for a in self.answers if a.type != "choice"]
        choices = [a for a in self.answers if a.type == "choice"]
        scored = [a for a in choices if a.likeliest is not None]
        types = sorted({a.type for a in asked_openly})
        return {
            "questions": len(self.answers),
            "open": _share(asked_openly),
            "multiple_choice": _share(choices),
            "multiple_choice_by_score": _share(scored, lambda a: a.likeliest == a.answer),
            "blind": {
                "open": _share(asked_openly, _blind_right),
                "multiple_choice": _share(choices, _blind_right),
                "multiple_choice_by_score": _share(scored, lambda a: a.blind_likeliest == a.answer),
            },
            "by_type": {
                name: {
                    "right": _share(a for a in asked_openly if a.type == name),
                    "blind": _share((a for a in asked_openly if a.type == name), _blind_right),
                    "asked": sum(a.type == name for a in asked_openly),
                }
                for name in types
            },
            "combinations": {
                "known": _share(a for a in asked_openly if a.side == "fresh"),
                "novel": _share(a for a in asked_openly if a.side == "novel"),
            },
            "wordings": {
                "known": _share(a for a in asked_openly if not a.novel_wording),
                "novel": _share(a for a in asked_openly if a.novel_wording),
            },
        }

    def to_jsonl(self) -> str:
        """Every answer as one JSON line."""
        return "".join(answer.to_json() + "\n" for answer in self.answers)


def is_correct(question: Question, given: str, *, duration: float, step: float) -> bool:
    """Whether ``given`` answers the question.

    A letter for options, read by CinePile's own rule; a time at most one ``step`` of the sampling
    (seconds) from where it happens, in whole seconds as time stamps are; words exactly.
    """
    if question.type == "choice":
        return cinepile_parts(given)[0] == question.answer
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


def _blind_right(answer: ExamAnswer) -> bool:
    return answer.blind_right
