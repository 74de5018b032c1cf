"""Names and addresses made fit to be shown.

File names, titles and addresses come from outside. They may hold escape sequences that repaint the
terminal, characters that turn the reading direction, line breaks, or bytes that are no text at all.
What is shown goes through here; what is opened never does.
"""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

LONGEST_NAME = 120
"""Characters of a name that are shown; a file system allows 255 bytes, a title has no limit."""

# ECMA-48: control sequences (ESC [ … final byte), operating system commands (ESC ] … BEL or ST),
# and the two-character escapes. They go as a whole, or their visible rest ("[31m") would stay.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
)

_JOINERS = "\u200c\u200d"
"""Invisible, but part of words (Persian, Hindi) and of emoji: the only format characters that
stay.
"""


def clean_name(text: str, longest: int = LONGEST_NAME) -> str:
    """``text`` on one line, without anything that a terminal would obey.

    Escape sequences, control and format characters are dropped, every run of blanks is one blank,
    bytes that were no text become U+FFFD, and the middle of what is longer than ``longest`` is left
    out, so that the ending of a file name stays visible. Never empty: nothing left is ``unnamed``.
    """
    text = _ESCAPE_SEQUENCE.sub("", text)
    shown = " ".join("".join(_visible(character) for character in text).split())
    if len(shown) > longest:
        tail = longest // 3
        shown = f"{shown[: longest - tail - 1]}…{shown[-tail:]}"
    return shown or "unnamed"


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if character.isspace() or category in ("Zl", "Zp"):
        return " "
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"
    if category == "Cc" or (category == "Cf" and character not in _JOINERS):
        return ""
    return character


def show_path(path: Path | str) -> str:
    """A path in backticks, for messages; backticks of its own become apostrophes."""
    return f"`{clean_name(str(path)).replace('`', chr(39))}`"


def show_url(url: str) -> str:
    """An address in backticks, for messages, without the user name and password it may carry."""
    return show_path(without_login(url))


def without_login(url: str) -> str:
    """``https://name:secret@host/x`` → ``https://host/x``."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def similar_name(wanted: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: equal but for case or Unicode form, else the most alike."""
    by_plain_form = {_plain_form(name): name for name in sorted(names, reverse=True)}
    matches = get_close_matches(_plain_form(wanted), by_plain_form, n=1, cutoff=0.7)
    return by_plain_form[matches[0]] if matches else None


def _plain_form(name: str) -> str:
    # macOS stores decomposed letters, keyboards type composed ones: they look the same.
    return unicodedata.normalize("NFKC", name).casefold()
