"""Subtitle format detection by content; file suffixes are not trusted."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from smolvideo.subtitles.cues import Block
from smolvideo.subtitles.structured import json3_blocks, sami_blocks, ttml_blocks
from smolvideo.subtitles.timed import (
    has_timing_lines,
    is_microdvd,
    microdvd_blocks,
    rate_needed,
    stated_rate,
    subrip_blocks,
    substation_blocks,
    webvtt_blocks,
)

FORMATS = (
    "SubRip (.srt), WebVTT (.vtt), .ass, .ttml, SAMI (.smi), MicroDVD (.sub), MPL2, .sbv and .json3"
    " are read"
)

_SBV_TIMES = re.compile(
    r"^(\d{1,3}:\d\d:\d\d\.\d{3}),(\d{1,3}:\d\d:\d\d\.\d{3})[ \t]*$", re.MULTILINE
)
"""YouTube's captions (.sbv): SubRip without counters, and with a comma instead of the arrow."""
_MPL2_TIMES = re.compile(r"^[ \t]*\[(\d{1,9})\][ \t]*\[(\d{0,9})\]", re.MULTILINE)
_MPL2_RATE = 10.0
"""Units per second. MPL2 is MicroDVD with square brackets and times in tenths of a second."""
_XML = re.compile(r"<(?:\w{1,20}:)?(?:tt|timedtext|transcript)\b", re.IGNORECASE)
_MARKS = re.compile("[\x00\ufeff\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
"""Invisible characters that hide counters and times: zero bytes, byte order and directional marks
(Arabic and Hebrew editors put these at the start of every line)."""


@dataclass(frozen=True)
class Parsed:
    """Blocks in file order; ``left_out`` is the number of cues dropped for invalid times.

    ``assumed_rate`` is the frame rate used for the times if the file does not state it.
    """

    blocks: list[Block]
    left_out: int = 0
    assumed_rate: float | None = None


def parse_text(text: str, frame_rate: Callable[[], float | None]) -> Parsed:
    """Parse ``text`` in its detected format; no blocks if it is in no known format.

    ``frame_rate`` is called if times are frame numbers and the file states no rate.

    Raises:
        SourceError: the frame rate is required and unknown, or the text is refused.
    """
    text = _MARKS.sub("", text)
    text = text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    head = text[:4000].lstrip()
    if head.startswith("WEBVTT"):
        return Parsed(*webvtt_blocks(lines))
    if any(line.strip().lower() == "[events]" for line in lines if line[:1] in "[ \t"):
        found = Parsed(*substation_blocks(lines))
        if found.blocks or found.left_out:
            return found
    if head[:6].lower() == "<sami>" or "<sync start" in head.lower():
        return Parsed(*sami_blocks(text))
    if head.startswith("<") and _XML.search(head):
        return Parsed(*ttml_blocks(text))
    if head.startswith("{") and head[1:].lstrip().startswith('"'):
        return Parsed(*json3_blocks(text))
    timed = has_timing_lines(lines)
    if not timed and _SBV_TIMES.search(text):
        return Parsed(*subrip_blocks(_SBV_TIMES.sub(r"\1 --> \2", text).split("\n")))
    if not timed and _MPL2_TIMES.match(head):
        braced = _MPL2_TIMES.sub(r"{\1}{\2}", text).split("\n")
        return Parsed(*microdvd_blocks(braced, _MPL2_RATE))
    if not timed and is_microdvd(lines):
        stated = stated_rate(lines)
        rate = stated or frame_rate()
        if not rate:
            raise rate_needed()
        blocks, left_out = microdvd_blocks(lines, rate)
        return Parsed(blocks, left_out, None if stated else rate)
    return Parsed(*subrip_blocks(lines))
