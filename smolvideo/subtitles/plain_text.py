"""Markup removal: tags, style overrides, entities and invisible characters of subtitle lines.

Subtitles are untrusted. Every regular expression here runs in linear time: none scans beyond the
next mark of the same kind.
"""

import html
import re
import unicodedata

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
