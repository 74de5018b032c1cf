"""Data types of a conversation: attachments (frames of a source) and turns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from smolvideo.answer import Usage
from smolvideo.frames import FrameBatch
from smolvideo.sampling import FrameSampling
from smolvideo.source import VideoSource
from smolvideo.times import format_timestamp

TurnStatus = Literal["answered", "stopped", "failed"]
"""answered: complete · stopped: cancelled by the user · failed: ended by an error."""


@dataclass(frozen=True)
class Attachment:
    """The frames of one source, which enter the context once.

    ``number`` is unique in its conversation; ``turn`` is the index of the first turn that was asked
    with it. ``window`` is the zoomed time range in seconds, None for the whole. ``subtitles`` is a
    formatted text.
    """

    number: int
    source: VideoSource
    batch: FrameBatch
    sampling: FrameSampling
    turn: int
    window: tuple[float, float] | None = None
    subtitles: str | None = None

    @property
    def is_video(self) -> bool:
        """Whether it has time stamps: a video, not an image or a folder of frames."""
        return self.batch.metadata.kind == "video"


def utc_now() -> str:
    """Return the UTC time in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Turn:
    """One question with its answer or error.

    ``text`` is the answer, which may be partial; ``error`` and ``hint`` are set if it failed.
    ``model`` is the name of the model. ``notices`` are messages for the user.
    """

    question: str
    text: str = ""
    outcome: TurnStatus = "answered"
    error: str | None = None
    hint: str | None = None
    usage: Usage | None = None
    model: str = ""
    notices: tuple[str, ...] = ()
    created: str = field(default_factory=utc_now)

    @property
    def is_in_history(self) -> bool:
        """Whether it enters the context of later questions: it has a text and did not fail."""
        return self.outcome != "failed" and bool(self.text.strip())


def attachment_label(look: Attachment, looks: Sequence[Attachment]) -> str:
    r"""Return the label before an attachment's frames: ``Video 2:\n``, or nothing for a single one.

    An attachment that was the only one when it was first asked about stays without a label: adding
    one would invalidate the KV cache of everything after it.
    """
    earlier = [other for other in looks if other.number < look.number]
    together = [other for other in looks if other.turn == look.turn]
    if not earlier and len(together) == 1:
        return ""
    window = ""
    if look.window is not None:
        start, end = look.window
        window = f" from {format_timestamp(start)} to {format_timestamp(end)}"
    return f"{attachment_name(look, looks)}{window}:\n"


def attachment_name(look: Attachment, looks: Sequence[Attachment]) -> str:
    """Return ``Video 1`` or ``Image 2``; attachments of the same source share one name."""
    noun = _noun(look)
    sources: list[VideoSource] = []
    for other in looks:
        if _noun(other) == noun and other.source not in sources:
            sources.append(other.source)
    return f"{noun} {sources.index(look.source) + 1}"


def _noun(look: Attachment) -> str:
    return "Image" if look.batch.metadata.kind == "image" else "Video"
