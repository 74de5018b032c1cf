"""Parsers for XML, JSON and SAMI subtitles: TTML (.ttml, .dfxp), YouTube's .srv1 to .srv3 and
.json3, and SAMI (.smi), which resembles HTML.

TTML: https://www.w3.org/TR/ttml1/ · SAMI: https://learn.microsoft.com/previous-versions/ms971327
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from xml.parsers import expat

from smolvideo.errors import SourceError
from smolvideo.json_types import parse_json
from smolvideo.subtitles.cues import Block, plain_lines

_LATEST = 10.0**7
"""Seconds from which on a time is invalid."""
_DEEPEST = 100
"""Maximum nesting of elements; subtitles have six levels."""
_UNKNOWN_LENGTH = 3.0
"""Duration in seconds of a cue that states none."""

_OFFSET = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(h|m|s|ms|f|t)?")
_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,3}):(\d{1,3}(?:\.\d{1,12})?)(?::(\d{1,4}(?:\.\d+)?))?")
_UNSEEN = {"head", "metadata", "title", "desc", "style", "layout"}
_INVALID_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def ttml_blocks(text: str) -> tuple[list[Block], int]:
    """Return the cues of TTML or of YouTube's XML, and the number dropped for invalid times.

    A truncated or malformed file yields the cues before the error.

    Raises:
        SourceError: the file declares XML entities (an expansion attack; no subtitles need them).
    """
    reader = _TimedElements()
    parser = expat.ParserCreate(encoding="utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.EntityDeclHandler = _refuse_entities
    with suppress(expat.ExpatError):  # nothing after an error can be trusted
        # The text was decoded and is encoded as UTF-8 here, whatever its XML declaration says.
        parser.Parse(_INVALID_IN_XML.sub("", text.lstrip("\ufeff \t\n")).encode(), True)
    return reader.blocks, reader.left_out


def _refuse_entities(*_: object) -> None:
    raise SourceError(
        "the subtitles declare XML entities, and are not read", hint="write them out in the text"
    )


@dataclass
class _Element:
    """An open element; ``start`` in seconds is the origin of the times inside it."""

    name: str
    start: float
    end: float | None
    is_timed: bool
    texts: list[str] = field(default_factory=list)


@dataclass
class _TimedElements:
    """expat handlers that collect the text of the innermost element with times."""

    blocks: list[Block] = field(default_factory=list)
    left_out: int = 0
    frame_rate: float = 30.0
    tick_rate: float = 1.0
    _open: list[_Element] = field(default_factory=list)
    _unseen: int = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = _local(tag)
        given = {_local(key): value.strip()[:100] for key, value in attributes.items()}
        if name in _UNSEEN or self._unseen or len(self._open) >= _DEEPEST:
            self._unseen += 1
            return
        if name == "tt":
            self._read_rates(given)
        if name == "br" and self._open:
            self._open[-1].texts.append("\n")
        outer = self._open[-1].start if self._open else 0.0
        self._open.append(self._timed(name, given, outer))

    def end(self, _: str) -> None:
        if self._unseen:
            self._unseen -= 1
            return
        element = self._open.pop()
        text = "".join(element.texts)
        if not element.is_timed:
            if self._open:
                self._open[-1].texts.append(text + "\n" * (element.name in ("p", "div")))
            return
        lines = plain_lines(text)
        if not lines:
            return
        if element.end is None or not 0 <= element.start < element.end < _LATEST:
            self.left_out += 1
        else:
            self.blocks.append((round(element.start, 6), round(element.end, 6), lines))

    def text(self, content: str) -> None:
        if self._open and not self._unseen:
            # Line breaks of the file are blanks; breaks on screen are <br> elements.
            self._open[-1].texts.append(content.replace("\n", " "))

    def _read_rates(self, given: Mapping[str, str]) -> None:
        self.frame_rate = _number(given.get("framerate", "")) or self.frame_rate
        over, _, under = given.get("frameratemultiplier", "").partition(" ")
        if _number(over) and _number(under):
            self.frame_rate *= _number(over) / _number(under)
        self.tick_rate = _number(given.get("tickrate", "")) or self.tick_rate

    def _timed(self, name: str, given: Mapping[str, str], outer: float) -> _Element:
        """Return the element with its times; YouTube's ``t`` and ``d`` are milliseconds."""
        if name in ("p", "text") and "t" in given:
            start = _number(given["t"]) / 1000
            length = _number(given["d"]) / 1000 if "d" in given else _UNKNOWN_LENGTH
            return _Element(name, start, start + length, True)
        begin = self._seconds(given.get("begin", given.get("start", "")))
        length_given = self._seconds(given.get("dur", ""))
        end = self._seconds(given.get("end", ""))
        start = outer + (begin or 0.0)
        if end is not None:
            end += outer
        elif length_given is not None:
            end = start + length_given
        # Times of a body or division are only the origin of the times inside it.
        is_cue = name not in ("tt", "body", "div") and not (begin is None and end is None)
        return _Element(name, start, end, is_cue)

    def _seconds(self, text: str) -> float | None:
        if clock := _CLOCK.fullmatch(text):
            hours, minutes, seconds, frames = clock.groups()
            whole = int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
            return whole + float(frames or 0) / self.frame_rate
        if offset := _OFFSET.fullmatch(text):
            units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, None: 1.0}
            units |= {"f": 1 / self.frame_rate, "t": 1 / self.tick_rate}
            return float(offset[1]) * units[offset[2]]
        return None


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()


def _number(text: str) -> float:
    """Parse a positive number; 0 for anything else."""
    return float(text) if re.fullmatch(r"\d{1,12}(?:\.\d{1,12})?", text) else 0.0


def json3_blocks(text: str) -> tuple[list[Block], int]:
    """Return the cues of YouTube's .json3, and the number dropped for invalid times."""
    try:
        events = parse_json(text)["events"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return [], 0
    blocks, left_out = [], 0
    for event in events if isinstance(events, list) else ():
        segments = event.get("segs") if isinstance(event, dict) else None
        if not isinstance(segments, list):
            continue
        pieces = [piece.get("utf8") for piece in segments if isinstance(piece, dict)]
        lines = plain_lines("".join(piece for piece in pieces if isinstance(piece, str)))
        if not lines:
            continue
        start, length = event.get("tStartMs", 0), event.get("dDurationMs", 3000)
        if _is_time(start) and _is_time(length) and length > 0:
            blocks.append((start / 1000, (start + length) / 1000, lines))
        else:
            left_out += 1
    return blocks, left_out


def _is_time(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < _LATEST * 1000  # type: ignore[operator]


_SAMI_TAG = re.compile(r"<([^<>]*)>")
_START = re.compile(r"\bstart\s{0,9}=\s{0,9}[\"']?(\d{1,12})", re.IGNORECASE)
_CLASS = re.compile(r"\bclass\s{0,9}=\s{0,9}[\"']?([\w-]{1,64})", re.IGNORECASE)
_LANGUAGE = re.compile(r"\.([\w-]{1,64})\s{0,9}\{[^{}]{0,2000}\blang\s{0,9}:\s{0,9}([A-Za-z]{2,3})")


def sami_blocks(text: str) -> tuple[list[Block], int]:
    """Return the cues of one language of a SAMI file: English if it has it, else the first.

    A cue ends at the next one of its language, which may be empty.
    """
    texts = list(_sami_texts(text))
    languages = list(dict.fromkeys(language for _, language, content in texts if content))
    english = {name.lower() for name, code in _LANGUAGE.findall(text) if code.lower() == "en"}
    chosen = next(
        (name for name in languages if name in english or name.startswith("en")),
        languages[0] if languages else "",
    )
    # A text without a class is part of every language.
    in_language = sorted((one for one in texts if one[1] in (chosen, "")), key=lambda one: one[0])
    edges = [start for start, _, _ in in_language[1:]]
    if in_language:
        edges.append(in_language[-1][0] + _UNKNOWN_LENGTH)
    blocks: list[Block] = [
        (start, end, lines)
        for (start, _, lines), end in zip(in_language, edges, strict=True)
        if lines and start < end
    ]
    return blocks, 0


def _sami_texts(text: str) -> Iterator[tuple[float, str, list[str]]]:
    """Yield start in seconds, class in lower case, lines; no lines where the screen is cleared."""
    start: float | None = None
    language, pieces, at = "", [], 0
    for tag in _SAMI_TAG.finditer(text):
        pieces.append(text[at : tag.start()].replace("\n", " "))
        at = tag.end()
        inner = tag[1][:300]
        name = inner.strip().split(" ", 1)[0].lower()
        ends = name in ("sync", "/sync", "/body", "p")
        if ends:
            lines = plain_lines("".join(pieces))
            # Only a <P> holds text; what is between <SYNC> and <P> is not.
            if start is not None and (lines or name != "p" or language):
                yield start, language, lines
            pieces = []
        if name == "sync":
            found = _START.search(inner)
            start, language = (int(found[1]) / 1000 if found else None), ""
        elif name == "p":
            found = _CLASS.search(inner)
            language = found[1].lower() if found else ""
        elif name.startswith("br"):
            pieces.append("\n")
    if start is not None and (lines := plain_lines("".join([*pieces, text[at:]]))):
        yield start, language, lines
