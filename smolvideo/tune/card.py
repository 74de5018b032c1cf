"""The model card: what was trained on what, the scores before and after, and what was lost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from smolvideo.formatting import format_seconds
from smolvideo.tune.run import TuneResult
from smolvideo.tune.scores import ALL
from smolvideo.version import __version__

ExamScores = Mapping[str, tuple[float, int]]

_ROLES = {
    "held-out": "held-out videos of the data",
    "rejected": "rejected answers to the same",
    "grey frames": "the same with grey frames",
    "rehearsal": "held-out rehearsal",
}


NOT_HELD_OUT = "no clip was held out: nothing says whether the run learned or memorised"


def score_rows(result: TuneResult) -> list[tuple[str, float, float, int]]:
    """Rows (what, exact match before, of the best checkpoint, answers), by role and kind."""
    before, after = _before_and_best(result)
    rows = []
    for role, title in _ROLES.items():
        for kind, score in after.get(role, {}).items():
            name = title if kind == ALL else f"{title}: {kind}"
            first = before.get(role, {}).get(kind, {}).get("exact", 0.0)
            rows.append((name, first, score["exact"], score["count"]))
    return rows


def losses(result: TuneResult) -> tuple[float, float] | None:
    """Held-out loss before and of the best checkpoint; None without held-out samples."""
    before, after = _before_and_best(result)
    if ALL not in after.get("held-out", {}):
        return None
    return before["held-out"][ALL]["loss"], after["held-out"][ALL]["loss"]


def _before_and_best(result: TuneResult) -> tuple[dict[str, Any], dict[str, Any]]:
    by_step = {point["step"]: point["scores"] for point in result.course.evaluations}
    return by_step[0], by_step.get(result.course.best_step, by_step[max(by_step)])


def lost(before: ExamScores, after: ExamScores) -> list[tuple[str, float]]:
    """Groups of an exam that lost a point or more, by how many points, the worst first."""
    change = [
        (name, after[name][0] - share) for name, (share, _) in before.items() if name in after
    ]
    return sorted(
        ((name, points) for name, points in change if points <= -0.01), key=lambda one: one[1]
    )


def model_card(
    result: TuneResult, exam: tuple[ExamScores, ExamScores] | None, notices: Sequence[str]
) -> str:
    """Return the card as Markdown."""
    return (
        "\n".join([*_head(result), *_scores(result), *_exam(exam), *_how(result, notices)]) + "\n"
    )


def _head(result: TuneResult) -> Iterator[str]:
    request = result.request
    checkpoint, method = request.checkpoint, request.options.method
    yield f"---\nbase_model: {checkpoint.name}\nlibrary_name: peft\ntags: [smolvideo]\n---"
    yield f"\n# {checkpoint.name}, tuned with {method}\n"
    folder = "best"
    option = "--model" if method == "full" else f"--model {checkpoint.name} --adapter"
    yield f"```\nsmolvideo ask {option} {folder} VIDEO QUESTION\n```\n"
    yield "![curves](curves.svg)"


def _scores(result: TuneResult) -> Iterator[str]:
    yield "\n## Exact answers\n"
    yield f"Before training, and of the best checkpoint (step {result.course.best_step}).\n"
    yield "| | before | after | answers |\n|---|---|---|---|"
    for name, before, after, count in score_rows(result):
        yield f"| {_cell(name)} | {before:.1%} | {after:.1%} | {count} |"
    if (found := losses(result)) is not None:
        yield f"\nLoss of held-out answers: {found[0]:.3f} → {found[1]:.3f} nats a token."


def _exam(exam: tuple[ExamScores, ExamScores] | None) -> Iterator[str]:
    yield "\n## What was lost\n"
    if exam is None:
        yield "No exam was taken (`--exam`): what else the model forgot is not known."
        return
    before, after = exam
    yield "| exam | before | after | questions |\n|---|---|---|---|"
    for name, (share, count) in before.items():
        yield f"| {_cell(name)} | {share:.1%} | {after.get(name, (0.0, 0))[0]:.1%} | {count} |"
    worst = lost(before, after)
    listed = ", ".join(f"{_cell(name)} {100 * points:+.1f}" for name, points in worst)
    yield f"\nLost, in points: {listed}." if worst else "\nNo group lost a point."


def _how(result: TuneResult, notices: Sequence[str]) -> Iterator[str]:
    request = result.request
    yield "\n## How it was made\n"
    seconds = format_seconds(result.course.seconds)
    yield f"- smolvideo {__version__}, {result.course.step} of {result.steps} steps in {seconds}"
    yield f"- parameters trained: {result.trained_parameters:,}"
    counts = ", ".join(
        f"{count:,} {role.replace('_', ' ')}" for role, count in result.counts.items()
    )
    yield f"- samples: {counts}"
    encoded, cached = result.frames_encoded, result.frames_from_cache
    yield f"- frames encoded: {encoded:,}; from the cache: {cached:,}"
    yield f"- data: SHA-256 `{request.items.sha256}`"
    for name, value in request.options.to_json().items():
        yield f"- {name}: {value}"
    yield f"- learning rate: {result.rate:g}"
    for notice in notices:
        yield f"- {_cell(notice)}"


def _cell(text: str) -> str:
    """Text from the data as the cell of a table: no markup, no line of its own."""
    plain = " ".join(text.split())
    return "".join(f"\\{one}" if one in "|<>[]`*_#!\\" else one for one in plain)
