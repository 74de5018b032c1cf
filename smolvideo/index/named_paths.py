"""Which paths of an index are meant by sources: files, folders, patterns and addresses.

A pattern is compared with the paths themselves, as files of the index may be gone.
"""

import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from smolvideo.credentials import without_credentials
from smolvideo.file_names import existing_path, normal_form
from smolvideo.source import ListedPath, Named, is_url
from smolvideo.source.local import is_pattern, path_of_file_url
from smolvideo.source.urls import scheme_of

PathMatcher = Callable[[str], bool]


def path_matcher(sources: Sequence[Named | Path]) -> PathMatcher:
    """Return whether a path of the index is one of ``sources``, or in one of them."""
    exact, folders, patterns = set[str](), list[str](), list[tuple[str, ...]]()
    for source in sources:
        if _is_address(source):
            exact.add(without_credentials(str(source).strip()))
            continue
        path = _absolute(source)
        if is_pattern(path) and not os.path.lexists(path):
            patterns.append(Path(normal_form(path)).parts)
        else:
            exact.add(path)
            folders.append(path.rstrip(os.sep) + os.sep)
    inside = tuple(folders)

    def matches(path: str) -> bool:
        if path in exact or path.startswith(inside):
            return True
        parts = Path(normal_form(path)).parts if patterns else ()
        return any(_fits(parts, pattern) for pattern in patterns)

    return matches


def folders_among(sources: Sequence[Named | Path]) -> list[Path]:
    """Return the sources that are, or were, files and folders: no addresses, no patterns."""
    paths = [_absolute(source) for source in sources if not _is_address(source)]
    return [Path(path) for path in paths if os.path.lexists(path) or not is_pattern(path)]


def _is_address(source: Named | Path) -> bool:
    return not isinstance(source, Path) and is_url(str(source))


def _absolute(source: Named | Path) -> str:
    if isinstance(source, ListedPath):
        named = source.path
    elif not isinstance(source, Path) and scheme_of(source) == "file":
        named = path_of_file_url(source)
    else:
        named = Path(source).expanduser()
    return os.path.abspath(existing_path(named))


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path, or a folder that it is in, matches a pattern, part by part; ``**`` is any
    number of folders, and hidden names need a pattern with the dot."""
    if not pattern:
        return True
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        if _fits(parts, rest):
            return True
        return bool(parts) and not parts[0].startswith(".") and _fits(parts[1:], pattern)
    if not parts or parts[0].startswith(".") > first.startswith("."):
        return False
    return (parts[0] == first or fnmatchcase(parts[0], first)) and _fits(parts[1:], rest)
