"""Paired comparison of two runs, question by question."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smolvideo.errors import UsageError
from smolvideo.evals.grouping import group_items
from smolvideo.evals.item import EvalItem
from smolvideo.evals.power import detectable_difference, questions_needed
from smolvideo.evals.run_folder import EvalAnswer, RunFolder
from smolvideo.evals.settings import Condition
from smolvideo.evals.statistics import PairedComparison, compare_pairs


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
    return {
        **asdict(pair),
        "difference": pair.difference,
        "detectable_difference": detectable_difference(pair),
        "questions_needed": questions_needed(pair),
    }


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
        if item.answer_index is not None and item.id in mine and item.id in others:
            shared.append(item)
    if not shared:
        raise UsageError("the two runs have no answered question in common")

    def paired(members: list[Any]) -> PairedComparison:
        return compare_pairs(
            [mine[item.id].correct for item in members],
            [others[item.id].correct for item in members],
            [mine[item.id].cluster for item in members],
        )

    fields = dict.fromkeys(name for item in shared for name in item.groups)
    groups = group_items(shared, [(name,) for name in fields]) if fields else {}
    return Comparison(
        first=_name(first, first_condition),
        second=_name(second, second_condition),
        overall=paired(shared),
        groups={
            name: {value: paired(of) for value, of in members.items()}
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
