"""Video readers: a local file in, the frames that a player shows out. Decoding is sandboxed.

registry.py           which reader opens which file
subprocess_reader.py  the reader that callers hold; it forwards to a decoder subprocess
decoder_process.py    client side of the subprocess; decoder_worker.py is the code it runs
pyav.py               the default reader, over forward_decoder.py and gop.py
"""

import importlib.util
from pathlib import Path

from smolvideo.errors import ReaderError
from smolvideo.file_names import existing_path
from smolvideo.frames import MediaKind, VideoMetadata
from smolvideo.readers.base import NotAVideoError, Probe, VideoReader
from smolvideo.readers.decoder_process import prestart_process
from smolvideo.readers.registry import PACKAGES, PROBED_BY_PYAV, READERS, readers_for
from smolvideo.readers.subprocess_reader import SubprocessReader

__all__ = ["READERS", "NotAVideoError", "VideoReader", "open_video", "prestart_process"]


def open_video(path: Path | str, *, kind: MediaKind = "video", reader: str = "auto") -> VideoReader:
    """Open a local file, or a folder of frames, in a decoder subprocess.

    ``reader`` is one of ``READERS``, for videos, or ``auto``: PyAV first, then the others in turn;
    ``metadata.reader`` names the one that opened the file. A reader chosen by name has no fallback.

    Raises:
        ReaderError: the file cannot be read, or not by the chosen reader.
        UsageError: there is no reader of that name.
    """
    path = existing_path(Path(path))
    errors: list[ReaderError] = []
    for name in readers_for(path, kind, reader):
        try:
            _check_installed(name)
            if name not in PROBED_BY_PYAV or errors:
                return SubprocessReader(path, name)
            probe, known = _probe_with_pyav(path)
            opened = SubprocessReader(path, name, probe=probe)
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


def _probe_with_pyav(path: Path) -> tuple[Probe | None, VideoMetadata | None]:
    """Return PyAV's reference values and metadata of a file; (None, None) if PyAV cannot open
    it."""
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
