"""Subtitle loading: cues of a file, whose format is detected from its content, or of a track."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.frames import SubtitleEvent
from smolvideo.sanitize import display_path
from smolvideo.subtitles.cues import Block, Cue, plain_lines, without_repeats
from smolvideo.subtitles.encodings import Decoded, decode_text
from smolvideo.subtitles.structured import json3_blocks, sami_blocks, ttml_blocks
from smolvideo.subtitles.timed import (
    has_timing_lines,
    is_microdvd,
    microdvd_blocks,
    rate_needed,
    stated_rate,
    subrip_blocks,
    subrip_lines,
    substation_blocks,
    substation_lines,
    webvtt_blocks,
)
from smolvideo.text_input import read_file_or_pipe

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


_MAX_FILE = 32 * 2**20
"""Maximum bytes of a file. The subtitles of a day of talk are below 10 MB."""

OnNotice = Callable[[str], None]
"""Callback for messages to the user."""


def _no_notice(_: str) -> None:
    pass


def _no_rate() -> None:
    return None


def read_subtitles(
    path: Path,
    *,
    frame_rate: Callable[[], float | None] = _no_rate,
    on_notice: OnNotice = _no_notice,
) -> list[Cue]:
    """Return the cues of a file by time, without invalid ones.

    Roll-up text (each cue repeats the last line of the one before) is returned once. ``frame_rate``
    is called if times are frame numbers and the file states no rate. ``on_notice`` is called with
    messages about a guessed encoding, and about characters and cues that could not be read.

    Raises:
        SourceError: the file cannot be read, or has no cues.
    """
    shown = display_path(path)
    try:
        content = read_file_or_pipe(path, _MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise SourceError(f"cannot read the subtitles {shown}: {reason}") from error
    if len(content) > _MAX_FILE:
        max_mib = _MAX_FILE // 2**20
        raise SourceError(f"{shown} is too large for subtitles: they may have {max_mib} MiB")
    decoded = decode_text(content)
    parsed = parse_text(decoded.text, frame_rate)
    cues = list(without_repeats(parsed.blocks))
    if not cues:
        raise SourceError(f"no subtitles in {shown}", hint=FORMATS)
    for notice in _notices(shown, decoded, parsed):
        on_notice(notice)
    return cues


def parse_subtitles(text: str, *, frame_rate: float | None = None) -> list[Cue]:
    """Parse subtitles in ``text``, as ``read_subtitles``; an empty list if there are none."""
    try:
        return list(without_repeats(parse_text(text, lambda: frame_rate).blocks))
    except SourceError:
        return []


def cues_of_track(texts: Iterable[SubtitleEvent], *, on_notice: OnNotice = _no_notice) -> list[Cue]:
    """Return the cues of an embedded text track, cleaned like those of a file.

    Bytes that are not UTF-8 arrive as lone surrogates (Python's ``surrogateescape``); they are
    decoded in the code page that is most likely for the whole track.
    """
    texts = list(texts)
    whole = "\n".join(text.text for text in texts)
    blocks: list[Block] = []
    if any("\udc80" <= character <= "\udcff" for character in whole):
        decoded = decode_text(whole.encode("utf-8", errors="surrogateescape"))
        contents = [_in_code_page(text.text, decoded) for text in texts]
        for notice in _notices("the text track", decoded, Parsed([])):
            on_notice(notice)
    else:
        # ISO-2022 is ASCII outside its escape sequences, and its state is reset in each packet.
        contents = [
            decode_text(text.text.encode()).text if "\x1b$" in text.text else text.text
            for text in texts
        ]
    for text, content in zip(texts, contents, strict=True):
        lines = content.replace("\r\n", "\n").replace("\r", "\n")
        if text.format in ("ass", "ssa"):
            # A Matroska packet is a Dialogue line without its times, in nine fields.
            shown = substation_lines(lines.split(",", 8)[-1])
        elif text.format in ("subrip", "srt"):
            shown = subrip_lines(lines)
        else:
            shown = plain_lines(lines)
        if shown and text.start_seconds < text.end_seconds:
            blocks.append((text.start_seconds, text.end_seconds, shown))
    return list(without_repeats(blocks))


def _in_code_page(text: str, track: Decoded) -> str:
    content = text.encode("utf-8", errors="surrogateescape")
    return content.decode(track.guess or "utf-8", errors="replace")


def _notices(shown: str, decoded: Decoded, parsed: Parsed) -> Iterable[str]:
    if decoded.guess == "utf-7":
        yield f"{shown} looks like UTF-7, and is read as such: that is a guess"
    elif decoded.guess is not None:
        yield f"{shown} is not UTF-8; that its encoding is {decoded.guess} is a guess"
    if decoded.bad:
        were = "character was" if decoded.bad == 1 else "characters were"
        yield f"{decoded.bad:,} {were} unreadable in {shown}, shown as \N{REPLACEMENT CHARACTER}"
    if parsed.left_out:
        are = "cue is" if parsed.left_out == 1 else "cues are"
        yield f"{parsed.left_out:,} {are} left out of {shown}: no valid times"
    if parsed.assumed_rate is not None:
        yield f"{shown} counts frames: read at the video's {parsed.assumed_rate:g} a second"
