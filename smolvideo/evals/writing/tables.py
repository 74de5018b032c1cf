"""Scores as markdown, items as csv."""

import csv
import io
import re

from smolvideo.evals.item import LETTERS
from smolvideo.evals.run_folder import RunFolder
from smolvideo.evals.scores import EvalReport, Score, report_of
from smolvideo.evals.words import effective_videos, headline, particulars, remarks
from smolvideo.safe_text import visible


def markdown_report(report: EvalReport) -> str:
    """The scores with all that was measured, as a table for a page or a pull request."""
    lines = [f"# {_cell(headline(report))}", ""]
    lines += [f"- {_cell(line)}" for line in (*particulars(report), *remarks(report))]
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
    """Text of somebody else's on one line, without any meaning for markdown or HTML."""
    shown = visible(" ".join(text.split()))
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", shown)


_COLUMNS = (
    "id", "condition", "video", "question", "options", "answer", "choice", "correct", "how", "text",
    "scores", "frames", "prompt_tokens", "error_kind", "error", "effective_videos",
)  # fmt: skip


_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")


def _csv_text(text: str) -> str:
    """Behind an apostrophe what a spreadsheet would take for a formula and run.

    As OWASP advises, https://owasp.org/www-community/attacks/CSV_Injection; a number is none.
    """
    runs = text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if runs else text


def csv_report(run: RunFolder) -> str:
    """One line per item and condition, groups in columns of their own; for spreadsheets and data
    frames. No text of somebody else's is a formula, see ``_csv_text``.

    ``effective_videos`` is the same in all lines of a condition: how many videos of one size the
    answers of that condition are worth, where a mean of ``correct`` needs an error.
    """
    effective = {
        name: effective_videos(scores.overall.share)
        for name, scores in report_of(run).conditions.items()
    }
    items = {item.id: item for item in run.items}
    groups = list(dict.fromkeys(name for item in run.items for name in item.groups))
    written = io.StringIO()
    # All texts in quotes: without them a lone carriage return would begin a row of its own.
    writer = csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([*_COLUMNS, *(f"group:{name}" for name in groups)])
    for answer in run.answers().values():
        item = items[answer.id]
        writer.writerow(
            [
                _csv_text(answer.id),
                answer.condition,
                _csv_text(answer.video),
                _csv_text(item.question),
                _csv_text(" | ".join(item.options)),
                LETTERS[item.answer_index],
                "" if answer.choice is None else LETTERS[answer.choice],
                int(answer.correct),
                answer.how or "",
                _csv_text(answer.text or ""),
                " ".join(map(str, answer.scores or ())),
                answer.frames,
                answer.prompt_tokens,
                answer.error_kind or "",
                _csv_text(answer.error or ""),
                effective.get(answer.condition, ""),
                *(_csv_text(item.groups.get(name, "")) for name in groups),
            ]
        )
    return written.getvalue()
