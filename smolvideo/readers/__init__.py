"""Readers: a local file in, frames as a player shows them out.

opening.py   which reader reads what
guarded.py   the reader that the program holds; the others work for it in a process of their own
process.py   that process, seen from the program; worker.py, seen from inside
pyav.py      the default reader; cursor.py, segments.py and lanes.py find its frames
"""

import importlib.util
from pathlib import Path

from smolvideo.errors import ReaderError
from smolvideo.frames import MediaKind, VideoMetadata
from smolvideo.readers.base import NotAVideoError, VideoReader
from smolvideo.readers.decoder_process import prestart_process
from smolvideo.readers.probe import Probe
from smolvideo.readers.registry import PACKAGES, PROBED_BY_PYAV, READERS, readers_for
from smolvideo.readers.subprocess_reader import SubprocessReader
from smolvideo.unicode_names import existing_path

__all__ = ["READERS", "VideoReader", "open_video", "prestart_process"]


def open_video(path: Path | str, *, kind: MediaKind = "video", reader: str = "auto") -> VideoReader:
    """Open a local file, or a folder of frames, for reading in a process of its own.

    ``reader`` chooses among ``READERS`` for videos. ``auto`` is PyAV, which reads most; where it
    cannot, the next is tried, and ``metadata.reader`` says which one it was. A reader asked for by
    name is the one that reads, or an error.

    Raises:
        ReaderError: it cannot be read, or not by the reader asked for.
        UsageError: there is no reader of that name.
    """
    path = existing_path(Path(path))
    errors: list[ReaderError] = []
    for name in readers_for(path, kind, reader):
        try:
            _check_installed(name)
            if name not in PROBED_BY_PYAV or errors:
                return SubprocessReader(path, name)
            witness, known = _witness_of(path)
            opened = SubprocessReader(path, name, witness=witness)
            if known is not None:
                opened.metadata = opened.metadata.with_notices_of(known)
            return opened
        except NotAVideoError:
            if errors:
                break
            raise
        except ReaderError as error:
            errors.append(error)
    raise errors[0]


def _witness_of(path: Path) -> tuple[Probe | None, VideoMetadata | None]:
    """What PyAV says of a file; nothing where it cannot open it."""
    try:
        with SubprocessReader(path, "pyav") as reader:
            return reader.probe(), reader.metadata
    except NotAVideoError:
        raise
    except ReaderError:
        return None, None


def _check_installed(reader: str) -> None:
    package = PACKAGES.get(reader)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ReaderError(
            f"the reader `{reader}` is not installed", hint="pip install 'smolvideo[readers]'"
        )
