"""The result of a search: hits with their times, and what was searched."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from smolvideo.json_types import Moment, Seconds, Within
from smolvideo.records import json_line

Probability = Annotated[float, Within(0, 1)]
Evidence = Literal["frames", "notes", "text", "subtitles"]
"""What speaks for a hit most: the frames, the note about them, text on screen, or subtitles."""


@dataclass(frozen=True)
class Hit:
    """A moment of a video that shows the query.

    ``score`` is the probability of that, 0 to 1; without confirmation the share of the query's
    words that the texts have. ``log_odds`` are those of the frames alone, None where the model was
    asked nothing. ``frame_times`` are the frames that were seen, in seconds of the video.
    """

    path: str
    start_seconds: Seconds
    end_seconds: Seconds
    score: Probability
    note: str = ""
    screen_text: str = ""
    subtitles: str = ""
    evidence: Evidence = "frames"
    log_odds: float | None = None
    sha256: str | None = None
    frame_times: tuple[Moment, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """The hits of a query, the best first.

    ``searched`` counts ``videos``, ``windows``, the ``candidates`` whose frames were read, and the
    ``frames`` read for them; ``failed`` maps videos that could not be read to their errors.
    """

    query: str
    hits: tuple[Hit, ...]
    model: str | None = None
    searched: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    seconds: float = 0.0

    SCHEMA: ClassVar[str] = "smolvideo.find/1"

    def content(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {"record": self.SCHEMA} | asdict(self)

    def to_json(self) -> str:
        """One line without its line break."""
        return json_line(self.content())
