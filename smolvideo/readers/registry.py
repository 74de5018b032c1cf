"""Reader registry: which reader opens which file, and in-process opening."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from smolvideo.errors import UsageError
from smolvideo.frames import MediaKind
from smolvideo.readers.base import NotAVideoError, Probe, VideoReader, check_file


def _open_with_pyav(path: Path, _: Probe | None) -> VideoReader:
    from smolvideo.readers.joined_reader import JoinedReader
    from smolvideo.readers.part_finder import find_parts
    from smolvideo.readers.pyav import PyavReader

    parts = []
    with contextlib.suppress(OSError):  # the reader opens the file next and reports the error
        parts = find_parts(path)
    if len(parts) > 1 or any(part.lost_before or part.lost_after for part in parts):
        return JoinedReader(path, parts)
    return PyavReader(path, parts[0] if parts else None)


def _open_with_opencv(path: Path, probe: Probe | None) -> VideoReader:
    from smolvideo.readers.comparison import OpencvReader

    return OpencvReader(path, probe)


def _open_with_decord(path: Path, probe: Probe | None) -> VideoReader:
    from smolvideo.readers.comparison import DecordReader

    return DecordReader(path, probe)


def _open_pictures(path: Path) -> VideoReader:
    from smolvideo.readers.images import ImageReader

    return ImageReader(path)


READERS: dict[str, Callable[[Path, Probe | None], VideoReader]] = {
    "pyav": _open_with_pyav,
    "opencv": _open_with_opencv,
    "decord": _open_with_decord,
}
"""Readers of video files by name, in the order in which ``auto`` tries them. Images and folders of
frames have a reader of their own."""

PICTURES = "pictures"

PROBED_BY_PYAV = ("opencv", "decord")
"""Readers that cannot detect their own errors; they are checked against a probe by PyAV."""

PACKAGES = {"pyav": "av", "opencv": "cv2", "decord": "decord"}
"""Import name of the package that a reader requires."""

_PILLOW_ANIMATION_SUFFIXES = {".webp", ".apng"}
"""Animations that FFmpeg reads as a still image, or not at all."""


def readers_for(path: Path, kind: MediaKind, reader: str) -> list[str]:
    """Return the names of the readers to try, in order; a reader chosen by name is the only one.

    Raises:
        NotAVideoError: there is no such file, or it is a folder.
        UsageError: there is no reader of that name.
    """
    if reader != "auto" and reader not in READERS:
        raise UsageError(f"unknown reader `{reader}`: choose auto, {', '.join(READERS)}")
    check_file(path)
    if kind != "video" or (reader == "auto" and path.suffix.lower() in _PILLOW_ANIMATION_SUFFIXES):
        return [PICTURES]
    if path.is_dir():
        raise NotAVideoError(f"`{path}` is a folder, not a video")
    return [*READERS] if reader == "auto" else [reader]


def open_in_process(path: Path, reader: str, probe: Probe | None = None) -> VideoReader:
    """Open a file, or a folder of frames, with one of the ``readers_for`` it, in this process."""
    return _open_pictures(path) if reader == PICTURES else READERS[reader](path, probe)
