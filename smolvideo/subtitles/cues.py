"""Cues: a line of text without markup, with its display interval; rolling repeats removed.

Subtitles are untrusted. Every regular expression here runs in linear time: none scans beyond the
next mark of the same kind.
"""

import html
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from smolvideo.formatting import format_timestamp

_TAG = re.compile(r"<([^<>]*)>")
_VOICE = re.compile(r"v(?:\.\S*)?\s+(\S.*)", re.IGNORECASE | re.DOTALL)
_TIME_TAG = re.compile(r"(?:\d+:)?\d+:\d+\.\d+")
_STYLE = re.compile(
    r"\{(?:\\[^{}]*"  # SubStation overrides, also found in SubRip: {\an8}, {\i1}
    r"|[A-Za-z]{1,2}:[^{}]*)\}"  # MicroDVD codes: {y:i}, {C:$0000ff}
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_BREAK_TAGS = {"br", "br/", "/p", "p"}
_SHOWN_AS = {"rt": " (", "/rt": ")"}
"""Ruby annotations, displayed above a word, are put in parentheses after it."""

_JOINERS = "\u200c\u200d"
"""Zero-width joiners: part of words (Persian, Hindi) and of emoji."""


def plain_lines(text: str) -> list[str]:
    """Return the non-empty lines of ``text`` as displayed on screen.

    Removes tags of WebVTT, SubRip, SubStation and MicroDVD; ``<v Mary>`` becomes ``Mary: ``, and
    ``<br>`` a line break.
    """
    text = _STYLE.sub("", _TAG.sub(_shown_tag, text)) if "<" in text or "{" in text else text
    return [line for raw in text.split("\n") if (line := _visible(raw))]


def _shown_tag(tag: re.Match[str]) -> str:
    inner = tag[1].strip()
    name = inner[:4].lower().split(" ", 1)[0]
    if name in _BREAK_TAGS or name == "br":
        return "\n"
    if name in _SHOWN_AS:
        return _SHOWN_AS[name]
    if voice := _VOICE.fullmatch(inner):
        return f"{' '.join(voice[1].split())}: "
    is_markup = tag[1].lstrip("/")[:1].isalpha() or _TIME_TAG.fullmatch(inner)
    return "" if is_markup else tag[0]


def _visible(line: str) -> str:
    """Resolve entities, collapse blanks, and remove control and format characters."""
    if "&" in line:
        line = _ENTITY.sub(lambda entity: html.unescape(entity[0]), line)
    if not (line.isascii() and line.isprintable()):
        line = "".join(map(_shown_character, line))
    return " ".join(line.split())


def _shown_character(character: str) -> str:
    if character.isspace():
        return " "
    if character in _JOINERS:
        return character
    return "" if unicodedata.category(character) in ("Cc", "Cf", "Cs") else character


_TOUCHING = 0.1
"""Maximum gap in seconds between two texts that replace each other on screen."""


@dataclass(frozen=True)
class Cue:
    """One line of text (no line breaks, no markup), and when it is shown, in seconds."""

    start_seconds: float
    end_seconds: float
    text: str


Block = tuple[float, float, list[str]]
"""Start and end in seconds, and the cleaned lines of a cue."""


def without_repeats(blocks: Iterable[Block]) -> Iterator[Cue]:
    """Yield cues by time, without the lines that the cue before still shows.

    Roll-up captions repeat the last lines of the previous text above each new one.
    """
    previous: Cue | None = None
    shown: list[str] = []
    for start, end, lines in sorted(blocks, key=lambda block: block[:2]):
        touches = previous is not None and start <= previous.end_seconds + _TOUCHING
        new_lines = lines[_rolled(shown, lines) :] if touches else lines
        if previous is not None and not new_lines:
            previous = replace(previous, end_seconds=max(end, previous.end_seconds))
            shown = lines
            continue
        if previous is not None:
            yield previous
        previous, shown = Cue(start, end, " ".join(new_lines)), lines
    if previous is not None:
        yield previous


def _rolled(shown: Sequence[str], lines: Sequence[str]) -> int:
    """Return how many of the first ``lines`` repeat the last of the lines ``shown`` before."""
    for count in range(min(len(shown), len(lines)), 0, -1):
        if list(shown[-count:]) == list(lines[:count]):
            return count
    return 0


def cues_near(
    cues: Sequence[Cue], pts_seconds: Sequence[float], *, within_seconds: float = 1.0
) -> list[Cue]:
    """Return the cues on screen at one of the times, or at most ``within_seconds`` before or after.

    In the order of ``cues``, each once; ``pts_seconds`` may be in any order.
    """
    times = sorted(pts_seconds)

    def is_near(cue: Cue) -> bool:
        first = bisect_left(times, cue.start_seconds - within_seconds)
        return first < len(times) and times[first] <= cue.end_seconds + within_seconds

    return [cue for cue in cues if is_near(cue)]


def cues_within(cues: Sequence[Cue], most_characters: int) -> list[Cue]:
    """Subsample the cues evenly until their formatted text fits into ``most_characters``."""
    chosen = list(cues)
    while chosen and len(format_cues(chosen)) > most_characters:
        share = most_characters / len(format_cues(chosen))
        count = min(len(chosen) - 1, max(1, int(share * len(chosen))) if len(chosen) > 1 else 0)
        chosen = [chosen[int(index * len(chosen) / count)] for index in range(count)]
    return chosen


def format_cues(cues: Iterable[Cue]) -> str:
    """Format one cue per line, with its start time: ``01:15 Where is the red ball?``."""
    return "\n".join(f"{format_timestamp(cue.start_seconds)} {cue.text}" for cue in cues)
