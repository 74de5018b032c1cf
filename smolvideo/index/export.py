"""Hits for other programs: CSV, EDL (CMX 3600), M3U and an HTML page.

Names and notes are untrusted: no cell is a formula, no line break ends a record, no text is markup.

EDL: https://xmil.biz/EDL-X/CMX3600.pdf · M3U: https://en.wikipedia.org/wiki/M3U · a time range in
an address: https://www.w3.org/TR/media-frags/
"""

import base64
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from smolvideo.formatting import format_span
from smolvideo.frames import Images
from smolvideo.html_page import render_page
from smolvideo.index.hits import Hit, SearchResult
from smolvideo.sanitize import display_name, visible_cell

EDL_FRAMES_PER_SECOND = 25
"""Time code counts frames of a fixed rate; the files may have any."""

CSV_COLUMNS = (
    "path", "start_seconds", "end_seconds", "score", "note", "screen_text", "subtitles", "evidence",
)  # fmt: skip


def to_csv(found: SearchResult) -> str:
    """A header and one row per hit; cells that a spreadsheet would evaluate begin with ``'``."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\r\n")
    rows.writerow(CSV_COLUMNS)
    for hit in found.hits:
        texts = (hit.note, hit.screen_text, hit.subtitles, hit.evidence)
        times = (f"{hit.start_seconds:.3f}", f"{hit.end_seconds:.3f}", f"{hit.score:.4f}")
        rows.writerow((_cell(hit.path), *times, *map(_cell, texts)))
    return written.getvalue()


def _cell(text: str) -> str:
    return visible_cell(" ".join(text.split("\n")))


def to_edl(found: SearchResult) -> str:
    """An edit decision list of all hits in order, each a cut on the video and sound tracks."""
    lines = [f"TITLE: {_ascii(found.query)[:70]}", "FCM: NON-DROP FRAME", ""]
    at = 0
    for number, hit in enumerate(found.hits[:999], start=1):
        start = round(hit.start_seconds * EDL_FRAMES_PER_SECOND)
        end = max(start + 1, round(hit.end_seconds * EDL_FRAMES_PER_SECOND))
        codes = " ".join(map(_time_code, (start, end, at, at + end - start)))
        lines += [
            f"{number:03d}  AX       B     C        {codes}",
            f"* FROM CLIP NAME: {_ascii(Path(hit.path).name)}",
            f"* COMMENT: {hit.score:.2f} {_ascii(hit.note)[:200]}",
            "",
        ]
        at += end - start
    return "\n".join(lines)


def _time_code(frames: int) -> str:
    seconds, rest = divmod(frames, EDL_FRAMES_PER_SECOND)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours % 24:02d}:{minutes:02d}:{seconds:02d}:{rest:02d}"


def _ascii(text: str) -> str:
    """One line of ASCII, as edit systems expect."""
    return display_name(text, 1_000).encode("ascii", "replace").decode("ascii")


def to_m3u(found: SearchResult) -> str:
    """A playlist of the hits, each from its start to its end, as VLC plays it."""
    lines = ["#EXTM3U"]
    for hit in found.hits:
        length = max(1, round(hit.end_seconds - hit.start_seconds))
        title = f"{Path(hit.path).name} {format_span(hit.start_seconds, hit.end_seconds)}"
        lines += [
            f"#EXTINF:{length},{display_name(f'{title} {hit.note}', 600)}",
            f"#EXTVLCOPT:start-time={hit.start_seconds:.3f}",
            f"#EXTVLCOPT:stop-time={hit.end_seconds:.3f}",
            _location(hit),
        ]
    return "\n".join(lines) + "\n"


def _location(hit: Hit) -> str:
    """The file as an address, in which no character can end the line or begin a comment."""
    if "://" in hit.path:
        return quote(hit.path, safe=":/?&=%#+,;@~!$'()*[]-._")
    return "file://" + quote(hit.path.encode("utf-8", "surrogateescape"))


PictureOf = Callable[[Hit], Images | None]
"""Returns a picture of a hit, uint8 RGB ``[H, W, 3]``, or None where it cannot be decoded."""


def to_html(found: SearchResult, picture_of: PictureOf = lambda _: None) -> str:
    """A self-contained page with a picture of each hit, its time, score and note."""
    return render_page(
        "smolvideo.index",
        "hits.html",
        query=found.query,
        rows=[_row(hit, picture_of) for hit in found.hits],
    )


def _row(hit: Hit, picture_of: PictureOf) -> dict[str, Any]:
    picture = picture_of(hit)
    return {
        "hit": hit,
        "name": Path(hit.path).name,
        "span": format_span(hit.start_seconds, hit.end_seconds),
        "score": f"{hit.score:.2f}",
        "address": f"{_location(hit)}#t={hit.start_seconds:.3f},{hit.end_seconds:.3f}",
        "picture": None if picture is None else _data_url(picture),
    }


def _data_url(picture: Images) -> str:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((320, 320))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")


EXPORTS: dict[str, Callable[[SearchResult], str]] = {
    "csv": to_csv,
    "edl": to_edl,
    "m3u": to_m3u,
    "html": to_html,
}
"""Format → its text."""


def export_hits(form: str, found: SearchResult, picture_of: PictureOf) -> str:
    """Return the hits as a text in one of ``EXPORTS``."""
    return to_html(found, picture_of) if form == "html" else EXPORTS[form](found)


def format_of(name: str) -> str | None:
    """Return the format that the suffix of a file name stands for, or None."""
    known = {"m3u8": "m3u", "htm": "html"} | {form: form for form in EXPORTS}
    return known.get(Path(name).suffix.lower().removeprefix("."))
