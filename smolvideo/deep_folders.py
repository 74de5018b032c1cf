"""Folders of any depth: Python's own functions for them call themselves once for each level."""

import os
from collections.abc import Iterator
from pathlib import Path


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, where they are missing. Raises OSError."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder.parent == folder:
            break
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """``os.walk`` from the top: a folder, and the names of its folders and its files.

    Names that the caller takes out of the second are not followed, nor are links to folders; a
    folder that cannot be read is left out.
    """
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as entries:
                listed = [(entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries]
        except OSError:
            continue
        links = {name for name, _, is_link in listed if is_link}
        folders = [name for name, is_folder, _ in listed if is_folder]
        yield current, folders, [name for name, is_folder, _ in listed if not is_folder]
        waiting.extend(current / name for name in reversed(folders) if name not in links)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
