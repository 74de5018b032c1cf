"""A multiple-choice question of a benchmark, independent of its file format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class EvalItem:
    """A multiple-choice question about one video.

    ``video_names`` are possible names of its video in a folder, the most likely first, with or
    without a suffix; the first one identifies the video. ``cut_names`` are the ones among them that
    denote a file with only the part that is asked about. ``foreign_folders`` are path ends of
    folders in which other videos have the same names. ``options`` are texts without letters.
    ``answer_index`` is None if the right answer is not public. ``groups`` maps a grouping
    (``category``) to the group of this item. ``subtitles`` is text that came with the item,
    ``subtitle_names`` are possible files next to the videos. ``start_seconds`` and ``end_seconds``
    bound the part that is asked about. ``frames_fps`` is the rate of a video that is stored as a
    folder of frames.
    """

    id: str
    video_names: tuple[str, ...]
    question: str
    options: tuple[str, ...]
    answer_index: int | None
    groups: Mapping[str, str] = field(default_factory=dict)
    subtitles: str | None = None
    subtitle_names: tuple[str, ...] = ()
    start_seconds: float | None = None
    end_seconds: float | None = None
    url: str | None = None
    frames_fps: float | None = None
    cut_names: tuple[str, ...] = ()
    foreign_folders: tuple[str, ...] = ()

    @property
    def video(self) -> str:
        """Identifies the video before its file is found."""
        return self.video_names[0]

    @property
    def answer_letter(self) -> str:
        """Letter of the right option; empty if it is not public."""
        return "" if self.answer_index is None else LETTERS[self.answer_index]

    def answer_in(self, order: Sequence[int] | None) -> int | None:
        """Position of the right option among the options in ``order``."""
        if order is None or self.answer_index is None:
            return self.answer_index
        return order.index(self.answer_index)

    @property
    def chance_accuracy(self) -> float:
        """Expected accuracy of choosing an option at random."""
        return 1 / len(self.options)


@dataclass(frozen=True)
class Benchmark:
    """The items of a benchmark in their order; ``notices`` are sentences for the user.

    ``sha256`` is over the files they were read from.
    """

    name: str
    items: tuple[EvalItem, ...]
    source: str
    sha256: str
    notices: tuple[str, ...] = ()
