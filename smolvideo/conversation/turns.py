"""What a conversation is made of: looks at sources, and turns of words."""

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
"""The answer is whole; the person stopped it; an error stands in its place."""


@dataclass(frozen=True)
class Attachment:
    """The frames of one source, as the model is shown them once.

    ``number`` is unique in its conversation; ``turn`` is the place of the first turn that was asked
    with it. ``window`` are the seconds that were zoomed to, None for the whole. ``subtitles`` is a
    finished text.
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
        """Whether it has a clock: a video, not a picture or a folder of frames."""
        return self.batch.metadata.kind == "video"


def utc_now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Turn:
    """One question and what came of it.

    ``text`` is the answer, as far as it was made; ``error`` and ``hint`` stand in its place where
    it failed. ``model`` is who answered. ``notices`` are sentences for the person.
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
        """Whether a later question can refer to it: something was said."""
        return self.outcome != "failed" and bool(self.text.strip())


def attachment_label(look: Attachment, looks: Sequence[Attachment]) -> str:
    r"""``Video 2:\n`` before the frames of a look that is not the only one, else nothing.

    A look that stood alone when it was first asked about stays without a label, or everything
    behind it would have to be read again.
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
    """``Video 1``, ``Image 2``: the same source has one name, however often it is looked at."""
    noun = _noun(look)
    sources: list[VideoSource] = []
    for other in looks:
        if _noun(other) == noun and other.source not in sources:
            sources.append(other.source)
    return f"{noun} {sources.index(look.source) + 1}"


def _noun(look: Attachment) -> str:
    return "Image" if look.batch.metadata.kind == "image" else "Video"
