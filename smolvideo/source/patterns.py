"""Glob patterns such as ``holidays/**/*.mp4``, with the semantics of shells.

Unlike ``glob``, a part that exists literally is never a pattern (``films [2024]/*.mp4``), and
accents match in NFC and NFD.
"""

import glob
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from smolvideo.unicode_names import normal_form, same_name


def is_pattern(text: str) -> bool:
    """Return whether ``text`` contains one of ``*``, ``?`` and ``[``."""
    return glob.has_magic(text)


def matching_paths(pattern: str) -> list[Path]:
    """Return the existing paths that match a pattern, unordered, without duplicates.

    ``**`` matches any number of folders, without following links. Hidden names match only if the
    pattern has the dot. Folders without read permission match nothing.
    """
    path = Path(pattern)
    found = [Path(path.anchor)]
    parts = [part for part in path.parts if part != path.anchor]
    for place, part in enumerate(parts):
        is_last = place == len(parts) - 1
        found = [one for folder in found for one in _step(folder, part)]
        if not is_last:
            found = [one for one in found if one.is_dir()]
        elif part == "**":
            found = [*found, *(one for folder in found for one in _files(folder))]
    return list(dict.fromkeys(found))


def _step(folder: Path, part: str) -> list[Path]:
    """Return the paths in a folder that match one part of a pattern."""
    if part == "**":
        return [folder, *_subfolders(folder)]
    if os.path.lexists(folder / part):
        return [folder / part]
    names = _names(folder)
    name = same_name(part, names)
    if name is not None:
        return [folder / name]
    if not is_pattern(part):
        return []
    pattern = normal_form(part)
    return [folder / name for name in names if _matches(normal_form(name), pattern)]


def _matches(name: str, pattern: str) -> bool:
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return fnmatchcase(os.path.normcase(name), os.path.normcase(pattern))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):
        return []


def _subfolders(folder: Path) -> Iterator[Path]:
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        for name in _names(parent):
            path = parent / name
            if not name.startswith(".") and path.is_dir() and not path.is_symlink():
                waiting.append(path)
                yield path


def _files(folder: Path) -> list[Path]:
    names = (name for name in _names(folder) if not name.startswith("."))
    return [folder / name for name in names if (folder / name).is_file()]
