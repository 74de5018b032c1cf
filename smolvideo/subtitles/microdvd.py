"""MicroDVD parser (.sub): ``{25}{50}Hello|there``, with times as frame numbers."""

import re
from collections.abc import Sequence

from smolvideo.errors import SourceError
from smolvideo.subtitles.cues import Block
from smolvideo.subtitles.plain_text import plain_lines

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
