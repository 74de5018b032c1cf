"""Lists of sources in a text file: what ``-a FILE`` reads."""

import sys
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.pipes import read_file_or_pipe
from smolvideo.safe_text import show_path
from smolvideo.source.local import path_error
from smolvideo.spelling import existing_path

_LARGEST_LIST = 16 * 2**20
"""Bytes. A longer "list" is a video named by mistake."""


def read_source_list(path: Path) -> list[str]:
    """One source a line; blank lines and lines that begin with ``#`` or ``;`` are left out.

    ``-`` is standard input. A path that does not exist as written, seen from the current folder,
    but does beside the list, is taken from beside the list.

    Raises:
        SourceError: the list cannot be read, is no text, or names nothing.
    """
    from_stdin = str(path) == "-"
    shown = "standard input" if from_stdin else show_path(path)
    try:
        content = sys.stdin.buffer.read() if from_stdin else _read_bytes(path)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{shown} is not a list of sources", hint="a list is UTF-8 text, one path or URL a line"
        ) from error
    except IsADirectoryError as error:
        raise SourceError(f"{shown} is a folder, not a list of sources") from error
    except (OSError, ValueError) as error:
        raise path_error(str(path), path, error) from error
    lines = (line.strip() for line in text.split("\n"))
    sources = [line for line in lines if line and not line.startswith(("#", ";"))]
    if not sources:
        raise SourceError(f"{shown} names no source", hint="one path or URL a line")
    return sources if from_stdin else [_beside_list(source, path) for source in sources]


def _read_bytes(path: Path) -> bytes:
    content = read_file_or_pipe(path, _LARGEST_LIST + 1)
    if len(content) > _LARGEST_LIST:
        raise SourceError(
            f"{show_path(path)} is too large for a list of sources",
            hint="a video is named without `-a`",
        )
    return content


def _beside_list(source: str, list_path: Path) -> str:
    try:
        beside = existing_path(list_path.parent / source)
        is_here = existing_path(Path(source)).exists()
        return str(beside) if not is_here and beside.exists() else source
    except (OSError, ValueError):  # not a path at all: shown as an error where it is resolved
        return source
