"""A run as one html file: scores, and every item with its frames and answers to browse.

Nothing is fetched from anywhere. Texts reach the page as JSON and are shown as text, never as
markup; rows and pictures are made when they come into view, so five thousand items stay light.
"""

import base64
import json
from html import escape
from importlib.resources import files
from typing import Any

from smolvideo.evals.item import EvalItem
from smolvideo.evals.run_folder import EvalAnswer, EvalVideo, RunFolder, look_id
from smolvideo.evals.scores import EvalReport, Score, report_of
from smolvideo.evals.words import headline, interval, particulars, percent, remarks

MOST_PICTURE_BYTES = 64 * 2**20
"""Strips beyond this are left out, with a remark: a page must still open."""


def html_report(run: RunFolder) -> str:
    """The page, complete in itself."""
    report = report_of(run)
    videos = run.videos()
    pictures, left_out = _pictures(run, videos)
    notes = [*remarks(report)]
    if left_out:
        notes.append(f"{left_out:,} videos are without frames here: the page would be too large")
    return _PAGE.format(
        title=escape(headline(report)),
        style=_file("report.css"),
        particulars="".join(f"<li>{escape(line)}</li>" for line in particulars(report)),
        remarks="".join(f"<li>{escape(line)}</li>" for line in notes),
        scores=_scores(report),
        data=_script_json(_data(run, report, videos)),
        pictures="".join(
            f'<script type="text/plain" id="strip-{look}">{content}</script>\n'
            for look, content in pictures.items()
        ),
        script=_file("report.js"),
    )


def _file(name: str) -> str:
    return files("smolvideo.evals.writing").joinpath(name).read_text(encoding="utf-8")


def _script_json(content: Any) -> str:
    """JSON that cannot end the element it stands in, nor open another."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


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
        "look": look_id(item),
        "question": item.question,
        "options": list(item.options),
        "right": item.answer_index,
        "groups": dict(item.groups),
        "subtitles": item.subtitles,
        "answers": answers,
    }


def _answer(answer: EvalAnswer) -> list[Any]:
    """In the order of report.js: choice, correct, how, text, scores, error and its kind, costs."""
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
    """The strips as base64, and how many were left out."""
    found: dict[str, str] = {}
    size = left_out = 0
    for look, video in videos.items():
        # The name comes from the look, which is ours, not from the line.
        path = run.strip(look)
        if video.strip is None or path is None:
            continue
        if size + path.stat().st_size > MOST_PICTURE_BYTES:
            left_out += 1
            continue
        content = path.read_bytes()
        size += len(content)
        found[look] = base64.b64encode(content).decode("ascii")
    return found, left_out


def _scores(report: EvalReport) -> str:
    """The tables of scores, as bars."""
    rows: list[tuple[str, Score]] = [
        ("accuracy" if name == "main" else name, scores.overall)
        for name, scores in report.conditions.items()
    ]
    parts = [_table("", rows)]
    for group, members in report.main.groups.items():
        parts.append(_table(group.replace("_", " "), list(members.items())))
    return "".join(parts)


def _table(title: str, rows: list[tuple[str, Score]]) -> str:
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    return f"<table>{caption}{''.join(_row(name, score) for name, score in rows)}</table>"


def _row(name: str, score: Score) -> str:
    share = score.share
    if share.value is None:
        bar, value = "", "-"
    else:
        value = percent(share.value)
        low = share.value if share.low is None else share.low
        high = share.value if share.high is None else share.high
        bar = (
            f'<i class="fill" style="width:{100 * share.value:.2f}%"></i>'
            f'<i class="ends" style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></i>'
            f'<i class="chance" style="left:{100 * score.chance:.2f}%"></i>'
        )
    return (
        f'<tr><th scope="row">{escape(name)}</th><td class="bar"><span>{bar}</span></td>'
        f"<td>{value}</td><td>{escape(interval(score))}</td>"
        f"<td>{share.right}/{share.answered}</td></tr>"
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<header>
<h1>{title}</h1>
<ul class="particulars">{particulars}</ul>
</header>
<details open class="scores"><summary>Scores</summary>
{scores}
<ul class="remarks">{remarks}</ul>
</details>
<main>
<form id="filters" aria-label="Which items"></form>
<div id="browser">
<div id="list" role="listbox" tabindex="0" aria-label="Items"><div id="space"></div></div>
<article id="item" aria-live="polite"></article>
</div>
</main>
<script type="application/json" id="data">{data}</script>
{pictures}<script>
{script}
</script>
</body>
</html>
"""
