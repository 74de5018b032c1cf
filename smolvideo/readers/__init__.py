"""Readers: a local file in, frames as a player shows them out."""

from collections.abc import Callable
from pathlib import Path

from smolvideo.errors import ReaderError, UsageError
from smolvideo.frames import MediaKind
from smolvideo.readers.base import VideoReader

__all__ = ["READERS", "VideoReader", "open_video"]


def _open_with_pyav(path: Path) -> VideoReader:
    from smolvideo.readers.pyav import PyavReader

    return PyavReader(path)


def _open_with_opencv(path: Path) -> VideoReader:
    from smolvideo.readers.opencv import OpencvReader

    return OpencvReader(path)


def _open_with_decord(path: Path) -> VideoReader:
    from smolvideo.readers.decord import DecordReader

    return DecordReader(path)


def _open_pictures(path: Path) -> VideoReader:
    from smolvideo.readers.pictures import PicturesReader

    return PicturesReader(path)


READERS: dict[str, Callable[[Path], VideoReader]] = {
    "pyav": _open_with_pyav,
    "opencv": _open_with_opencv,
    "decord": _open_with_decord,
}
"""The readers of video files by name. Pictures and folders of frames have one reader of their
own."""

_ANIMATIONS_OF_PILLOW = {".webp", ".apng"}
"""Animations that FFmpeg reads as one picture, or not at all."""


def open_video(path: Path | str, *, kind: MediaKind = "video", reader: str = "auto") -> VideoReader:
    """Open a local file, or a folder of frames, for reading.

    ``reader`` chooses among ``READERS`` for videos; ``auto`` is PyAV, which reads most. A reader
    asked for by name is the one that reads, or an error.

    Raises:
        ReaderError: it cannot be read, or not by the reader asked for.
        UsageError: there is no reader of that name.
    """
    if reader != "auto" and reader not in READERS:
        raise UsageError(f"unknown reader `{reader}`: choose auto, {', '.join(READERS)}")
    path = Path(path)
    if not path.exists():
        raise ReaderError(f"no such file: `{path}`")
    if not path.is_file() and not path.is_dir():
        raise ReaderError(f"`{path}` is neither a file nor a folder")
    if kind != "video" or (reader == "auto" and path.suffix.lower() in _ANIMATIONS_OF_PILLOW):
        return _open_pictures(path)
    return READERS["pyav" if reader == "auto" else reader](path)
