"""Core data types: frames with presentation times, video metadata, and subtitle events.

After the readers, images are RGB, upright, with square pixels, and times are presentation times in
seconds, counted from the moment a player shows as 0:00. ``index / fps`` is never used as a time: at
variable frame rates it is seconds off.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from smolvideo.errors import ReaderError
from smolvideo.formatting import format_timestamp

Images = NDArray[np.uint8]
"""uint8 RGB, one frame ``[H, W, 3]`` or several ``[N, H, W, 3]``."""

SYNTHETIC_COMMENT = "drawn by smolvideo"
"""Container comment of the synthetic videos, the only kind that the bundled model knows. The length
follows (``synthetic_comment``): editing programs copy comments to what they join or cut."""
_LENGTH_TOLERANCE_SECONDS = 0.5


def synthetic_comment(seconds: float) -> str:
    """Return the container comment of a synthetic video of this length."""
    return f"{SYNTHETIC_COMMENT}, {seconds:g} s"


Damage = Literal["", "corrupt", "reference"]
"""Decoder's verdict on a frame: intact (empty); ``corrupt``, with concealed errors; or
``reference``, when it refers to a corrupt frame and may show its errors until the next key
frame."""

_BLANK_LEVEL = 128
_MAX_NAMED = 3
"""Maximum number of discontinuities or times that a notice lists."""

MediaKind = Literal["video", "image", "frames"]
"""A video file, a still image, or a folder of frames (which has an order, but no clock)."""


@dataclass(frozen=True)
class Discontinuity:
    """A clock discontinuity: its time in ``seconds`` on the continued clock, which is displayed,
    and the jump of the file's own clock, forward or (negative) back."""

    seconds: float
    jump_seconds: float


@dataclass(frozen=True)
class VideoMetadata:
    """Properties of a source, known before any frame is decoded.

    ``width`` and ``height`` are pixels as displayed: after rotation and sample aspect ratio.
    ``num_frames`` and ``average_fps`` are None if the container does not state them.
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
    """The file's name, for display; never used as a path."""
    comment: str = ""
    """The container's comment (untrusted)."""
    first_pts_seconds: float = 0.0
    """Presentation time of the first decodable frame; above 0 if a recording starts damaged."""
    last_pts_seconds: float | None = None
    """Presentation time of the last frame; None if only duration and rate are known."""
    discontinuities: tuple[Discontinuity, ...] = ()
    """Discontinuities of the file's own clock. All times are on the continued clock."""
    missing_seconds: tuple[float, ...] = ()
    """Times at which unreadable parts of the recording are left out."""
    gaps_seconds: tuple[float, ...] = ()
    """Times at which packets of a transport stream were lost, by their continuity counters."""
    cut_seconds: tuple[float, ...] = ()
    """Times at which truncated files end, of several concatenated ones; without the last."""
    truncated: bool = False
    """Whether the file is truncated, as by an aborted download or recording."""
    claimed_seconds: float | None = None
    """Duration claimed by the header of a truncated file."""
    unread_bytes: int = 0
    """Bytes at the end of the file that do not belong to the video."""

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
        """Messages for the user about the recording itself."""
        return (
            *self._notices_of_clocks(),
            *self._notices_of_parts(),
            *self._notices_of_the_end(),
        )

    def without_notices(self) -> "VideoMetadata":
        """Return a copy without what ``notices`` reports, so that it is shown only once."""
        return self.with_notices_of(VideoMetadata(self.width, self.height, self.duration_seconds))

    def with_notices_of(self, other: "VideoMetadata") -> "VideoMetadata":
        """Return a copy with the fields that ``notices`` reports from another reader's metadata."""
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
        count = len(self.discontinuities)
        more = f" and {count - _MAX_NAMED} more" if count > _MAX_NAMED else ""
        noun = "discontinuity" if count == 1 else "discontinuities"
        return (
            f"timestamp {noun} in `{self.name}` at {', '.join(named)}{more}: "
            "times count on from there",
        )

    @property
    def is_synthetic(self) -> bool:
        """Whether the container's comment says that this is a synthetic video, of this length if it
        names one."""
        if self.comment == SYNTHETIC_COMMENT:
            return True
        length = re.fullmatch(rf"{SYNTHETIC_COMMENT}, (\d{{1,9}}(?:\.\d{{1,9}})?) s", self.comment)
        if length is None:
            return False
        return abs(float(length[1]) - self.duration_seconds) <= _LENGTH_TOLERANCE_SECONDS


@dataclass(frozen=True)
class Frame:
    """A decoded frame: ``image`` uint8 RGB ``[H, W, 3]``, and its presentation time."""

    image: Images
    pts_seconds: float
    damage: Damage = ""


@dataclass(frozen=True)
class SubtitleEvent:
    """An event of a text track, unparsed with its markup; seconds on the player's clock.

    ``format`` is FFmpeg's name of the track's codec: subrip, ass, webvtt, mov_text, text.
    ``partial``: the track is forced, or holds signs, songs or commentary, according to the file.
    """

    start_seconds: float
    end_seconds: float
    text: str
    format: str
    partial: bool = False


@dataclass(frozen=True)
class FrameBatch:
    """The sampled frames of one source, by time.

    ``images`` uint8 RGB ``[N, H, W, 3]``; ``pts_seconds[i]`` is the presentation time of
    ``images[i]``. ``num_requested`` is the number of requested times: more than N if frames could
    not be read, or if the video has fewer. ``geometry`` names the resize to the model's square
    input, None for the displayed aspect. ``num_dropped`` is the number of frames that the strategy
    left out as duplicates, and ``selection_note`` its explanation. ``warnings`` are messages for
    the user. ``state`` is the ``file_state`` of the source when it was decoded, empty if not
    recorded.
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


def blank_images(images: Images) -> Images:
    """Images of the same shape in one even grey: an answer to them was not seen in the video."""
    return np.full_like(images, _BLANK_LEVEL)


@dataclass(frozen=True)
class FramePlan:
    """The times of frames that are not decoded yet: enough to count their tokens."""

    pts_seconds: tuple[float, ...]
    metadata: VideoMetadata

    def __len__(self) -> int:
        return len(self.pts_seconds)


def _named(seconds: Sequence[float]) -> str:
    """Format the first times, and the number of the others."""
    times = [*dict.fromkeys(format_timestamp(one) for one in seconds)]
    more = f" and {len(times) - _MAX_NAMED} more" if len(times) > _MAX_NAMED else ""
    return ", ".join(times[:_MAX_NAMED]) + more


def _described(discontinuity: Discontinuity) -> str:
    way = "ahead" if discontinuity.jump_seconds > 0 else "back"
    length = f"{abs(discontinuity.jump_seconds):.1f}".removesuffix(".0")
    return f"{format_timestamp(discontinuity.seconds)} ({length} s {way})"


def _with_tenths(seconds: float) -> str:
    """Format ``MM:SS.t``, rounded down."""
    tenths = int(max(seconds, 0.0) * 10 + 1e-6)
    return f"{format_timestamp(tenths / 10)}.{tenths % 10}"


@dataclass
class DamageCount:
    """Running count over the frames of the video ``name``, one per requested time."""

    name: str
    requested: int
    answered: int = 0
    _frames: int = 0
    _corrupt: int = 0
    _referring: int = 0
    _corrupt_answers: int = 0
    _first: float | None = None
    _last: float | None = None

    def add(self, frame: Frame) -> None:
        """Count the frame on screen at the next requested time; a repeated frame counts once."""
        self.answered += 1
        self._corrupt_answers += frame.damage == "corrupt"
        if frame.pts_seconds == self._last:
            return
        self._last = frame.pts_seconds
        self._frames += 1
        self._corrupt += frame.damage == "corrupt"
        self._referring += frame.damage == "reference"
        if frame.damage and self._first is None:
            self._first = frame.pts_seconds

    def warnings(self) -> list[str]:
        """Return messages for the user; empty if nothing is damaged or missing."""
        found = []
        if self.answered < self.requested:
            missing = self.requested - self.answered
            found.append(
                f"{missing} of {self.requested} frames of `{self.name}` could not be decoded"
            )
        if self._first is not None:
            counts = ((self._corrupt, "are corrupt"), (self._referring, "refer to corrupt data"))
            parts = [f"{count} {what}" for count, what in counts if count]
            found.append(
                f"`{self.name}` is damaged: of {self._frames} frames {' and '.join(parts)}, "
                f"the first at {format_timestamp(self._first)}; what they show may be wrong"
            )
        return found

    def refuse_if_most(self) -> None:
        """Raise ReaderError if fewer than half of the requested times have an intact frame."""
        if self.answered and 2 * (self.answered - self._corrupt_answers) >= self.requested:
            return
        message = (
            f"only {self.answered} of {self.requested} frames of `{self.name}` could be decoded"
        )
        if self._corrupt_answers:
            message += f", {self._corrupt_answers} of them corrupt"
        raise ReaderError(message, hint="the file is damaged; fetch it again")
