"""Sanitizing of untrusted text for display: terminal escapes, bidirectional marks, control codes.

File names, titles, URLs, error messages and model answers may contain escape sequences that repaint
the terminal, marks that reverse the reading direction, line breaks, and bytes that are not text.
Everything displayed passes through here; paths that are opened do not.

``escape_controls`` is lossless: it escapes such characters. ``display_name`` drops them and
shortens, for a name inside a line of other text.
"""

import re
import unicodedata
from pathlib import Path

# In code-point order: C0, DEL and C1, directional marks, line and paragraph separators, deprecated
# format characters, the byte order mark, annotations, surrogates. Not included are joiners and
# word-internal breaks, which scripts and emoji need.
_ACTING = (
    "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
)
_TAGS = "\U000e0001\U000e0020-\U000e007f"
"""Tag characters: an invisible copy of ASCII, usable to hide text. Flags of regions use them."""

_FLAG = "\U0001f3f4[\U000e0030-\U000e007a]{2,6}\U000e007f"
"""https://www.unicode.org/reports/tr51/#flag-emoji-tag-sequences"""

_ACTS = re.compile(f"({_FLAG})|[{_ACTING}{_TAGS}]")


def escape_controls(text: str, *, allowed: str = "") -> str:
    r"""Return ``text`` with every control or invisible character written as an escape.

    Control characters (C0, DEL, C1), directional marks, hidden tags and lone surrogates become
    ``\x1b`` or ``\u202e``. Characters in ``allowed`` are kept: ``"\n\t"`` for the paragraphs of an
    answer. Joiners inside emoji and scripts are kept as well.

    >>> escape_controls("a\x1b[31mb\n")
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
    r"""Return JSON text with the characters of ``escape_controls`` as JSON escapes.

    It parses to the same content, and is safe to print on a terminal.

    >>> visible_json('["a\u202eb"]')
    '["a\\u202eb"]'
    """

    def spelled(found: re.Match[str]) -> str:
        # A raw line break only occurs between JSON values; inside strings it is always escaped.
        if found[1] or found[0] == "\n":
            return found[0]
        units = found[0].encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))

    return _ACTS.sub(spelled, text)


_FORMULA = re.compile(r"[=+\-@\t\n\uff1d\uff0b\uff0d\uff20]")
_NUMBERS = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?(?: [+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)*")


def visible_cell(text: str) -> str:
    """Escape ``text`` for a CSV cell: safe in a terminal, and no formula in a spreadsheet.

    An apostrophe is put before what a spreadsheet would evaluate as a formula, as OWASP advises:
    https://owasp.org/www-community/attacks/CSV_Injection; numbers are not formulas. Line breaks are
    kept.

    >>> visible_cell("=HYPERLINK(1)"), visible_cell("-3.5")
    ("'=HYPERLINK(1)", '-3.5')
    """
    shown = escape_controls(text, allowed="\n\t")
    runs = _FORMULA.match(shown) and not _NUMBERS.fullmatch(shown)
    return f"'{shown}" if runs else shown


MAX_NAME_LENGTH = 120
"""Maximum characters of a displayed name; file systems allow 255 bytes, titles have no limit."""

# ECMA-48: control sequences (ESC [ … final byte), operating system commands (ESC ] … BEL or ST),
# and two-character escapes. Matched whole, as the printable rest ("[31m") would otherwise remain.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]"
)

_JOINERS = "\u200c\u200d"
"""Zero-width joiners, part of words (Persian, Hindi) and of emoji: the only format characters that
are kept."""


def display_name(text: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """Return ``text`` on one line, without terminal control sequences.

    Escape sequences, control and format characters are dropped, each run of whitespace becomes one
    blank, undecodable bytes become U+FFFD. If it exceeds ``max_length``, the middle is left out, so
    that a file suffix stays visible. Never empty: ``unnamed`` if nothing remains.
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
    """Return a path in backticks, for messages; backticks in it become apostrophes."""
    return f"`{display_name(str(path)).replace('`', chr(39))}`"
