"""Report files: an HTML page with all items, Markdown of the scores, CSV of the items.

Nothing is loaded from elsewhere. Texts are embedded as JSON and shown as text, never as markup;
rows and images are created when they scroll into view, so five thousand items stay light.
"""

import base64
import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from smolvideo.calibration import ReliabilityBin
from smolvideo.evals.grouping import Grouping
from smolvideo.evals.item import LETTERS, EvalItem
from smolvideo.evals.report_text import (
    caveats,
    effective_videos,
    headline,
    interval,
    percent,
    settings_lines,
)
from smolvideo.evals.run_folder import EvalAnswer, EvalVideo, RunFolder, clip_id
from smolvideo.evals.scores import EvalReport, Score, build_report
from smolvideo.html_page import render_page
from smolvideo.sanitize import escape_controls, visible_cell

MAX_PICTURE_BYTES = 64 * 2**20
"""Limit for thumbnail strips; more are left out, with a remark, so that the page still opens."""


def html_report(run: RunFolder, groupings: Sequence[Grouping] = ()) -> str:
    """Return the self-contained page; its tables are of ``groupings``, see ``group_items``."""
    report = build_report(run, groupings)
    videos = run.videos()
    pictures, left_out = _pictures(run, videos)
    notes = [*caveats(report)]
    if left_out:
        notes.append(f"{left_out:,} videos are without frames here: the page would be too large")
    return render_page(
        "smolvideo.evals",
        "report.html",
        title=headline(report),
        particulars=settings_lines(report),
        remarks=notes,
        tables=_tables(report),
        data=_data(run, report, videos),
        pictures=pictures,
    )


def _data(run: RunFolder, report: EvalReport, videos: dict[str, EvalVideo]) -> dict[str, Any]:
    answers: dict[str, dict[str, list[Any]]] = {}
    for answer in run.answers().values():
        answers.setdefault(answer.id, {})[answer.condition] = _answer(answer)
    return {
        "conditions": list(report.conditions),
        "groups": list(dict.fromkeys(field for item in run.items for field in item.groups)),
        "items": [_item(item, answers.get(item.id, {})) for item in run.items],
        "looks": {look: _look(video) for look, video in videos.items()},
    }


def _item(item: EvalItem, answers: dict[str, list[Any]]) -> dict[str, Any]:
    return {
        "id": item.id,
        "video": item.video,
        "look": clip_id(item),
        "question": item.question,
        "options": list(item.options),
        "right": item.answer_index,
        "groups": dict(item.groups),
        "subtitles": item.subtitles,
        "answers": answers,
    }


def _answer(answer: EvalAnswer) -> list[Any]:
    """Fields in the order of report.js: choice, correct, how, text, scores, error and its kind,
    frames, prompt tokens."""
    return [
        answer.choice,
        int(answer.correct),
        answer.how,
        answer.text,
        answer.scores,
        answer.error_kind,
        answer.error,
        answer.frames,
        answer.prompt_tokens,
    ]


def _look(video: EvalVideo) -> dict[str, Any]:
    return {
        "file": video.file,
        "times": [round(time, 2) for time in video.frame_times],
        "notices": list(video.notices),
    }


def _pictures(run: RunFolder, videos: dict[str, EvalVideo]) -> tuple[dict[str, str], int]:
    """Thumbnail strips as base64, and the number left out."""
    found: dict[str, str] = {}
    size = left_out = 0
    for look, video in videos.items():
        # The path comes from the clip id, which we made, not from the record.
        path = run.strip(look)
        if video.strip is None or path is None:
            continue
        if size + path.stat().st_size > MAX_PICTURE_BYTES:
            left_out += 1
            continue
        content = path.read_bytes()
        size += len(content)
        found[look] = base64.b64encode(content).decode("ascii")
    return found, left_out


def _tables(report: EvalReport) -> list[dict[str, Any]]:
    """Bar charts of scores: all conditions, then every group of the main condition."""
    conditions = {
        "accuracy" if name == "main" else name: scores.overall
        for name, scores in report.conditions.items()
    }
    tables: list[tuple[str, Mapping[str, Score]]] = [("", conditions), *report.main.groups.items()]
    charts = [
        {
            "title": title.replace("_", " "),
            "rows": [_row(name, score) for name, score in members.items()],
        }
        for title, members in tables
    ]
    found = report.main.reliability
    if found is not None:
        title = "accuracy by confidence; | marks the mean confidence"
        charts.append({"title": title, "rows": [_bin_row(one) for one in found.filled]})
    return charts


def _bin_row(one: ReliabilityBin) -> dict[str, Any]:
    """One bar of the reliability diagram; its mark is the mean confidence."""
    return {
        "name": f"{100 * one.low:.0f} to {100 * one.high:.0f} %",
        "value": 100 * one.accuracy,
        "low": None,
        "high": None,
        "chance": 100 * one.confidence,
        "percent": percent(one.accuracy),
        "interval": "",
        "counts": f"{one.count}",
    }


def _row(name: str, score: Score) -> dict[str, Any]:
    """One bar: positions in per cent of its width, None if there is nothing to draw."""
    share = score.share
    return {
        "name": name,
        "value": None if share.value is None else 100 * share.value,
        "low": None if share.low is None else 100 * share.low,
        "high": None if share.high is None else 100 * share.high,
        "chance": 100 * score.chance,
        "percent": "-" if share.value is None else percent(share.value),
        "interval": interval(score),
        "counts": f"{share.right}/{share.answered}",
    }


def markdown_report(report: EvalReport) -> str:
    """Return the scores and the setting as tables for a page or a pull request."""
    lines = [f"# {_cell(headline(report))}", ""]
    lines += [f"- {_cell(line)}" for line in (*settings_lines(report), *caveats(report))]
    lines += ["", *_HEADER]
    for name, scores in report.conditions.items():
        lines.append(_markdown_row("all" if name == "main" else name, scores.overall))
    for group, members in report.main.groups.items():
        lines += ["", f"## {_cell(group.replace('_', ' '))}", "", *_HEADER]
        lines += [_markdown_row(value, score) for value, score in members.items()]
    if report.main.reliability is not None:
        lines += ["", "## accuracy by confidence", "", *_RELIABILITY_HEADER]
        lines += [
            f"| {one.low:.0%} to {one.high:.0%} | {one.confidence:.1%} | {one.accuracy:.1%} "
            f"| {one.count} |"
            for one in report.main.reliability.filled
        ]
    versions = ", ".join(f"{name} {version}" for name, version in report.info.versions.items())
    return "\n".join([*lines, "", _cell(f"{report.info.created}; {versions}"), ""])


_HEADER = (
    "| | accuracy | 95 % | right | answered | of | chance | videos | effective videos |",
    "|---|---|---|---|---|---|---|---|---|",
)


_RELIABILITY_HEADER = ("| confidence | mean | accuracy | answers |", "|---|---|---|---|")


def _markdown_row(name: str, score: Score) -> str:
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
            item.answer_letter,
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
