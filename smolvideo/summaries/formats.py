"""Output formats of a record: text, Markdown, JSON, subtitles, chapters, and an HTML page.

Text of a model or a file name is escaped: it cannot end a cue, open a tag or start a list.
SubRip has no standard; WebVTT: https://www.w3.org/TR/webvtt1/; the chapter file:
https://ffmpeg.org/ffmpeg-formats.html#Metadata-2.
"""

import base64
import html
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urldefrag, urlsplit

from smolvideo.errors import SmolVideoError
from smolvideo.formatting import format_clock
from smolvideo.frames import Images
from smolvideo.html_page import render_page
from smolvideo.pipeline import load_frames
from smolvideo.records import json_line
from smolvideo.sanitize import display_name, escape_controls
from smolvideo.source import find_cached
from smolvideo.summaries.record_log import Chapter, SummaryRecord

MIN_SITE_CHAPTER_SECONDS = 10.0
"""YouTube reads lines as chapters if the first is at 0:00, there are three or more, and each lasts
this long (support.google.com/youtube/answer/9884579)."""
_MIN_CUE = 1.0
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~!&])")
_FFMETADATA = re.compile(r"([=;#\\\n])")


def to_text(record: SummaryRecord) -> str:
    """The summary, followed by one line per chapter if there are several."""
    lines = [_lines(record.text or "")]
    if len(record.chapters) > 1:
        chapters = (
            f"{format_clock(chapter.start_seconds)} {_line(chapter.title)}"
            for chapter in record.chapters
        )
        lines += ["", *chapters]
    return "\n".join(lines) + "\n"


def as_text_file(record: SummaryRecord) -> str:
    """``to_text``, followed by the notices."""
    notes = "".join(f"note: {_line(notice)}\n" for notice in record.notices)
    return to_text(record) + (f"\n{notes}" if notes else "")


def to_markdown(record: SummaryRecord) -> str:
    """A page with a heading, the summary, the chapters, the notices and the provenance."""
    parts = [f"# {_markdown(display_name(record.source.name))}", _markdown_text(record.text or "")]
    if len(record.chapters) > 1:
        parts.append("## Chapters")
        parts += [
            f"### {format_clock(chapter.start_seconds)} {_markdown(_line(chapter.title))}\n\n"
            f"{_markdown_text(chapter.text)}"
            for chapter in record.chapters
        ]
    footer = [f"Note: {_line(notice)}" for notice in record.notices] + [provenance(record)]
    return "\n\n".join([*parts, *(f"*{_markdown(line)}*" for line in footer)]) + "\n"


def to_json(record: SummaryRecord) -> str:
    """The whole record, indented."""
    return json_line(record.content(), indent=2) + "\n"


def to_srt(record: SummaryRecord) -> str:
    """SubRip subtitles of the notes, or of the chapters; the format has no comments for notices."""
    cues = (
        f"{number}\n{_moment(start, ',')} --> {_moment(end, ',')}\n{_cue(text)}\n"
        for number, (start, end, text) in enumerate(_cues(record), start=1)
    )
    return "\n".join(cues)


def to_vtt(record: SummaryRecord) -> str:
    """WebVTT subtitles of the notes, or of the chapters, with the notices as comments."""
    notes = "".join(f"\nNOTE {_cue(notice)}\n" for notice in record.notices)
    cues = (
        f"\n{_moment(start, '.')} --> {_moment(end, '.')}\n{html.escape(_cue(text), quote=False)}\n"
        for start, end, text in _cues(record)
    )
    return "WEBVTT\n" + notes + "".join(cues)


def to_site_chapters(record: SummaryRecord) -> str:
    """``0:00 Title`` lines for a video description on a web site.

    A chapter shorter than ``MIN_SITE_CHAPTER_SECONDS`` becomes part of the one before it.
    """
    kept: list[Chapter] = []
    for chapter in record.chapters:
        own = chapter.end_seconds - chapter.start_seconds
        after = chapter.start_seconds - kept[-1].start_seconds if kept else MIN_SITE_CHAPTER_SECONDS
        if not kept or min(own, after) >= MIN_SITE_CHAPTER_SECONDS:
            kept.append(chapter)
    if kept:
        kept[0] = replace(kept[0], start_seconds=0.0)
    titles = ((chapter.start_seconds, _line(chapter.title)) for chapter in kept)
    # Sites refuse descriptions with these two.
    table = str.maketrans("<>", "\u2039\u203a")
    return "".join(f"{format_clock(start)} {title.translate(table)}\n" for start, title in titles)


def to_ffmetadata(record: SummaryRecord) -> str:
    """An FFMETADATA1 chapter file, applied by ``ffmpeg -i VIDEO -i THIS -map_metadata 1``."""
    parts = [";FFMETADATA1\n", *(f";note: {_line(notice)}\n" for notice in record.notices)]
    parts.append(f"title={_metadata(display_name(record.source.name))}\n")
    for chapter in record.chapters:
        start, end = round(chapter.start_seconds * 1000), round(chapter.end_seconds * 1000)
        parts.append(
            f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={max(end, start + 1)}\n"
            f"title={_metadata(_line(chapter.title))}\n"
        )
    return "".join(parts)


TEXT_FORMATTERS: dict[str, Callable[[SummaryRecord], str]] = {
    ".summary.txt": as_text_file,
    ".summary.md": to_markdown,
    ".summary.json": to_json,
    ".summary.srt": to_srt,
    ".summary.vtt": to_vtt,
    ".summary.chapters.txt": to_site_chapters,
    ".summary.ffmetadata": to_ffmetadata,
}
"""Suffix of the output file → its formatter."""


def provenance(record: SummaryRecord) -> str:
    """One sentence for users: the model, the frames, the windows and the duration."""
    seen = f"{record.frames} frame{'s' * (record.frames != 1)}"
    if record.notes:
        seen += f" in {len(record.notes)} windows"
    if record.notes and record.window_seconds is not None:
        seen += f" of about {record.window_seconds:g} s"
    length = f" of {format_clock(record.duration_seconds)}" if record.duration_seconds else ""
    return f"{display_name(record.model or 'a model')} saw {seen}{length}."


def _cues(record: SummaryRecord) -> Iterator[tuple[float, float, str]]:
    for part in record.notes or record.chapters:
        yield (
            part.start_seconds,
            max(part.end_seconds, part.start_seconds + _MIN_CUE),
            part.text,
        )


def _cue(text: str) -> str:
    """Lines of a cue, without blank lines (they end a cue) and arrows (they begin one)."""
    lines = (_line(line).replace("-->", "→") for line in text.splitlines())
    return "\n".join(line for line in lines if line) or "…"


def _moment(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    whole, rest = divmod(milliseconds, 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02d}:{minute:02d}:{second:02d}{point}{rest:03d}"


def _line(text: str) -> str:
    return escape_controls(" ".join(text.split()))


def _lines(text: str) -> str:
    return escape_controls(text, allowed="\n\t")


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _markdown_text(text: str) -> str:
    """Escape all Markdown syntax except paragraphs and bullet points."""
    lines = []
    for line in _lines(text).splitlines():
        bullet = re.match(r"\s*[-*•]\s+", line)
        rest = line[bullet.end() :] if bullet else line.strip()
        # "1. ", "+ " and "---" at the start of a line are syntax, too.
        escaped = re.sub(r"^(\d+)([.)])|^([+=-])", r"\1\\\2\3", _markdown(rest))
        lines.append(f"- {escaped}" if bullet else escaped)
    return "\n".join(lines)


def _metadata(text: str) -> str:
    return _FFMETADATA.sub(r"\\\1", text)


_STRIP = 12
_MAX_PICTURES = 60
_HEIGHT = 108


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG of one frame and its time stamp."""

    seconds: float
    jpeg: bytes


def to_html(record: SummaryRecord, page: Path) -> str:
    """Render the page of a record for the path ``page``.

    If the video is gone or cannot be decoded any more, the page has no images.
    """
    video = _video_of(record)
    strip, heads = _stills(record, video)
    return render_page(
        "smolvideo.summaries",
        "page.html",
        source_name=record.source.name,
        text=record.text or "",
        link=_link_to(record, video, page),
        playable=record.source.kind == "video",
        strip=[_shown(still) for still in strip],
        chapters=[
            {
                "title": chapter.title,
                "text": chapter.text,
                "start_seconds": chapter.start_seconds,
                "clock": format_clock(chapter.start_seconds),
                "still": None if still is None else _shown(still),
            }
            for chapter, still in zip(_chapters(record), heads, strict=True)
        ],
        notices=record.notices,
        how_made=provenance(record),
    )


def _chapters(record: SummaryRecord) -> tuple[Chapter, ...]:
    """The chapters to show: none if there is only one, which is the whole video."""
    return record.chapters if len(record.chapters) > 1 else ()


def _shown(still: Thumbnail) -> dict[str, Any]:
    """Template context of a thumbnail."""
    return {
        "seconds": still.seconds,
        "clock": format_clock(still.seconds),
        "base64": base64.standard_b64encode(still.jpeg).decode("ascii"),
    }


def _video_of(record: SummaryRecord) -> Path | None:
    if record.source.url is None:
        return Path(record.path)
    address = _web_address(record.source.url)
    found = find_cached(record.source.url) if address is not None else None
    return found.path if found else None


def _stills(
    record: SummaryRecord, video: Path | None
) -> tuple[list[Thumbnail], list[Thumbnail | None]]:
    """Decode the thumbnails of the strip, and one for each chapter."""
    chapters = _chapters(record)
    duration = record.duration_seconds or 0.0
    even = [duration * (place + 0.5) / _STRIP for place in range(_STRIP)]
    # 5 % into the chapter: its first frame may be the end of a fade.
    starts = [c.start_seconds + 0.05 * (c.end_seconds - c.start_seconds) for c in chapters]
    nothing: list[Thumbnail | None] = [None] * len(chapters)
    if video is None:
        return [], nothing
    try:
        wanted = sorted({*even, *starts[:_MAX_PICTURES]})
        given = os.fspath(video)
        batch = load_frames(given, times=wanted, fit=_small)
    except SmolVideoError:
        return [], nothing
    stills = [
        Thumbnail(seconds, _jpeg(image))
        for seconds, image in zip(batch.pts_seconds, batch.images, strict=True)
    ]

    def shown_at(seconds: float) -> Thumbnail:
        earlier = [still for still in stills if still.seconds <= seconds + 1e-6]
        return earlier[-1] if earlier else stills[0]

    strip = {still.seconds: still for still in map(shown_at, even)}
    heads = [shown_at(start) for start in starts[:_MAX_PICTURES]]
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
    """The link from the page to the video: a relative path, a file URI or a web URL.

    None where the record's URL is not http or https.
    """
    if record.source.url is not None:
        return _web_address(record.source.url)
    if video is None:
        return None
    try:
        relative = os.path.relpath(video, page.parent)
    except ValueError:  # another drive on Windows
        return video.as_uri()
    return quote(os.fsencode(relative.replace(os.sep, "/")))


def _web_address(url: str) -> str | None:
    """The URL without its fragment; None unless it is http or https, as other schemes may run a
    script or open a file.
    """
    try:
        address = urldefrag(url).url
        return address if urlsplit(address).scheme in ("http", "https") else None
    except ValueError:  # half an IPv6 address
        return None
