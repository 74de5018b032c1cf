"""Plain words for quantities, and text from outside made safe to show.

File names, error messages and the answers of a model may hold anything, terminal escapes included.
Whatever is shown goes through ``visible`` first. Nothing here imports rich.
"""

import unicodedata

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


def format_clock(seconds: float, *, tenths: bool = False) -> str:
    """A moment as a player writes it: ``0:03``, ``12:05``, ``1:02:03``; with tenths ``0:03.4``.

    Rounded down, like the clock of a player.
    """
    whole_tenths = int(max(seconds, 0.0) * 10 + 1e-6)
    whole, tenth = divmod(whole_tenths, 10)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
    return f"{clock}.{tenth}" if tenths else clock


def format_seconds(seconds: float) -> str:
    """How long something took: ``0.04 s``, ``1.3 s``, ``48 s``, ``2 min 05 s``."""
    if seconds < 0.1:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_bytes(count: float) -> str:
    """Decimal units, as download pages and disks use them: ``812 B``, ``4.2 MB``, ``1.9 GB``."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def format_count(count: int, one: str, many: str | None = None) -> str:
    """``1 frame``, ``8 frames``."""
    return f"{count} {one if count == 1 else many or one + 's'}"
