"""Count of corrupt frames among the sampled ones: warnings, or an error if most are corrupt."""

from dataclasses import dataclass

from smolvideo.errors import ReaderError
from smolvideo.frames import Frame
from smolvideo.times import format_timestamp


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
