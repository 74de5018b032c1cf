"""Text from outside made safe to show.

File names, titles, addresses, error messages and the answers of a model may hold anything: escape
sequences that repaint the terminal, marks that turn the reading direction, line breaks, bytes that
are no text at all. What is shown goes through here; what is opened never does.

``escape_controls`` loses nothing: what would act is spelled out. ``display_name`` makes a short
name of it, for a line that holds other words too.
"""

import re
import unicodedata
from pathlib import Path

# In the order of their numbers: C0, DEL and C1, marks that change the direction of writing, line
# and paragraph separators, deprecated format characters, the byte order mark, annotations, halves
# of surrogate pairs. Joiners and breaks inside words, which scripts and emoji need, are not here.
_ACTING = (
    "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
)
_TAGS = "\U000e0001\U000e0020-\U000e007f"
"""A copy of ASCII that no font draws: text hides in it. Flags of regions are written with it."""

_FLAG = "\U0001f3f4[\U000e0030-\U000e007a]{2,6}\U000e007f"
"""https://www.unicode.org/reports/tr51/#flag-emoji-tag-sequences"""

_ACTS = re.compile(f"({_FLAG})|[{_ACTING}{_TAGS}]")


def escape_controls(text: str, *, allowed: str = "") -> str:
    r"""``text`` with every character that would act instead of being seen written as an escape.

    Control characters (C0, DEL, C1), marks that change the direction of writing, hidden tags, and
    halves of surrogate pairs become ``\x1b`` or ``\u202e``. Characters of ``allowed`` stay:
    ``"\n\t"`` for the paragraphs of an answer. Joiners inside emoji and scripts stay as they are.

    >>> visible("a\x1b[31mb\n")
    'a\\x1b[31mb\\x0a'
    """

    def spelled(found: re.Match[str]) -> str:
        return found[0] if found[1] or found[0] in allowed else _escaped(found[0])

    return _ACTS.sub(spelled, text)


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible_json(text: str) -> str:
    r"""JSON with the characters that ``escape_controls`` spells out as JSON's own escapes.

    It reads as the same content, and a terminal shows it without obeying it.

    >>> visible_json('["a\u202eb"]')
    '["a\\u202eb"]'
    """

    def spelled(found: re.Match[str]) -> str:
        # Between values JSON has line breaks; inside strings it has none that is not escaped.
        if found[1] or found[0] == "\n":
            return found[0]
        units = found[0].encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

    return _ACTS.sub(spelled, text)


_FORMULA = re.compile(r"[=+\-@\t\n\uff1d\uff0b\uff0d\uff20]")
_NUMBERS = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?(?: [+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)*")


def visible_cell(text: str) -> str:
    """``text`` for a cell of csv: nothing acts in a terminal, and nothing runs in a spreadsheet.

    Behind an apostrophe stands what a spreadsheet would take for a formula, as OWASP advises:
    https://owasp.org/www-community/attacks/CSV_Injection; numbers are none. Line breaks stay.

    >>> visible_cell("=HYPERLINK(1)"), visible_cell("-3.5")
    ("'=HYPERLINK(1)", '-3.5')
    """
    shown = escape_controls(text, allowed="\n\t")
    runs = _FORMULA.match(shown) and not _NUMBERS.fullmatch(shown)
    return f"'{shown}" if runs else shown


MAX_NAME_LENGTH = 120
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


def display_name(text: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """``text`` on one line, without anything that a terminal would obey.

    Escape sequences, control and format characters are dropped, every run of blanks is one blank,
    bytes that were no text become U+FFFD, and the middle of what is longer than ``max_length`` is
    left out, so that the ending of a file name stays visible. Never empty: nothing left is
    ``unnamed``.
    """
    text = _ESCAPE_SEQUENCE.sub("", text)
    shown = " ".join("".join(_on_one_line(character) for character in text).split())
    if len(shown) > max_length:
        tail = max_length // 3
        shown = f"{shown[: max_length - tail - 1]}…{shown[-tail:]}"
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


def display_path(path: Path | str) -> str:
    """A path in backticks, for messages; backticks of its own become apostrophes."""
    return f"`{display_name(str(path)).replace('`', chr(39))}`"
