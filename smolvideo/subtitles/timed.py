"""Parsers of SubRip, WebVTT, Advanced SubStation and MicroDVD: texts with times.

Real files often violate their formats: wrong counters, missing or surplus blank lines, times in
other notations. Whatever players accept is accepted; a cue with invalid times is dropped and
counted.

SubRip has no standard. WebVTT: https://www.w3.org/TR/webvtt1/. SubStation: the ``Dialogue:`` lines
of ``[Events]``, http://www.tcax.org/docs/ass-specs.htm; unspecified cases as in libass. MicroDVD:
``{25}{50}Hello|there``, with times as frame numbers.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from smolvideo.errors import SourceError
from smolvideo.subtitles.cues import Block, plain_lines

_CLOCK = (
    r"(?:(\d{1,4}) ?: ?)?(\d{1,3}) ?: ?(\d{1,3})"
    r"(?: ?([.,]) ?(\d{1,9})|:(\d{3}))?(?![\d:.,])"
)
_ARROW = r"[ \t]*(?:-{1,3}>|={1,2}>|[–—]>|--&gt;|→)[ \t]*"  # noqa: RUF001 -- found in real files
_TIMING_LINE = re.compile(rf"[ \t]*{_CLOCK}{_ARROW}{_CLOCK}(?=\s|$)")
_ONE_CLOCK = re.compile(rf"\s*{_CLOCK}\s*")
_MAX_TIMING = 200
"""Maximum characters of a timing line, with whatever follows the times."""

_BREAK = re.compile(r"(?<![:\\])\\N")
_BLANK = re.compile(r"(?<![:\\])\\h")
"""Not after a colon or another backslash, which occur in Windows paths."""

_COMMENTS = ("NOTE", "STYLE", "REGION")


def parse_clock(text: str) -> float | None:
    """Return the seconds of ``1:02:03.45``, ``02:03,450`` and the like; None if invalid."""
    found = _ONE_CLOCK.fullmatch(text[:_MAX_TIMING])
    return None if found is None else _seconds(found.groups())


def has_timing_lines(lines: Sequence[str]) -> bool:
    """Return whether any line has two times."""
    return any(_TIMING_LINE.match(line) for line in lines if _may_be_timing(line))


def subrip_blocks(lines: Sequence[str]) -> tuple[list[Block], int]:
    """Return the cues of SubRip, and the number dropped for invalid times.

    As in FFmpeg and players, the text of a cue extends to the next timing line, so that blank lines
    may follow the times or occur in the text; the counter above that timing line is not part of it.
    """
    timings = list(_timings(lines))
    numbered = [_is_number(lines, timing.line - 1) for timing in timings]
    has_counters = any(numbered[:1]) or 2 * sum(numbered) > len(numbered)
    blocks, left_out = [], 0
    for timing, following in zip_longest(timings, timings[1:]):
        last = len(lines) if following is None else following.line
        if following is not None and has_counters:
            last = _without_counter(lines, last)
        text = lines[timing.line + 1 : max(last, timing.line + 1)]
        if timing.seconds is None:
            left_out += 1
        elif shown := subrip_lines("\n".join(text)):
            blocks.append((*timing.seconds, shown))
    return blocks, left_out


def subrip_lines(text: str) -> list[str]:
    r"""Return the lines of a SubRip cue; ``\N`` and ``\h`` are a line break and a blank.

    Converters leave these SubStation escapes behind, and players, which render SubRip as
    SubStation, interpret them.
    """
    if "\\" in text:
        text = _BREAK.sub("\n", _BLANK.sub(" ", text))
    return plain_lines(text)


def webvtt_blocks(lines: Sequence[str]) -> tuple[list[Block], int]:
    """Return the cues of WebVTT, and the number dropped for invalid times.

    An empty line ends a cue, a line of blanks does not: roll-up captions rely on it.
    """
    timings = {timing.line: timing.seconds for timing in _timings(lines)}
    blocks, left_out, at = [], 0, 0
    while at < len(lines):
        begins_block = at == 0 or not lines[at - 1]
        if begins_block and lines[at].split(" ")[0].split("\t")[0] in _COMMENTS:
            while at < len(lines) and lines[at]:
                at += 1
            continue
        if at not in timings:
            at += 1
            continue
        seconds, first = timings[at], at + 1
        at = first
        while at < len(lines) and lines[at] and at not in timings:
            at += 1
        last = at
        if at in timings and lines[at - 1].strip().isdecimal() and last > first:
            last -= 1  # the blank line is missing: this is the next cue's counter
        if seconds is None:
            left_out += 1
        elif shown := plain_lines("\n".join(lines[first:last])):
            blocks.append((*seconds, shown))
    return blocks, left_out


@dataclass(frozen=True)
class _Timing:
    """Index of a timing line, and its (start, end) in seconds; None if these are invalid."""

    line: int
    seconds: tuple[float, float] | None


def _timings(lines: Sequence[str]) -> Iterator[_Timing]:
    for number, line in enumerate(lines):
        if not _may_be_timing(line):
            continue
        if found := _TIMING_LINE.match(line[:_MAX_TIMING]):
            start, end = _seconds(found.groups()[:6]), _seconds(found.groups()[6:])
            yield _Timing(number, (start, end) if start < end else None)
        elif "-->" in line and (_has_no_words(line) or _is_counter(lines, number - 1)):
            yield _Timing(number, None)


def _may_be_timing(line: str) -> bool:
    return ">" in line or "→" in line or "&gt;" in line


def _has_no_words(line: str) -> bool:
    return len(line) < _MAX_TIMING and not any(map(str.isalpha, line))


def _is_number(lines: Sequence[str], number: int) -> bool:
    return number >= 0 and lines[number].strip().isdecimal()


def _is_counter(lines: Sequence[str], number: int) -> bool:
    """Return whether a line is just a number, at the beginning or after a blank line."""
    return _is_number(lines, number) and (number == 0 or not lines[number - 1].strip())


def _without_counter(lines: Sequence[str], timing: int) -> int:
    """Return the end of the text above the line ``timing``: without the counter, if any."""
    at = timing - 1
    while at >= 0 and not lines[at].strip():
        at -= 1
    is_counter = at >= 0 and lines[at].strip().isdecimal()
    return at if is_counter else timing


def _seconds(groups: Sequence[str | None]) -> float:
    """Convert the groups of ``_CLOCK`` (hours, minutes, seconds, decimal mark, decimals,
    milliseconds) to seconds.

    Overflowing fields carry, as in players: ``00:61:00`` is an hour and a minute.
    """
    hours, minutes, seconds = (int(group or 0) for group in groups[:3])
    mark, decimals, milliseconds = groups[3:]
    fraction = float(f"0.{decimals or 0}")
    if milliseconds is not None:
        fraction = int(milliseconds) / 1000
    elif decimals is not None and len(decimals) == 4 and (mark == "," or decimals == "1000"):
        # SubRip has milliseconds: transcribers round 999.6 to 1000, and players carry it.
        fraction = int(decimals) / 1000
    return round(hours * 3600 + minutes * 60 + seconds + fraction, 6)


_COLUMNS = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect")
_DRAWING = re.compile(r"\\p(\d{1,3})")


def substation_blocks(lines: Sequence[str]) -> tuple[list[Block], int]:
    """Return the cues in file order, and the number dropped for invalid times.

    The ``Format:`` line names the columns; ``Comment:`` lines are not shown.
    """
    columns = [*_COLUMNS, "text"]
    blocks, left_out, in_events = [], 0, False
    for line in lines:
        key, _, rest = line.partition(":")
        key = key.strip().lower()
        if key.startswith("["):
            in_events = line.strip().lower() == "[events]"
        elif in_events and key == "format":
            columns = [column.strip().lower() for column in rest[:1000].split(",")]
        elif in_events and key == "dialogue":
            fields = dict(zip(columns, rest.split(",", len(columns) - 1), strict=False))
            start, end = (parse_clock(fields.get(edge, "")) for edge in ("start", "end"))
            if start is None or end is None or start >= end:
                left_out += 1
            elif shown := substation_lines(fields.get("text", "")):
                blocks.append((start, end, shown))
    return blocks, left_out


def substation_lines(text: str) -> list[str]:
    """Return the displayed lines of one event, without overrides, comments and drawings."""
    text = "".join(_written(text)).replace("\\h", " ")
    return plain_lines(text.replace("\\N", "\n").replace("\\n", "\n"))


def _written(text: str) -> Iterator[str]:
    r"""Yield the text outside of ``{…}``, except drawings (from ``\p1`` to ``\p0``)."""
    at, is_drawn = 0, False
    while at < len(text):
        opened = text.find("{", at)
        closed = text.find("}", opened) if opened >= 0 else -1
        if closed < 0:
            opened = closed = len(text)
        if not is_drawn:
            yield text[at:opened]
        for scale in _DRAWING.findall(text, opened, closed):
            is_drawn = int(scale) > 0
        at = closed + 1


_LINE = re.compile(r"[ \t]*\{(\d{1,9})\}[ \t]*\{(\d{0,9})\}(.*)")
_RATE = re.compile(r"\s*(\d{1,3}(?:[.,]\d{1,6})?)\s*")
_UNKNOWN_LENGTH = 3.0
"""Duration in seconds of a cue that states no end."""


def is_microdvd(lines: Sequence[str]) -> bool:
    """Return whether one of the first lines begins with two frame numbers."""
    return any(_LINE.match(line[:100]) for line in lines[:50])


def microdvd_blocks(lines: Sequence[str], rate: float) -> tuple[list[Block], int]:
    """Return the cues at ``rate`` frames a second, and the number dropped for invalid times."""
    blocks, left_out = [], 0
    cues = [found for line in lines if (found := _LINE.match(line))]
    for found in cues[1:] if stated_rate(lines) is not None else cues:
        start = int(found[1]) / rate
        end = int(found[2]) / rate if found[2] else start + _UNKNOWN_LENGTH
        texts = plain_lines("\n".join(part.removeprefix("/") for part in found[3].split("|")))
        if start >= end:
            left_out += 1
        elif texts:
            blocks.append((round(start, 6), round(end, 6), texts))
    return blocks, left_out


def stated_rate(lines: Sequence[str]) -> float | None:
    """Return the frame rate in the first cue, by convention ``{1}{1}23.976``; None if absent."""
    found = next(filter(None, map(_LINE.match, lines[:50])), None)
    if found is None or found[1] not in ("0", "1") or found[2] not in ("0", "1"):
        return None
    rate = _RATE.fullmatch(found[3][:50])
    seconds = float(rate[1].replace(",", ".")) if rate else 0.0
    return seconds if 1.0 <= seconds <= 240.0 else None


def rate_needed() -> SourceError:
    """Return the error for a file whose frame rate is neither stated nor known from the video."""
    return SourceError(
        "MicroDVD subtitles count frames, and the frame rate is not known",
        hint="begin the file with a line such as `{1}{1}25.000`",
    )
