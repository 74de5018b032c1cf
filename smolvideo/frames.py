"""Frames with their times, and what a video says about itself.

Everything past the readers is RGB, the right way up, in the shape a player would show; every time
is a presentation time in seconds, counted from the moment a player shows as 0:00. ``index / fps``
is never used as a time: on variable frame rates it is seconds off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from smolvideo.times import format_timestamp

Images = NDArray[np.uint8]
"""RGB grey levels, one frame ``[H, W, 3]`` or several ``[N, H, W, 3]``."""

SYNTHETIC_COMMENT = "drawn by smolvideo"
"""The comment in the files of the drawn world, which is what the bundled model knows."""

Damage = Literal["", "corrupt", "reference"]
"""What a decoder says of a frame: nothing; that it is damaged and parts of it are made up; or that
it refers to such a frame, whose faults it may show until the next key frame."""

_MAX_NAMED = 3
"""Of the discontinuities of a recording, as many are described to the user."""

MediaKind = Literal["video", "image", "frames"]
"""A video file, one still picture, or a folder of frames (which has an order, but no clock)."""


@dataclass(frozen=True)
class Discontinuity:
    """A place where the clock of a recording is set anew: ``seconds`` on the continued clock, which
    is shown, and by how much the file's own clock jumps there, ahead or (negative) back."""

    seconds: float
    jump_seconds: float


@dataclass(frozen=True)
class VideoMetadata:
    """What is known about a source before a frame of it is decoded.

    ``width`` and ``height`` are pixels as shown: after rotation and sample aspect ratio.
    ``num_frames`` and ``average_fps`` are None where the container does not say.
    """

    width: int
    height: int
    duration_seconds: float
    num_frames: int | None = None
    average_fps: float | None = None
    codec: str = ""
    kind: MediaKind = "video"
    reader: str = ""
    name: str = ""
    """The file's name, for people; never used as a path."""
    comment: str = ""
    """What the container says in its comment; anybody may have written it."""
    first_pts_seconds: float = 0.0
    """When the first decodable frame appears; later than 0 where a recording starts broken."""
    last_pts_seconds: float | None = None
    """When the last frame appears; None where only duration and rate are known."""
    discontinuities: tuple[Discontinuity, ...] = ()
    """Where the file's own clock restarts or jumps. All times are on a clock that goes on there."""
    missing_seconds: tuple[float, ...] = ()
    """Where parts of the recording are left out, as they cannot be read."""
    gaps_seconds: tuple[float, ...] = ()
    """Where packets of a transport stream are missing, by their continuity counters."""
    cut_seconds: tuple[float, ...] = ()
    """Where files before the last of those that were joined are truncated."""
    truncated: bool = False
    """Whether the file breaks off, as a download or a recording may."""
    claimed_seconds: float | None = None
    """How long the header of a truncated file says that it is."""
    unread_bytes: int = 0
    """Bytes at the end of the file that are no part of what was read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing_seconds", tuple(self.missing_seconds))
        object.__setattr__(self, "gaps_seconds", tuple(self.gaps_seconds))
        object.__setattr__(self, "cut_seconds", tuple(self.cut_seconds))
        found = (
            one if isinstance(one, Discontinuity) else Discontinuity(**one)  # out of JSON
            for one in self.discontinuities
        )
        object.__setattr__(self, "discontinuities", tuple(found))

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences for the user about the recording itself."""
        return (
            *self._notices_of_clocks(),
            *self._notices_of_parts(),
            *self._notices_of_the_end(),
        )

    def without_notices(self) -> "VideoMetadata":
        """The same without what is said of a recording once."""
        return self.with_notices_of(VideoMetadata(self.width, self.height, self.duration_seconds))

    def with_notices_of(self, other: "VideoMetadata") -> "VideoMetadata":
        """The same with what another reader found wrong with the recording."""
        return replace(
            self,
            discontinuities=other.discontinuities,
            missing_seconds=other.missing_seconds,
            gaps_seconds=other.gaps_seconds,
            cut_seconds=other.cut_seconds,
            truncated=other.truncated,
            claimed_seconds=other.claimed_seconds,
            unread_bytes=other.unread_bytes,
        )

    def _notices_of_parts(self) -> tuple[str, ...]:
        found = []
        if self.missing_seconds:
            what = "a part" if len(self.missing_seconds) == 1 else "parts"
            named = _named(self.missing_seconds)
            found.append(
                f"{what} of `{self.name}` without video that can be read: missing at {named}"
            )
        if self.cut_seconds:
            named = _named(self.cut_seconds)
            found.append(f"files joined in `{self.name}` are truncated: they break off at {named}")
        if self.gaps_seconds:
            found.append(
                f"`{self.name}` has lost packets (continuity errors) at "
                f"{_named(self.gaps_seconds)}: frames there may be missing or wrong"
            )
        return tuple(found)

    def _notices_of_the_end(self) -> Iterator[str]:
        if self.truncated:
            last = self.duration_seconds
            if self.last_pts_seconds is not None:
                last = self.last_pts_seconds
            claimed = self.claimed_seconds
            of = "" if claimed is None else f" of {_with_tenths(claimed)}"
            yield f"`{self.name}` is truncated: the file breaks off at {_with_tenths(last)}{of}"
        if self.unread_bytes:
            yield (
                f"{self.unread_bytes} bytes at the end of `{self.name}` were not read: "
                "they are no part of the video before them"
            )

    def _notices_of_clocks(self) -> tuple[str, ...]:
        if not self.discontinuities:
            return ()
        named = [_described(one) for one in self.discontinuities[:_MAX_NAMED]]
        places = len(self.discontinuities)
        more = f" and {places - _MAX_NAMED} more" if places > _MAX_NAMED else ""
        noun = "discontinuity" if places == 1 else "discontinuities"
        return (
            f"timestamp {noun} in `{self.name}` at {', '.join(named)}{more}: "
            "times count on from there",
        )

    @property
    def is_synthetic(self) -> bool:
        """Whether the file says of itself that it shows the drawn world."""
        return self.comment == SYNTHETIC_COMMENT


@dataclass(frozen=True)
class Frame:
    """One decoded picture: ``image`` uint8 RGB ``[H, W, 3]`` and the time it appears on screen."""

    image: Images
    pts_seconds: float
    damage: Damage = ""


@dataclass(frozen=True)
class SubtitleEvent:
    """A piece of a text track as the file has it, markup and all; seconds on the player's clock.

    ``format`` is FFmpeg's name of the track's codec: subrip, ass, webvtt, mov_text, text.
    ``partial``: the track is forced, or holds signs, songs or commentary, by what the file says.
    """

    start_seconds: float
    end_seconds: float
    text: str
    format: str
    partial: bool = False


@dataclass(frozen=True)
class FrameBatch:
    """The frames of one source that a model will see, in order of time.

    ``images`` uint8 RGB ``[N, H, W, 3]``; ``pts_seconds[i]`` is when ``images[i]`` appears on
    screen. ``num_requested`` is how many frames the sampling asked for: more than N if some could
    not be read, or if the video has fewer. ``geometry`` names how the images were fitted to the
    model's square input, or is None while they have the shape in which a player shows them.
    ``num_dropped`` is how many frames the strategy left out because others show the same, and
    ``selection_note`` what it says of its choice. ``warnings`` are sentences for the user.
    ``state`` is the ``file_state`` of the source that they were decoded from, empty where nobody
    asked.
    """

    images: Images
    pts_seconds: tuple[float, ...]
    metadata: VideoMetadata
    geometry: str | None = None
    num_requested: int = 0
    num_dropped: int = 0
    selection_note: str = ""
    warnings: tuple[str, ...] = field(default=())
    state: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 [N, H, W, 3], not {self.images.dtype} {self.images.shape}"
            )
        if len(self.pts_seconds) != len(self.images):
            raise ValueError(f"{len(self.images)} images with {len(self.pts_seconds)} times")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"FrameBatch(images={list(self.images.shape)}, pts_seconds={self.pts_seconds})"


@dataclass(frozen=True)
class FramePlan:
    """The times of frames that are not decoded yet: enough to count the tokens they will take."""

    pts_seconds: tuple[float, ...]
    metadata: VideoMetadata

    def __len__(self) -> int:
        return len(self.pts_seconds)


def _named(seconds: Sequence[float]) -> str:
    """The first of the times, and how many more there are."""
    times = [*dict.fromkeys(format_timestamp(one) for one in seconds)]
    more = f" and {len(times) - _MAX_NAMED} more" if len(times) > _MAX_NAMED else ""
    return ", ".join(times[:_MAX_NAMED]) + more


def _described(place: Discontinuity) -> str:
    way = "ahead" if place.jump_seconds > 0 else "back"
    length = f"{abs(place.jump_seconds):.1f}".removesuffix(".0")
    return f"{format_timestamp(place.seconds)} ({length} s {way})"


def _with_tenths(seconds: float) -> str:
    """``MM:SS.t``, rounded down."""
    tenths = int(max(seconds, 0.0) * 10 + 1e-6)
    return f"{format_timestamp(tenths / 10)}.{tenths % 10}"
