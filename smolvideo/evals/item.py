"""One question of a benchmark, whatever file it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

BenchmarkName = Literal["cinepile", "video-mme", "mvbench", "egoschema", "jsonl"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class EvalItem:
    """A multiple-choice question about one video.

    ``video_names`` are the names under which its video may lie in a folder, the likeliest first,
    with or without a suffix; the first one identifies the video. Under ``cut_names``, some of
    them, lies no more than the part that is asked about. ``foreign_folders`` are ends of folders in
    which other videos have the same names. ``options`` are texts without letters. ``groups`` maps a
    way of grouping (``category``) to the group this item is in. ``subtitles`` is text that came
    with the item, ``subtitle_names`` are files that may lie beside the videos. ``start_seconds``
    and ``end_seconds`` bound the part that is asked about. ``frames_fps`` is the rate of a video
    that is kept as a folder of frames.
    """

    id: str
    video_names: tuple[str, ...]
    question: str
    options: tuple[str, ...]
    answer_index: int
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
        """What identifies the video before its file is found."""
        return self.video_names[0]

    @property
    def chance_accuracy(self) -> float:
        """The share of right answers of somebody who draws an option blindly."""
        return 1 / len(self.options)


@dataclass(frozen=True)
class Benchmark:
    """The items of one benchmark file in their order; ``notices`` are sentences for the user.

    ``sha256`` is over the files it was read from.
    """

    name: str
    items: tuple[EvalItem, ...]
    source: str
    sha256: str
    notices: tuple[str, ...] = ()
