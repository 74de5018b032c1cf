"""Names with accents, which systems spell in two ways: one rule for finding them.

macOS stores ``é`` as two characters (NFD), keyboards and most datasets write one (NFC); Linux and
Windows take both for different names. Unicode: https://unicode.org/reports/tr15/
"""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path


def normal_form(name: str) -> str:
    """``name`` in NFC: equal for names that only differ in how accents are stored."""
    return unicodedata.normalize("NFC", name)


def same_name(wanted: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that is ``wanted``: exactly, else in another spelling of its accents.

    None where there is none, or where several are spelled otherwise and none is exact.

    >>> same_name("café.mp4", ["cafe.mp4", "cafe\\u0301.mp4"]) == "cafe\\u0301.mp4"
    True
    """
    form = normal_form(wanted)
    alike = {name for name in names if normal_form(name) == form}
    if wanted in alike:
        return wanted
    return alike.pop() if len(alike) == 1 else None


def existing_path(path: Path) -> Path:
    """``path`` with every part spelled as the file system spells it, as far as it exists.

    At each part what is there exactly comes first, then what ``same_name`` finds in that folder.
    """
    if os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for place, part in enumerate(path.parts):
        if part == path.anchor or os.path.lexists(found / part):
            found /= part
            continue
        try:
            name = same_name(part, os.listdir(found))
        except (OSError, ValueError):  # not a folder, or one that may not be listed
            name = None
        if name is None:
            return found.joinpath(*path.parts[place:])
        found /= name
    return found
