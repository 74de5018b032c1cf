"""The tables of docs/nano.md are those of the committed exam reports.

``SMOLVIDEO_UPDATE_GOLDEN=1 pytest tests/project/test_nano_page.py`` rewrites them.
"""

import json
from typing import Any

from project.test_readme import check_table
from support.project import ROOT


def report(name: str) -> dict[str, Any]:
    """Return a report in ``.github/bench``, written by ``smolvideo eval world --json``."""
    found = json.loads((ROOT / ".github" / "bench" / f"{name}.json").read_text("utf-8"))
    assert found["model"] == "nano"
    return dict(found)


def test_nano_table_equals_the_exam_report() -> None:
    check_table("nano", exam_table(report("world")))


def test_table_of_parts_equals_the_exam_report() -> None:
    found = report("world-parts")
    check_table("nano parts", parts_table(found))
    check_table("nano unanswerable", unanswerable_table(found))


def exam_table(found: dict[str, Any]) -> list[str]:
    """Return the table of the part ``old``."""
    blind = found["blind"]
    rows = [
        "| questions | right | with grey frames | number |",
        "|---|---|---|---|",
        f"| **open, all** | {found['open']:.1%} | {blind['open']:.1%} | "
        f"{sum(scores['asked'] for scores in found['by_type'].values()):,} |",
    ]
    for name, scores in found["by_type"].items():
        asked = scores["asked"]
        rows.append(f"| {name} | {scores['right']:.1%} | {scores['blind']:.1%} | {asked:,} |")
    choices = found["questions"] - sum(scores["asked"] for scores in found["by_type"].values())
    for name, asked in (
        ("multiple_choice", "letter generated"),
        ("multiple_choice_by_score", "highest log-probability"),
    ):
        right = f"{found[name]:.1%} | {blind[name]:.1%}"
        rows.append(f"| **five options, {asked}** | {right} | {choices:,} |")
    return rows


def parts_table(found: dict[str, Any]) -> list[str]:
    """Return the table of new wordings and the second renderer."""
    worded, redrawn = found["new_wordings"], found["second_renderer"]
    rows = ["| questions | right | with grey frames | number |", "|---|---|---|---|"]
    for name, scores in (
        ("**new wordings, all**", worded["all"]),
        ("yes-no, half of them true", worded["yes_no"]),
        ("yes-no, right answer yes", worded["truth_yes"]),
        ("yes-no, right answer no", worded["truth_no"]),
        ("**second renderer, all**", redrawn["all"]),
        *redrawn["by_type"].items(),
    ):
        shares = f"{scores['right']:.1%} | {scores['blind']:.1%}"
        rows.append(f"| {name} | {shares} | {scores['asked']:,} |")
    return rows


def unanswerable_table(found: dict[str, Any]) -> list[str]:
    """Return the table of unanswerable questions and of abstentions from others."""
    scores = found["unanswerable"]
    return [
        "| unanswerable questions | share |",
        "|---|---|",
        f"| abstained | {scores['abstained']:.1%} |",
        f"| answered no, none or nothing, where that is right | {scores['right']:.1%} |",
        f"| answered wrong | {scores['wrong']:.1%} |",
        f"| answerable questions abstained from | {found['answerable_abstained']:.1%} |",
    ]
