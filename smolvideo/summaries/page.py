"""The record as one html file: the filmstrip inside it, links to the times, dark and light."""

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from smolvideo.errors import SmolVideoError
from smolvideo.frames import Images
from smolvideo.pipeline import load_frames
from smolvideo.safe_text import clean_name, visible
from smolvideo.source import cached
from smolvideo.summaries.forms import clock, how_made
from smolvideo.summaries.record import Chapter, SummaryRecord

_STRIP = 12
_MOST_PICTURES = 60
_HEIGHT = 108


@dataclass(frozen=True)
class Still:
    """One small picture and when it is on screen."""

    seconds: float
    jpeg: bytes


def as_page(record: SummaryRecord, page: Path) -> str:
    """The page of a record that will be written to ``page``.

    Where the video is gone or cannot be read any more, the page has no pictures.
    """
    video = _video_of(record)
    strip, heads = _stills(record, video)
    name = html.escape(clean_name(record.source.name))
    link = _link_to(record, video, page)
    body = [f"<h1>{name}</h1>", f'<p class="lead">{_paragraphs(record.text or "")}</p>']
    if link and record.source.kind == "video":
        body.append(f'<video id="video" controls preload="metadata" src="{link}"></video>')
    body.append(_strip(strip, link))
    if len(record.chapters) > 1:
        chapters = "".join(
            _chapter(chapter, still, link)
            for chapter, still in zip(record.chapters, heads, strict=True)
        )
        body.append(f"<h2>Chapters</h2><ol>{chapters}</ol>")
    body.append(f"<footer>{html.escape(how_made(record))}</footer>")
    content = "\n".join(part for part in body if part)
    return _PAGE.replace("%TITLE%", name).replace("%BODY%", content)


def _video_of(record: SummaryRecord) -> Path | None:
    if record.source.url is None:
        return Path(record.path)
    found = cached(record.source.url)
    return found.path if found else None


def _stills(record: SummaryRecord, video: Path | None) -> tuple[list[Still], list[Still | None]]:
    """Pictures of the strip, and one for each chapter."""
    chapters = list(record.chapters) if len(record.chapters) > 1 else []
    duration = record.duration_seconds or 0.0
    even = [duration * (place + 0.5) / _STRIP for place in range(_STRIP)]
    # A little inside: a chapter may begin with the last moment of a fade.
    starts = [c.start_seconds + 0.05 * (c.end_seconds - c.start_seconds) for c in chapters]
    nothing: list[Still | None] = [None] * len(chapters)
    if video is None:
        return [], nothing
    try:
        wanted = sorted({*even, *starts[:_MOST_PICTURES]})
        given = os.fspath(video)
        batch = load_frames(given, times=wanted, fit=_small)
    except SmolVideoError:
        return [], nothing
    stills = [
        Still(seconds, _jpeg(image))
        for seconds, image in zip(batch.pts_seconds, batch.images, strict=True)
    ]

    def shown_at(seconds: float) -> Still:
        earlier = [still for still in stills if still.seconds <= seconds + 1e-6]
        return earlier[-1] if earlier else stills[0]

    strip = {still.seconds: still for still in map(shown_at, even)}
    heads = [shown_at(start) for start in starts[:_MOST_PICTURES]]
    return list(strip.values()), [*heads, *nothing[len(heads) :]]


def _small(image: Images) -> Images:
    import numpy as np
    from PIL import Image

    height, width = image.shape[:2]
    size = max(1, round(width * _HEIGHT / height)), _HEIGHT
    small = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small)


def _jpeg(image: Images) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(image).save(written, "JPEG", quality=72)
    return written.getvalue()


def _link_to(record: SummaryRecord, video: Path | None, page: Path) -> str | None:
    """The video as the page finds it: beside itself, or on the web."""
    if record.source.url is not None:
        return html.escape(record.source.url)
    if video is None:
        return None
    try:
        relative = os.path.relpath(video, page.parent)
    except ValueError:  # another drive on Windows
        return html.escape(video.as_uri())
    return html.escape(quote(os.fsencode(relative.replace(os.sep, "/"))))


def _timed(seconds: float, link: str | None, inner: str) -> str:
    if link is None:
        return inner
    return f'<a href="{link}#t={seconds:.3f}" data-seconds="{seconds:.3f}">{inner}</a>'


def _picture(still: Still | None) -> str:
    if still is None:
        return ""
    data = base64.standard_b64encode(still.jpeg).decode("ascii")
    return f'<img alt="at {clock(still.seconds)}" src="data:image/jpeg;base64,{data}">'


def _strip(stills: Sequence[Still], link: str | None) -> str:
    figures = (
        f"<figure>{_timed(still.seconds, link, _picture(still))}"
        f"<figcaption>{clock(still.seconds)}</figcaption></figure>"
        for still in stills
    )
    return f'<div class="strip">{"".join(figures)}</div>' if stills else ""


def _chapter(chapter: Chapter, still: Still | None, link: str | None) -> str:
    start = chapter.start_seconds
    title = html.escape(visible(chapter.title))
    heading = _timed(start, link, f"<time>{clock(start)}</time> {title}")
    picture = _timed(start, link, _picture(still)) if still else ""
    return f"<li>{picture}<div><h3>{heading}</h3><p>{_paragraphs(chapter.text)}</p></div></li>"


def _paragraphs(text: str) -> str:
    return html.escape(visible(text, keep="\n\t").strip()).replace("\n", "<br>\n")


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%TITLE%</title>
<style>
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #1d2026; --soft: #5c6470;
  --line: #dcdfe3; --link: #0b57b0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e6e8eb; --soft: #9aa3ad; --line: #2d333a; --link: #8ab8ff; } }
body { background: var(--paper); color: var(--ink); font: 17px/1.55 system-ui, sans-serif;
  max-width: 56rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; }
h3 { font-size: 1rem; margin: 0; } p { margin: .3rem 0; } .lead { font-size: 1.1rem; }
a { color: var(--link); text-decoration: none; } a:hover, a:focus { text-decoration: underline; }
video { width: 100%; max-height: 60vh; background: #000; border-radius: 6px; margin: 1rem 0; }
.strip { display: flex; gap: 6px; overflow-x: auto; padding-bottom: .5rem; }
figure { margin: 0; flex: none; }
figcaption, time, footer { color: var(--soft); font-variant-numeric: tabular-nums; }
figcaption { font-size: .8rem; text-align: center; }
img { height: 72px; border-radius: 4px; display: block; }
ol { list-style: none; padding: 0; }
li { display: flex; gap: 1rem; padding: .8rem 0; border-top: 1px solid var(--line); }
footer { font-size: .85rem; border-top: 1px solid var(--line); margin-top: 2rem; padding: 1rem 0; }
@media (max-width: 36rem) { li { flex-direction: column; gap: .4rem; } }
</style>
</head>
<body>
%BODY%
<script>
// Where the video plays in the page, a time is a jump in it; elsewhere it stays a link.
const video = document.getElementById("video");
for (const link of document.querySelectorAll("a[data-seconds]"))
  link.addEventListener("click", (event) => {
    if (!video || video.error || video.readyState === 0) return;
    event.preventDefault();
    video.currentTime = Number(link.dataset.seconds);
    video.play();
  });
</script>
</body>
</html>
"""
