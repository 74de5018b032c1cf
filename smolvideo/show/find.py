"""Hits of a search: a line each, and in a terminal a frame of each above its number."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.cells import cell_len
from rich.text import Text

from smolvideo.formatting import format_count, format_span
from smolvideo.frames import FrameBatch, Images, VideoMetadata
from smolvideo.index.hits import Hit, SearchResult
from smolvideo.index.pictures import picture_of
from smolvideo.index.search import ScopeCost
from smolvideo.sanitize import display_name, escape_controls
from smolvideo.show.console import Output
from smolvideo.show.filmstrip import FilmstripChoice, choose_filmstrip, show_filmstrip

_STRIP_WIDTH, _STRIP_HEIGHT = 320, 180
_MAX_PICTURES = 12


def hit_line(hit: Hit) -> str:
    """``talk.mp4:0:01:23–0:01:31  0.94  A dog runs.``, with the path as seen from the current
    folder; escaped, on one line."""
    where, scored, text = _parts(hit)
    return f"{where}{scored}  {text}".rstrip()


def hit_lines(hit: Hit, width: int) -> list[str]:
    """Lines of a hit for a terminal: more than one where ``width`` would break its times; they
    then have a line of their own."""
    where, scored, text = _parts(hit)
    if cell_len(where + scored) <= width:
        return [hit_line(hit)]
    return [where, f"  {scored}", *([f"  {text}"] if text else [])]


def _parts(hit: Hit) -> tuple[str, str, str]:
    """Return path, times with score, and text of a hit, escaped, each on one line."""
    span = format_span(hit.start_seconds, hit.end_seconds)
    text = display_name(hit.note or hit.screen_text or hit.subtitles, 300)
    if hit.evidence == "subtitles":
        text = f"[{display_name(hit.subtitles, 200)}]"
    return f"{escape_controls(_shown_path(hit.path))}:", f"{span}  {hit.score:.2f}", text


def _shown_path(path: str) -> str:
    if "://" in path:
        return path
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return path if relative.startswith(os.pardir) else relative


def show_hits(
    screen: Output,
    found: SearchResult,
    filmstrip: FilmstripChoice = "none",
    *,
    reader: str = "auto",
) -> None:
    """Write a line for each hit to stdout, after a strip of their frames in a terminal."""
    if found.hits:
        _show_strip(screen, found.hits, filmstrip, reader)
    for hit in found.hits:
        lines = hit_lines(hit, screen.out.width) if screen.out.is_terminal else [hit_line(hit)]
        screen.write("\n".join(lines) + "\n")
    counts = found.searched
    windows = counts.get("windows", 0)
    if screen.verbose or (screen.is_interactive and not found.hits):
        line = (
            f"{format_count(len(found.hits), 'hit')}: "
            f"{windows:,} window{'s' * (windows != 1)} of "
            f"{format_count(counts.get('videos', 0), 'video')} searched, "
            f"{counts.get('candidates', 0):,} looked at, {found.seconds:.1f} s"
        )
        screen.err.print(Text(line, "dim"), soft_wrap=True)


def _show_strip(
    screen: Output, hits: Sequence[Hit], filmstrip: FilmstripChoice, reader: str
) -> None:
    """Show one frame per hit, letterboxed to one size, as the strip of one source."""
    kind, _ = choose_filmstrip(filmstrip, screen)
    if kind in ("none", "times"):
        return
    chosen = [(hit, picture_of(hit, reader=reader)) for hit in hits[:_MAX_PICTURES]]
    if all(picture is None for _, picture in chosen):
        return
    images = np.stack([_letterboxed(picture) for _, picture in chosen])
    names = {Path(hit.path).name for hit, _ in chosen}
    metadata = VideoMetadata(
        width=_STRIP_WIDTH,
        height=_STRIP_HEIGHT,
        duration_seconds=max(hit.end_seconds for hit, _ in chosen),
        name=names.pop() if len(names) == 1 else f"{len(names)} videos",
        kind="frames",  # numbered, as for `--open`
    )
    times = tuple(hit.start_seconds for hit, _ in chosen)
    show_filmstrip(screen, [FrameBatch(images, times, metadata)], filmstrip, every_frame=True)


def _letterboxed(picture: Images | None) -> Images:
    """Return a picture with bars; black for one that cannot be decoded, to keep the numbers."""
    canvas = Image.new("RGB", (_STRIP_WIDTH, _STRIP_HEIGHT))
    if picture is None:
        return np.asarray(canvas)
    image = Image.fromarray(picture)
    image.thumbnail((_STRIP_WIDTH, _STRIP_HEIGHT))
    canvas.paste(image, ((_STRIP_WIDTH - image.width) // 2, (_STRIP_HEIGHT - image.height) // 2))
    return np.asarray(canvas)


def show_cost(screen: Output, cost: ScopeCost, *, scanned: int) -> None:
    """Say what a scan costs before it begins: windows and frames of videos that are in no index."""
    if not scanned or screen.quiet:
        return
    screen.notice(
        f"{format_count(scanned, 'video')} in no index: {format_count(cost.windows, 'window')} of "
        f"{format_count(cost.frames, 'frame')} in all to look at; `smolvideo index` makes that "
        "shorter"
    )
