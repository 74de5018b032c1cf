"""Subtitles from .srt, .vtt and .ass files: read, cleaned, and cut down to the sampled frames.

Real files are rarely as their formats say: they come in old encodings, with wrong counters, missing
blank lines and markup of other formats. So one tolerant reader takes .srt and .vtt alike; what has
no valid times is left out.

WebVTT: https://www.w3.org/TR/webvtt1/ · SubRip and Advanced SubStation have no standard.
"""

import html
import os
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.frames import TimedText, format_timestamp
from smolvideo.pipes import read_file_or_pipe
from smolvideo.safe_text import show_path

SUBTITLE_SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
"""In the order of preference where one video has several."""

_LARGEST_FILE = 32 * 2**20
"""Bytes. The subtitles of a day of talk are below 10 MB."""

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,6}))?"
_TIMING_LINE = re.compile(rf"\s*{_TIME}\s*-{{1,2}}>\s*{_TIME}(?:\s.*)?")

_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_MARKUP = re.compile(
    r"</?[a-zA-Z][^<>]*>"  # <i>, <font color=…>, <c.yellow>, <lang en>
    r"|<(?:\d+:)?\d+:\d+\.\d+>"  # the times inside karaoke cues
    r"|\{\\[^{}]*\}"  # {\an8}, {\i1}
)
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}")
_LANGUAGE_PART = re.compile(
    r"[a-z]{2,3}(?:[-_][a-z0-9]{2,8})?(?:\.(?:cc|default|forced|hi|sdh))*", re.IGNORECASE
)


@dataclass(frozen=True)
class Cue:
    """One line of text (no line breaks, no markup) and when it is shown, in seconds."""

    start_seconds: float
    end_seconds: float
    text: str


def read_subtitles(path: Path) -> list[Cue]:
    """The cues of a file in order of time, without those that cannot be understood.

    Text that rolls (each cue repeating the last line of the one before) is taken once.

    Raises:
        SourceError: the file cannot be read, or nothing in it is a cue.
    """
    shown = show_path(path)
    try:
        content = read_file_or_pipe(path, _LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise SourceError(f"cannot read the subtitles {shown}: {reason}") from error
    if len(content) > _LARGEST_FILE:
        raise SourceError(f"{shown} is too large for subtitles")
    cues = parse_subtitles(_decode(content))
    if not cues:
        raise SourceError(
            f"no subtitles in {shown}", hint="SubRip (.srt), WebVTT (.vtt) and .ass are understood"
        )
    return cues


def parse_subtitles(text: str) -> list[Cue]:
    """As ``read_subtitles``, from text; an empty list if there is nothing."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    is_substation = any(line.strip().lower() == "[events]" for line in lines)
    blocks = _substation_blocks(lines) if is_substation else _timed_blocks(lines)
    cues = sorted(blocks, key=lambda block: block[:2])
    return list(_without_repeats(cues))


def cues_of_track(texts: Iterable[TimedText]) -> list[Cue]:
    """The cues of a text track inside a video file, as clean as those of a file."""
    blocks: list[_Block] = []
    for text in texts:
        content = text.text
        if text.format in ("ass", "ssa"):
            # Matroska keeps the line of Advanced SubStation without its times, in nine fields.
            content = content.split(",", 8)[-1]
            if _DRAWING.search(content):
                continue
            content = content.replace("\\h", " ").replace("\\N", "\n").replace("\\n", "\n")
        blocks += _block(text.start_seconds, text.end_seconds, content.splitlines())
    return list(_without_repeats(sorted(blocks, key=lambda block: block[:2])))


def cues_within(cues: Sequence[Cue], most_characters: int) -> list[Cue]:
    """As many of the cues as fit, spread evenly over all of them."""
    kept = list(cues)
    while kept and len(format_cues(kept)) > most_characters:
        share = most_characters / len(format_cues(kept))
        count = min(len(kept) - 1, max(1, int(share * len(kept))) if len(kept) > 1 else 0)
        kept = [kept[int(place * len(kept) / count)] for place in range(count)]
    return kept


def is_sidecar(path: Path, video_path: Path) -> bool:
    """Whether ``find_sidecar`` would look at a file of this name."""
    beside = os.path.realpath(path.parent) == os.path.realpath(video_path.parent)
    return beside and _sidecar_rank(path, video_path) is not None


def find_sidecar(video_path: Path) -> Path | None:
    """The subtitle file beside a video: ``film.srt`` for ``film.mp4``, else ``film.en.srt`` and
    such.

    Without a language comes first, then English, then the others by name; of each, .srt first.
    """
    try:
        neighbours = sorted(video_path.parent.iterdir())
    except OSError:
        return None
    ranked = [
        (rank, path)
        for path in neighbours
        if (rank := _sidecar_rank(path, video_path)) is not None and path.is_file()
    ]
    return min(ranked)[1] if ranked else None


def cues_near(
    cues: Sequence[Cue], pts_seconds: Sequence[float], *, within_seconds: float = 1.0
) -> list[Cue]:
    """The cues that are on screen at one of the times, or at most ``within_seconds`` before or
    after.

    Each cue comes once, in the order of ``cues``; ``pts_seconds`` may be in any order.
    """
    times = sorted(pts_seconds)

    def is_near(cue: Cue) -> bool:
        first = bisect_left(times, cue.start_seconds - within_seconds)
        return first < len(times) and times[first] <= cue.end_seconds + within_seconds

    return [cue for cue in cues if is_near(cue)]


def format_cues(cues: Iterable[Cue]) -> str:
    """One cue a line: ``01:15 Where is the red ball?``, the time being the start of the cue."""
    return "\n".join(f"{format_timestamp(cue.start_seconds)} {cue.text}" for cue in cues)


# A block is a cue whose text still has its lines.
_Block = tuple[float, float, list[str]]


def _timed_blocks(lines: Sequence[str]) -> Iterator[_Block]:
    """Every timing line with the lines below it, up to a blank line or the next timing line."""
    at = 0
    while at < len(lines):
        timing = _TIMING_LINE.fullmatch(lines[at])
        at += 1
        if timing is None:
            continue
        first = at
        # A line of blanks is part of a cue, only an empty one ends it: rolling captions rely on it.
        while at < len(lines) and lines[at] and not _TIMING_LINE.fullmatch(lines[at]):
            at += 1
        text = list(lines[first:at])
        if at < len(lines) and lines[at].strip() and text and text[-1].strip().isdecimal():
            text.pop()  # the blank line is missing: this is the counter of the next cue
        yield from _block(_seconds(timing.groups()[:4]), _seconds(timing.groups()[4:]), text)


def _substation_blocks(lines: Iterable[str]) -> Iterator[_Block]:
    """The ``Dialogue:`` lines of .ass and .ssa; their columns are named by the ``Format:`` line."""
    columns = ["layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect"]
    columns.append("text")
    in_events = False
    for line in lines:
        key, _, rest = line.partition(":")
        key = key.strip().lower()
        if key.startswith("["):
            in_events = line.strip().lower() == "[events]"
        elif in_events and key == "format":
            columns = [column.strip().lower() for column in rest.split(",")]
        elif in_events and key == "dialogue" and not _DRAWING.search(rest):
            fields = dict(zip(columns, rest.split(",", len(columns) - 1), strict=False))
            start, end = (
                re.fullmatch(rf"\s*{_TIME}\s*", fields.get(edge, "")) for edge in ("start", "end")
            )
            if start and end:
                text = re.split(r"\\[Nn]", fields.get("text", "").replace("\\h", " "))
                yield from _block(_seconds(start.groups()), _seconds(end.groups()), text)


def _block(start: float | None, end: float | None, lines: Iterable[str]) -> Iterator[_Block]:
    texts = [text for line in lines if (text := _plain_text(line))]
    if start is not None and end is not None and start < end and texts:
        yield start, end, texts


def _seconds(groups: Sequence[str | None]) -> float | None:
    """Hours, minutes, seconds and their decimals → seconds; None for what no clock shows."""
    hours, minutes, seconds = (int(group or 0) for group in groups[:3])
    if seconds > 59 or (groups[0] is not None and minutes > 59):
        return None
    return hours * 3600 + minutes * 60 + float(f"{seconds}.{groups[3] or 0}")


def _plain_text(line: str) -> str:
    """A line as it is read on screen: no tags, entities resolved, no control characters."""
    line = _MARKUP.sub("", _VOICE.sub(r"\1: ", line))
    line = html.unescape(line)
    visible = (
        " " if character.isspace() else character
        for character in line
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
    )
    return " ".join("".join(visible).split())


def _without_repeats(blocks: Iterable[_Block]) -> Iterator[Cue]:
    """Cues of one line of text; lines that were on screen until then are not said again."""
    previous: Cue | None = None
    shown: list[str] = []
    for start, end, lines in blocks:
        touches = previous is not None and start <= previous.end_seconds + 0.1
        new_lines = lines
        if touches and lines == shown:
            new_lines = []
        elif touches and lines[0] == shown[-1]:
            new_lines = lines[1:]
        if previous is not None and not new_lines:
            previous = replace(previous, end_seconds=max(end, previous.end_seconds))
            continue
        if previous is not None:
            yield previous
        previous, shown = Cue(start, end, " ".join(new_lines)), lines
    if previous is not None:
        yield previous


def _sidecar_rank(path: Path, video_path: Path) -> tuple[int, int] | None:
    suffix = path.suffix.lower()
    if suffix not in SUBTITLE_SUFFIXES:
        return None
    kind = SUBTITLE_SUFFIXES.index(suffix)
    if path.stem in (video_path.stem, video_path.name):
        return 0, kind
    begins = video_path.stem + "."
    language = path.stem.removeprefix(begins)
    if not path.stem.startswith(begins) or not _LANGUAGE_PART.fullmatch(language):
        return None
    return 1 if language.lower().startswith("en") else 2, kind


def _decode(content: bytes) -> str:
    """Text of an unknown encoding: by its mark, by its zero bytes, then UTF-8, then Western
    Europe.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    head = content[:400]
    if head.count(0) > len(head) // 4:
        order = "le" if head[1::2].count(0) > head[::2].count(0) else "be"
        return content.decode(f"utf-16-{order}", errors="replace")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")  # every byte is a character there: this cannot fail
