"""Readers decode the bundled clips, and their frames are compared with the drawn originals.

A frame shows four colours and a white bar at the place of its number. The clips are drawn and
encoded by ``tests/support/doctor_clips.py``.
"""

from contextlib import suppress
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from smolvideo.doctor.isolated import Finding, Surroundings, fault, note, ok, reinstall
from smolvideo.errors import ReaderError
from smolvideo.frames import Images
from smolvideo.readers import open_video
from smolvideo.readers.registry import PACKAGES

FRAMES = 12
FRAMES_PER_SECOND = 4
UNEVEN_TIMES = (0.0, 0.1, 0.2, 0.7, 0.8, 1.5, 1.6, 1.7, 2.2, 2.3, 2.8, 2.9)
"""Frame times in seconds of the clip with a variable rate."""

CLIPS = {
    "h264": "H.264",
    "hevc-10bit": "HEVC 10-bit",
    "vp9": "VP9",
    "av1": "AV1",
    "variable-rate": "variable rate",
    "rotated": "rotated",
}
"""File → its name in findings."""

BROKEN = "broken"
"""A clip whose second half is overwritten by zeros."""

_DEFAULT_READER, _ALWAYS_DECODED = "pyav", "h264"
_WIDTH, _HEIGHT = 96, 72
_COLOURS = ((200, 40, 40), (40, 160, 60), (40, 60, 200), (128, 128, 128))
_BAR = 235
_MAX_DIFFERENCE = 8.0
"""Mean difference in grey levels; coding costs 3 at most, and the next frame differs by 20."""


def drawn_frame(number: int) -> Images:
    """Draw the frame with a number below ``FRAMES``: uint8 RGB ``[72, 96, 3]``."""
    image = np.empty((_HEIGHT, _WIDTH, 3), np.uint8)
    middle, centre = _HEIGHT // 2, _WIDTH // 2
    image[:middle, :centre], image[:middle, centre:] = _COLOURS[:2]
    image[middle:, :centre], image[middle:, centre:] = _COLOURS[2:]
    width = _WIDTH // FRAMES
    image[:, width * number : width * (number + 1)] = _BAR
    return image


def frame_times(clip: str) -> tuple[float, ...]:
    """Return the frame times of a clip in seconds."""
    steady = tuple(number / FRAMES_PER_SECOND for number in range(FRAMES))
    return UNEVEN_TIMES if clip == "variable-rate" else steady


def check_pyav(_: Surroundings) -> Finding:
    """The default reader must decode every clip."""
    return _check_reader(_DEFAULT_READER)


def check_opencv(_: Surroundings) -> Finding:
    """An optional reader, whose build may lack a codec."""
    return _check_reader("opencv")


def check_decord(_: Surroundings) -> Finding:
    """An optional reader, whose build may lack a codec."""
    return _check_reader("decord")


def _check_reader(reader: str) -> Finding:
    optional = reader != _DEFAULT_READER
    package = PACKAGES[reader]
    if find_spec(package) is None:
        if optional:
            hint = "optional: `pip install 'smolvideo[readers]'`"
            return note(f"the reader {reader} is not installed", hint)
        return fault(f"the package `{package}` is missing", f"`pip install {package}`")
    decoded: list[str] = []
    refused: list[str] = []
    wrong: list[str] = []
    with as_file(files("smolvideo.doctor") / "clips") as folder:
        for clip, name in CLIPS.items():
            try:
                problem = _difference(folder / f"{clip}.mp4", clip, reader)
            except ReaderError as error:
                if optional and clip != _ALWAYS_DECODED:
                    refused.append(name)
                    continue
                problem = str(error)
            if problem is None:
                decoded.append(name)
            else:
                wrong.append(f"{name}: {problem}")
        if problem := _broken_problem(folder / f"{BROKEN}.mp4", reader):
            wrong.append(f"broken file: {problem}")
    if wrong:
        hint = reinstall(package)
        if optional:
            hint += f", or do without `--reader {reader}`"
        return fault("; ".join(wrong), hint)
    without = f"; not {', '.join(refused)}" if refused else ""
    return ok(f"decodes {', '.join(decoded)}{without}")


def _difference(path: Path, clip: str, reader: str) -> str | None:
    """Decode three frames, not in the first GOP alone; return what is wrong with them."""
    times = frame_times(clip)
    numbers = (0, 5, FRAMES - 2)
    with open_video(path, reader=reader) as video:
        frames = list(video.frames_at([times[number] for number in numbers]))
    if len(frames) != len(numbers):
        return f"{len(frames)} of {len(numbers)} frames"
    for number, frame in zip(numbers, frames, strict=True):
        if not _shows(frame.image, number):
            return f"frame {number} is not what was drawn"
    return None


def _broken_problem(path: Path, reader: str) -> str | None:
    """Return None if the damage is reported, and no frame is taken for another."""
    times = frame_times(BROKEN)
    with suppress(ReaderError), open_video(path, reader=reader) as video:
        frames = list(video.frames_at(times))
        damaged = len(frames) < len(times) or any(frame.damage for frame in frames)
        sound = [frame for frame in frames if not frame.damage]
        for frame in sound:
            if not _shows(frame.image, round(frame.pts_seconds * FRAMES_PER_SECOND)):
                return "a wrong frame without a warning"
        return None if damaged else "its damage is not reported"
    return None


def _shows(image: Images, number: int) -> bool:
    drawn = drawn_frame(number)
    if image.shape != drawn.shape:
        return False
    return float(np.abs(image.astype(np.int16) - drawn).mean()) <= _MAX_DIFFERENCE
