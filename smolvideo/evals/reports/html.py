"""HTML report: one file with the scores and all items, frames and answers to browse.

Nothing is loaded from elsewhere. Texts are embedded as JSON and shown as text, never as markup;
rows and images are created when they scroll into view, so five thousand items stay light.
"""

import base64
from collections.abc import Mapping
from typing import Any

from smolvideo.evals.item import EvalItem
from smolvideo.evals.report_text import caveats, headline, interval, percent, settings_lines
from smolvideo.evals.run_folder import EvalAnswer, EvalVideo, RunFolder, clip_id
from smolvideo.evals.scores import EvalReport, Score, build_report
from smolvideo.html_page import render_page

MAX_PICTURE_BYTES = 64 * 2**20
"""Limit for thumbnail strips; more are left out, with a remark, so that the page still opens."""


def html_report(run: RunFolder) -> str:
    """Return the self-contained page."""
    report = build_report(run)
    videos = run.videos()
    pictures, left_out = _pictures(run, videos)
    notes = [*caveats(report)]
    if left_out:
        notes.append(f"{left_out:,} videos are without frames here: the page would be too large")
    return render_page(
        "smolvideo.evals.reports",
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
        "groups": [group for group in report.main.groups if " × " not in group],  # noqa: RUF001
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
    return [
        {
            "title": title.replace("_", " "),
            "rows": [_row(name, score) for name, score in members.items()],
        }
        for title, members in tables
    ]


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
