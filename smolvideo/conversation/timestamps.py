"""Timestamps in answers: the frame nearest to one, and playing the video from it."""

import os
import re
import shutil
import subprocess
import sys
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from smolvideo.errors import UsageError
from smolvideo.sanitize import display_path
from smolvideo.source import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_CLOCK = re.compile(
    r"(?<![\d:.])(?:(?P<hours>\d{1,2}):)?(?P<minutes>\d{1,3}):(?P<seconds>[0-5]\d)"
    r"(?P<tenths>\.\d)?(?![\d:])"
)
_SLACK_SECONDS = 1.0
"""Clocks are rounded: an answer may name the second after the last frame."""


@dataclass(frozen=True)
class TimestampSpan:
    """A time in a text: ``text[start:end]`` reads as ``seconds``."""

    start: int
    end: int
    seconds: float


def find_timestamps(text: str, duration_seconds: float) -> list[TimestampSpan]:
    """Return the timestamps in ``text`` within a video of this duration, in text order.

    >>> [span.seconds for span in find_timestamps("from 0:05 to 1:02:03 or 99:99", 7200)]
    [5.0, 3723.0]
    """
    found = []
    for match in _CLOCK.finditer(text):
        minutes, seconds = int(match["minutes"]), int(match["seconds"])
        if match["hours"] is not None and minutes >= 60:
            continue
        moment = int(match["hours"] or 0) * 3600 + minutes * 60 + seconds
        exact = moment + float(match["tenths"] or 0)
        if exact <= duration_seconds + _SLACK_SECONDS:
            found.append(TimestampSpan(match.start(), match.end(), exact))
    return found


def nearest_frame(pts_seconds: Sequence[float], seconds: float) -> int:
    """Return the index of the frame with the nearest time; the earlier one on a tie.

    >>> nearest_frame((0.0, 1.0, 2.0), 1.4), nearest_frame((0.0, 1.0), 99)
    (1, 1)
    """
    after = bisect_right(pts_seconds, seconds)
    if after == 0:
        return 0
    if after == len(pts_seconds):
        return after - 1
    nearer_after = pts_seconds[after] - seconds < seconds - pts_seconds[after - 1]
    return after if nearer_after else after - 1


_AT: dict[str, Callable[[float], list[str]]] = {
    "mpv": lambda seconds: [f"--start={seconds:.3f}"],
    "iina": lambda seconds: ["--no-stdin", f"--mpv-start={seconds:.3f}"],
    "vlc": lambda seconds: [f"--start-time={seconds:.3f}"],
    "celluloid": lambda seconds: [f"--mpv-start={seconds:.3f}"],
    "ffplay": lambda seconds: ["-loglevel", "error", "-ss", f"{seconds:.3f}"],
}
"""Players with a start-time option, the best first, and their arguments for it."""

_ANY = {"darwin": "open", "win32": "explorer"}
"""Commands that open a file in the user's default program; elsewhere ``xdg-open``."""


_FAILS_WITHIN_SECONDS = 0.5


@dataclass(frozen=True)
class PlayerCommand:
    """Command words, and whether the player starts at the requested time."""

    words: tuple[str, ...]
    seeks: bool

    @property
    def player(self) -> str:
        return Path(self.words[0]).stem


def player_command(path: Path, seconds: float) -> PlayerCommand:
    """Return the command that plays ``path`` from ``seconds`` on.

    Raises UsageError where there is no display, or no player.
    """
    if not has_display():
        raise UsageError(
            "there is no display to play on: neither DISPLAY nor WAYLAND_DISPLAY is set",
            hint=f"open {display_path(path)} on a machine with a screen",
        )
    where = os.path.abspath(path)  # absolute: a name that begins with - is no option
    for name, at in _AT.items():
        program = shutil.which(name)
        if program is not None:
            return PlayerCommand((program, *at(max(0.0, seconds)), where), seeks=True)
    program = shutil.which(_ANY.get(sys.platform, "xdg-open"))
    if program is None:
        raise UsageError("no video player was found", hint="install mpv or VLC")
    if not path.is_dir() and path.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        # The system opens files by suffix, so another suffix might run a program or a page.
        raise UsageError(
            f"{display_path(path.name)} has no ending of a video, and no video player was found",
            hint="install mpv or VLC",
        )
    return PlayerCommand((program, where), seeks=False)


def has_display() -> bool:
    """Whether windows can be opened; assumed on macOS and Windows."""
    if sys.platform in _ANY:
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def play(playing: PlayerCommand) -> None:
    """Start the player as an independent process, which outlives this one.

    Raises UsageError if it cannot be started, or fails within ``_FAILS_WITHIN_SECONDS``, as without
    a display.
    """
    try:
        process = subprocess.Popen(
            playing.words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(f"`{playing.player}` cannot be started: {error.strerror}") from error
    try:
        code = process.wait(_FAILS_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        # A child must be awaited, or it remains as a zombie process.
        threading.Thread(target=process.wait, name="player", daemon=True).start()
        return
    if code != 0:
        raise UsageError(
            f"`{playing.player}` ended at once, with code {code}",
            hint="does it open a window from this terminal?",
        )
