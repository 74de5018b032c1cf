"""A record as one self-contained HTML file: embedded filmstrip, time links, dark and light."""

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urldefrag, urlsplit

from smolvideo.errors import SmolVideoError
from smolvideo.frames import Images
from smolvideo.html_page import render_page
from smolvideo.pipeline import load_frames
from smolvideo.source import find_cached
from smolvideo.summaries.formats import provenance
from smolvideo.summaries.record import Chapter, SummaryRecord
from smolvideo.times import format_clock

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
