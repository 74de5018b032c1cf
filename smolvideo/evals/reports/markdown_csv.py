"""Markdown report of scores, CSV report of items."""

import csv
import io
import re

from smolvideo.evals.item import LETTERS
from smolvideo.evals.report_text import caveats, effective_videos, headline, settings_lines
from smolvideo.evals.run_folder import RunFolder
from smolvideo.evals.scores import EvalReport, Score, build_report
from smolvideo.sanitize import escape_controls, visible_cell


def markdown_report(report: EvalReport) -> str:
    """Return the scores and the setting as tables for a page or a pull request."""
    lines = [f"# {_cell(headline(report))}", ""]
    lines += [f"- {_cell(line)}" for line in (*settings_lines(report), *caveats(report))]
    lines += ["", *_HEADER]
    for name, scores in report.conditions.items():
        lines.append(_row("all" if name == "main" else name, scores.overall))
    for group, members in report.main.groups.items():
        lines += ["", f"## {_cell(group.replace('_', ' '))}", "", *_HEADER]
        lines += [_row(value, score) for value, score in members.items()]
    versions = ", ".join(f"{name} {version}" for name, version in report.info.versions.items())
    return "\n".join([*lines, "", _cell(f"{report.info.created}; {versions}"), ""])


_HEADER = (
    "| | accuracy | 95 % | right | answered | of | chance | videos | effective videos |",
    "|---|---|---|---|---|---|---|---|---|",
)


def _row(name: str, score: Score) -> str:
    share = score.share
    value = "-" if share.value is None else f"{share.value:.1%}"
    ends = "-" if share.low is None else f"{share.low:.1%} – {share.high:.1%}"  # noqa: RUF001
    counts = f"{share.right} | {share.answered} | {score.total}"
    videos = f"{share.videos} | {effective_videos(share)}"
    return f"| {_cell(name)} | {value} | {ends} | {counts} | {score.chance:.1%} | {videos} |"


def _cell(text: str) -> str:
    """Untrusted text on one line, escaped for Markdown and HTML."""
    shown = escape_controls(" ".join(text.split()))
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", shown)


_COLUMNS = (
    "id", "condition", "video", "question", "options", "answer", "choice", "correct", "how", "text",
    "scores", "frames", "prompt_tokens", "error_kind", "error", "effective_videos",
)  # fmt: skip


def csv_report(run: RunFolder) -> str:
    """Return one line per item and condition, with a column per grouping; for spreadsheets and data
    frames. Untrusted text cannot act as a formula, see ``visible_cell``.

    ``effective_videos`` is the same in all lines of a condition: the number of equally large
    videos that its answers are worth, for the standard error of a mean of ``correct``.
    """
    effective = {
        name: effective_videos(scores.overall.share)
        for name, scores in build_report(run).conditions.items()
    }
    items = {item.id: item for item in run.items}
    groups = list(dict.fromkeys(name for item in run.items for name in item.groups))
    written = io.StringIO()
    # All texts are quoted: otherwise a lone carriage return would begin a new row.
    writer = csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([*_COLUMNS, *(visible_cell(f"group:{name}") for name in groups)])
    for answer in run.answers().values():
        item = items[answer.id]
        cells = [
            answer.id,
            answer.condition,
            answer.video,
            item.question,
            " | ".join(item.options),
            LETTERS[item.answer_index],
            "" if answer.choice is None else LETTERS[answer.choice],
            int(answer.correct),
            answer.how or "",
            answer.text or "",
            " ".join(map(str, answer.scores or ())),
            answer.frames,
            answer.prompt_tokens,
            answer.error_kind or "",
            answer.error or "",
            effective.get(answer.condition, ""),
            *(item.groups.get(name, "") for name in groups),
        ]
        writer.writerow([visible_cell(one) if isinstance(one, str) else one for one in cells])
    return written.getvalue()
