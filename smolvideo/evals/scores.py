"""Scores of a run, computed from its files alone, and the paired comparison of two runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smolvideo.calibration import IDENTITY, Reliability, reliability
from smolvideo.errors import UsageError
from smolvideo.evals.item import EvalItem
from smolvideo.evals.run_folder import EvalAnswer, EvalVideo, RunFolder, RunInfo
from smolvideo.evals.run_records import NO_CHOICE
from smolvideo.evals.settings import Condition
from smolvideo.evals.statistics import (
    Accuracy,
    Bounds,
    PairedComparison,
    accuracy,
    bounds,
    compare_pairs,
)

CROSS_TABULATED = ("category", "hard_split")
"""Two groupings that CinePile's authors also cross-tabulate."""

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
class ConditionScores:
    """``groups`` maps a grouping to the scores of its groups; ``same_choice`` is the share of items
    with the same choice as in the main condition, among items with a choice in both.
    ``reliability`` is of the probabilities of the options, None where they were not scored.
    """

    overall: Score
    groups: Mapping[str, Mapping[str, Score]]
    same_choice: float | None = None
    reliability: Reliability | None = None


@dataclass(frozen=True)
class EvalReport:
    """All results of a run; ``notices`` are sentences that belong with every score."""

    name: str
    info: RunInfo
    conditions: Mapping[Condition, ConditionScores]
    videos: int
    videos_seen: int
    seconds: Mapping[str, float]
    notices: tuple[str, ...] = ()

    @property
    def main(self) -> ConditionScores:
        return self.conditions["main"]

    @property
    def complete(self) -> bool:
        """Whether every item has an answer in every condition."""
        return all(scores.overall.coverage == 1 for scores in self.conditions.values())

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


def build_report(run: RunFolder) -> EvalReport:
    """Score a run, finished or not; items without an answer so far count as missing."""
    answers, videos = run.answers(), run.videos()
    by_condition: dict[Condition, dict[str, EvalAnswer]] = {}
    for answer in answers.values():
        by_condition.setdefault(answer.condition, {})[answer.id] = answer
    wanted: list[Condition] = ["main", *run.info.settings["controls"]]
    main = by_condition.get("main", {})
    conditions = {
        condition: _condition_scores(run.items, by_condition.get(condition, {}), main, condition)
        for condition in wanted
    }
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
) -> ConditionScores:
    groups: dict[str, dict[str, list[EvalItem]]] = {}
    for item in items:
        named = dict(item.groups)
        if all(name in named for name in CROSS_TABULATED):
            named[" × ".join(CROSS_TABULATED)] = " × ".join(named[name] for name in CROSS_TABULATED)  # noqa: RUF001
        for name, value in named.items():
            groups.setdefault(name, {}).setdefault(value, []).append(item)
    scores = {
        name: {value: score_of(members[value], answers) for value in sorted(members)}
        for name, members in groups.items()
    }
    same = None if condition == "main" else _same_choice(answers, main)
    judged = (answers[item.id] for item in items if item.id in answers)
    return ConditionScores(score_of(items, answers), scores, same, _reliability_of(judged))


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


@dataclass(frozen=True)
class Comparison:
    """``overall`` is over the items that both runs answered, ``groups`` over groups of them.

    ``differences`` lists the settings in which the runs differ, ``left_out`` counts items that only
    one run answered.
    """

    first: str
    second: str
    overall: PairedComparison
    groups: Mapping[str, Mapping[str, PairedComparison]]
    differences: tuple[str, ...]
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "record": "smolvideo.eval-comparison/1",
            "first": self.first,
            "second": self.second,
            "differences": list(self.differences),
            "left_out": self.left_out,
            "overall": _pair_as_json(self.overall),
            "groups": {
                name: {value: _pair_as_json(pair) for value, pair in members.items()}
                for name, members in self.groups.items()
            },
        }


def _pair_as_json(pair: PairedComparison) -> dict[str, Any]:
    return {**asdict(pair), "difference": pair.difference}


def compare_runs(
    first: RunFolder,
    second: RunFolder,
    *,
    first_condition: Condition = "main",
    second_condition: Condition = "main",
) -> Comparison:
    """Compare two runs, or two conditions, item by item.

    Raises UsageError if they share no answered item, or if items with the same id differ.
    """
    mine = _answered(first, first_condition)
    others = _answered(second, second_condition)
    theirs = {item.id: item for item in second.items}
    shared = []
    for item in first.items:
        other = theirs.get(item.id)
        if other is not None and _meaning(other) != _meaning(item):
            raise UsageError(
                f"the runs are about different questions: `{item.id}` is not the same in both"
            )
        if item.id in mine and item.id in others:
            shared.append(item)
    if not shared:
        raise UsageError("the two runs have no answered question in common")

    def paired(members: list[Any]) -> PairedComparison:
        return compare_pairs(
            [mine[item.id].correct for item in members],
            [others[item.id].correct for item in members],
            [mine[item.id].cluster for item in members],
        )

    groups: dict[str, dict[str, list[Any]]] = {}
    for item in shared:
        for name, value in item.groups.items():
            groups.setdefault(name, {}).setdefault(value, []).append(item)
    return Comparison(
        first=_name(first, first_condition),
        second=_name(second, second_condition),
        overall=paired(shared),
        groups={
            name: {value: paired(members[value]) for value in sorted(members)}
            for name, members in groups.items()
        },
        differences=(
            *first.info.differences(second.info, " and "),
            *_other_files(mine, others, [item.id for item in shared]),
        ),
        left_out=len(mine.keys() | others.keys()) - len(shared),
    )


def _meaning(item: EvalItem) -> tuple[object, ...]:
    """The fields that must be equal for two answers to be comparable."""
    return item.question, item.options, item.answer_index


def _other_files(
    mine: Mapping[str, EvalAnswer], others: Mapping[str, EvalAnswer], shared: Sequence[str]
) -> list[str]:
    """A sentence if videos of the same name had different content."""
    changed = sum(
        mine[one].sha256 != others[one].sha256
        for one in shared
        if mine[one].sha256 and others[one].sha256
    )
    if not changed:
        return []
    return [f"questions asked about files of another content: {changed:,}"]


def _answered(run: RunFolder, condition: Condition) -> dict[str, EvalAnswer]:
    answers = run.answers()
    found = {
        answer.id: answer
        for answer in answers.values()
        if answer.condition == condition and not answer.failed
    }
    if not found:
        raise UsageError(f"the run `{run.folder}` has no answers in the condition `{condition}`")
    return found


def _name(run: RunFolder, condition: Condition) -> str:
    name = run.folder.resolve().name
    return name if condition == "main" else f"{name} ({condition})"
