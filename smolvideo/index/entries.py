"""What an index file holds: windows, videos, and counts over all."""

from collections.abc import Sequence
from dataclasses import dataclass

from smolvideo.subtitles import Cue


@dataclass(frozen=True)
class IndexedWindow:
    """A time range of a video, and what is known about it without looking.

    ``frame_times`` are the times of the frames that its note is about, relative to the video, as
    ``start_seconds`` and ``end_seconds``. ``id`` is 0 for a window that is in no index.
    """

    number: int
    start_seconds: float
    end_seconds: float
    frame_times: tuple[float, ...]
    note: str = ""
    screen_text: str = ""
    cues: tuple[Cue, ...] = ()
    id: int = 0

    @property
    def cue_text(self) -> str:
        """The texts of the cues on one line."""
        return " ".join(cue.text for cue in self.cues)

    @property
    def step_seconds(self) -> float:
        """Mean distance of two frames."""
        return (self.end_seconds - self.start_seconds) / max(1, len(self.frame_times))


@dataclass(frozen=True)
class ContentEntry:
    """A video of the index: ``error`` is why it has no windows; ``window_count`` those so far."""

    id: int
    sha256: str
    settings_key: str
    model: str
    window_seconds: float
    duration_seconds: float | None
    error: str | None
    is_complete: bool
    window_count: int


@dataclass(frozen=True)
class IndexStatus:
    """Counts over an index file. ``hours`` are of video, each content once; ``failed`` are files
    that could not be indexed, as a run counts them."""

    videos: int
    files: int
    windows: int
    incomplete: int
    failed: int
    hours: float
    bytes: int
    models: dict[str, int]


def cues_between(cues: Sequence[Cue], start: float, end: float) -> tuple[Cue, ...]:
    """Return the cues that are on screen in a window."""
    return tuple(cue for cue in cues if cue.start_seconds < end and cue.end_seconds > start)
