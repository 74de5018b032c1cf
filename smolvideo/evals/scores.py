"""Scores of a run, computed from its files alone."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from smolvideo.calibration import IDENTITY, Reliability, reliability
from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.evals.grouping import Grouping, group_items
from smolvideo.evals.item import EvalItem
from smolvideo.evals.run_folder import EvalAnswer, EvalVideo, RunFolder, RunInfo
from smolvideo.evals.run_records import NO_CHOICE
from smolvideo.evals.settings import Condition
from smolvideo.evals.statistics import (
    Accuracy,
    Bounds,
    accuracy,
    bounds,
)

NANO_SCORE_NOTICE = "nano knows drawn scenes alone: its score on real footage means nothing"

NO_ANSWER = ("missing", "video", "prompt", "model")
"""Kinds of missing answers: not in the accuracy, but in coverage and bounds."""


@dataclass(frozen=True)
class Score:
    """Score of one group of items: ``share`` is over the answered items, ``bounds`` over all.

    ``chance`` is the expected accuracy of random choice. ``counts`` has the answers without a
    choice and the items without an answer, by ``NO_CHOICE`` and ``NO_ANSWER``.
    """

    share: Accuracy
    total: int
    bounds: Bounds | None
    chance: float
    counts: Mapping[str, int]

    @property
    def coverage(self) -> float:
        """Share of the items that have an answer."""
        return self.share.answered / self.total if self.total else 0.0

    @property
    def unclear(self) -> int:
        """Number of answers without a choice."""
        return sum(self.counts.get(kind, 0) for kind in NO_CHOICE)


@dataclass(frozen=True)
class MeanOfGroups:
    """Mean accuracy over the groups of ``field``, all with the same weight.

    ``answered`` of ``groups`` groups have an answer; the others are not in it.
    """

    field: str
    answered: int
    groups: int
    accuracy: float


@dataclass(frozen=True)
class ConditionScores:
    """``groups`` maps a grouping to the scores of its groups; ``same_choice`` is the share of items
    with the same choice as in the main condition, among items with a choice in both.
    ``reliability`` is of the probabilities of the options, None where they were not scored.
    """

    overall: Score
    groups: Mapping[str, Mapping[str, Score]]
    same_choice: float | None = None
    reliability: Reliability | None = None
    mean_of_groups: MeanOfGroups | None = None


@dataclass(frozen=True)
class EvalReport:
    """All results of a run; ``notices`` are sentences that belong with every score.

    ``unlabelled`` counts items without a public answer, which are in no score, and
    ``unlabelled_answered`` those of them that have an answer in every condition.
    """

    name: str
    info: RunInfo
    conditions: Mapping[Condition, ConditionScores]
    videos: int
    videos_seen: int
    seconds: Mapping[str, float]
    notices: tuple[str, ...] = ()
    unlabelled: int = 0
    unlabelled_answered: int = 0

    @property
    def main(self) -> ConditionScores:
        return self.conditions["main"]

    @property
    def complete(self) -> bool:
        """Whether every item has an answer in every condition."""
        scored = (one.overall for one in self.conditions.values())
        return self.unlabelled == self.unlabelled_answered and all(
            score.share.answered == score.total for score in scored
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "record": "smolvideo.eval-report/1",
            "run": self.name,
            "benchmark": self.info.benchmark,
            "model": self.info.model,
            "settings": self.info.settings,
            "versions": self.info.versions,
            "created": self.info.created,
            "notices": list(self.notices),
            "videos": self.videos,
            "videos_seen": self.videos_seen,
            "unlabelled": self.unlabelled,
            "unlabelled_answered": self.unlabelled_answered,
            "seconds": dict(self.seconds),
            "conditions": {
                name: {
                    "overall": _plain(scores.overall),
                    "groups": {
                        group: {value: _plain(score) for value, score in members.items()}
                        for group, members in scores.groups.items()
                    },
                    "same_choice_as_main": scores.same_choice,
                    "reliability": scores.reliability and scores.reliability.to_json(),
                    "mean_of_groups": scores.mean_of_groups and asdict(scores.mean_of_groups),
                }
                for name, scores in self.conditions.items()
            },
        }


def _plain(score: Score) -> dict[str, Any]:
    return {
        "accuracy": score.share.value,
        "interval": [score.share.low, score.share.high],
        "standard_error": score.share.standard_error,
        "right": score.share.right,
        "answered": score.share.answered,
        "items": score.total,
        "videos": score.share.videos,
        "effective_videos": score.share.effective_videos,
        "coverage": score.coverage,
        "bounds": asdict(score.bounds) if score.bounds else None,
        "chance": score.chance,
        "counts": dict(score.counts),
    }


def build_report(run: RunFolder, groupings: Sequence[Grouping] = ()) -> EvalReport:
    """Score a run, finished or not; items without an answer so far count as missing.

    ``groupings`` are the groups to score, all fields by default; see ``group_items``.
    """
    answers, videos = run.answers(), run.videos()
    by_condition: dict[Condition, dict[str, EvalAnswer]] = {}
    for answer in answers.values():
        by_condition.setdefault(answer.condition, {})[answer.id] = answer
    wanted: list[Condition] = ["main", *run.info.settings["controls"]]
    main = by_condition.get("main", {})
    labelled = [item for item in run.items if item.answer_index is not None]
    mean_over = SCHEMAS[run.info.benchmark["name"]].mean_over
    conditions = {
        condition: _condition_scores(
            labelled, by_condition.get(condition, {}), main, condition, groupings, mean_over
        )
        for condition in wanted
    }
    unlabelled = [item.id for item in run.items if item.answer_index is None]
    given = [{key for key, one in of.items() if not one.failed} for of in by_condition.values()]
    answered = sum(
        len(given) == len(wanted) and all(key in of for of in given) for key in unlabelled
    )
    seen = {answer.cluster for answer in main.values() if not answer.failed}
    seconds: Counter[str] = Counter()
    for video in videos.values():
        seconds.update(video.seconds)
    return EvalReport(
        run.folder.resolve().name,
        run.info,
        conditions,
        videos=len(_videos(run.items, main)),
        videos_seen=len(seen),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        notices=(*run.info.notices, *_notices(answers.values(), videos.values())),
        unlabelled=len(unlabelled),
        unlabelled_answered=answered,
    )


def _videos(items: Sequence[EvalItem], main: Mapping[str, EvalAnswer]) -> set[str]:
    """The files that were read, and the names of videos without one."""
    files = {item.video_names: main[item.id].file for item in items if item.id in main}
    return {files.get(item.video_names) or item.video for item in items}


def _notices(answers: Iterable[EvalAnswer], videos: Iterable[EvalVideo]) -> Iterator[str]:
    """Summaries of the notices of single videos and answers; empty answers are counted with the
    answers without a choice."""
    if any(video.layout == "nano" and not video.drawn for video in videos):
        yield NANO_SCORE_NOTICE
    noted = sum(bool(video.notices) for video in videos)
    if noted:
        of = "1 video" if noted == 1 else f"{noted:,} videos"
        yield f"notices on {of} are in `videos.jsonl` and in the html report"
    cut = sum(answer.stop_reason == "length" for answer in answers)
    if cut:
        were = "answer was" if cut == 1 else "answers were"
        yield f"{cut:,} {were} cut: `--max-new-tokens` allows more"


def _condition_scores(
    items: Sequence[EvalItem],
    answers: Mapping[str, EvalAnswer],
    main: Mapping[str, EvalAnswer],
    condition: Condition,
    groupings: Sequence[Grouping],
    mean_over: str | None,
) -> ConditionScores:
    scores = {
        title: {value: score_of(members, answers) for value, members in groups.items()}
        for title, groups in group_items(items, groupings).items()
    }
    same = None if condition == "main" else _same_choice(answers, main)
    judged = (answers[item.id] for item in items if item.id in answers)
    return ConditionScores(
        score_of(items, answers),
        scores,
        same,
        _reliability_of(judged),
        None if mean_over is None else _mean_of_groups(items, answers, mean_over),
    )


def _mean_of_groups(
    items: Sequence[EvalItem], answers: Mapping[str, EvalAnswer], field: str
) -> MeanOfGroups | None:
    groups = group_items(items, [(field,)]).get(field, {})
    shares = [score_of(members, answers).share.value for members in groups.values()]
    answered = [share for share in shares if share is not None]
    if not answered:
        return None
    return MeanOfGroups(field, len(answered), len(groups), fmean(answered))


def _reliability_of(answers: Iterable[EvalAnswer]) -> Reliability | None:
    """Reliability of the probability of the chosen option, among the options of its item."""
    scored = [answer for answer in answers if answer.scores]
    if not scored:
        return None
    confidences = [max(IDENTITY.probabilities(answer.scores or ())) for answer in scored]
    return reliability(confidences, [answer.correct for answer in scored])


def score_of(items: Iterable[EvalItem], answers: Mapping[str, EvalAnswer]) -> Score:
    """Score ``items``; an item without an answer counts as missing."""
    num_expected = list(items)
    given = [answers[item.id] for item in num_expected if item.id in answers]
    answered = [answer for answer in given if not answer.failed]
    share = accuracy([one.correct for one in answered], [one.cluster for one in answered])
    counts = Counter(
        [answer.how for answer in answered if answer.how in NO_CHOICE]
        + [answer.error_kind or "model" for answer in given if answer.failed]
    )
    counts["missing"] += len(num_expected) - len(given)
    return Score(
        share,
        total=len(num_expected),
        bounds=bounds(share.right, share.answered, len(num_expected)),
        chance=sum(item.chance_accuracy for item in num_expected) / len(num_expected)
        if num_expected
        else 0.0,
        counts={kind: counts[kind] for kind in (*NO_CHOICE, *NO_ANSWER) if counts[kind]},
    )


def _same_choice(answers: Mapping[str, EvalAnswer], main: Mapping[str, EvalAnswer]) -> float | None:
    pairs = [
        (answer.choice, main[key].choice)
        for key, answer in answers.items()
        if key in main and answer.choice is not None and main[key].choice is not None
    ]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None
