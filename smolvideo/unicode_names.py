"""Unicode-insensitive file lookup: finds names whose accents are stored as NFC or NFD.

macOS stores ``é`` as two characters (NFD), keyboards and most datasets write one (NFC); Linux and
Windows take both for different names. Unicode: https://unicode.org/reports/tr15/
"""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path


def normal_form(name: str) -> str:
    """Return ``name`` in NFC, which is equal for NFC and NFD spellings of a name."""
    return unicodedata.normalize("NFC", name)


def same_name(wanted: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` equal to ``wanted``: exactly, else up to normalization.

    None if there is none, or if several match and none exactly.

    >>> same_name("café.mp4", ["cafe.mp4", "cafe\\u0301.mp4"]) == "cafe\\u0301.mp4"
    True
    """
    form = normal_form(wanted)
    alike = {name for name in names if normal_form(name) == form}
    if wanted in alike:
        return wanted
    return alike.pop() if len(alike) == 1 else None


def existing_path(path: Path) -> Path:
    """Return ``path`` with every existing part spelled as in the file system.

    At each part an exact match comes first, then the result of ``same_name`` in that folder.
    """
    if os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for index, part in enumerate(path.parts):
        if part == path.anchor or os.path.lexists(found / part):
            found /= part
            continue
        try:
            name = same_name(part, os.listdir(found))
        except (OSError, ValueError):  # not a folder, or no permission to list it
            name = None
        if name is None:
            return found.joinpath(*path.parts[index:])
        found /= name
    return found
