"""Text from outside made safe to show.

File names, titles, addresses, error messages and the answers of a model may hold anything: escape
sequences that repaint the terminal, marks that turn the reading direction, line breaks, bytes that
are no text at all. What is shown goes through here; what is opened never does.

``visible`` loses nothing: what would act is spelled out. ``clean_name`` makes a short name of it,
for a line that holds other words too.
"""

import re
import unicodedata
from pathlib import Path

_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""Invisible marks that reorder the text around them: a name could read as another one."""

_BREAKS = frozenset("\u2028\u2029")


def visible(text: str, *, keep: str = "") -> str:
    r"""``text`` with every character that would act instead of being seen written as an escape.

    Control characters (C0, DEL, C1), marks that change the direction of writing, and halves of
    surrogate pairs become ``\x1b`` or ``\u202e``. Characters of ``keep`` stay: ``"\n\t"`` for the
    paragraphs of an answer. Joiners inside emoji and scripts stay as they are.

    >>> visible("a\x1b[31mb\n")
    'a\\x1b[31mb\\x0a'
    """
    return "".join(char if _harmless(char) or char in keep else _escaped(char) for char in text)


def _harmless(char: str) -> bool:
    if char in _BIDI_CONTROLS or char in _BREAKS:
        return False
    return unicodedata.category(char) not in ("Cc", "Cs")


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


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
    shown = " ".join("".join(_on_one_line(character) for character in text).split())
    if len(shown) > longest:
        tail = longest // 3
        shown = f"{shown[: longest - tail - 1]}…{shown[-tail:]}"
    return shown or "unnamed"


def _on_one_line(character: str) -> str:
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
