"""Folder creation and traversal without recursion, for depths beyond Python's recursion limit."""

import os
from collections.abc import Iterator
from pathlib import Path


def make_folders(folder: Path) -> None:
    """Create a folder and its missing parents. Raises OSError."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder.parent == folder:
            break
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk like ``os.walk`` from the top: yield a folder, its subfolder names and its file names.

    Subfolders that the caller removes from the second item are not visited, nor are links to
    folders; folders that cannot be read are skipped.
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
