"""What is said in a video: the cues of a file, or of the text track inside the video."""

from collections.abc import Sequence
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.readers import open_video
from smolvideo.source import VideoSource
from smolvideo.spelling import existing_path
from smolvideo.subtitles import (
    Cue,
    cues_near,
    cues_of_track,
    cues_within,
    find_sidecar,
    read_subtitles,
)

AUTO = "auto"
"""The file beside the video, else the text track inside it."""

_MOST_CHARACTERS = 4000
"""About a thousand tokens: beside fifty frames, every context has room for so many."""


def read_cues(wanted: str, video: VideoSource, *, reader: str) -> list[Cue]:
    """The cues of the file ``wanted``, or of what ``auto`` finds.

    Raises:
        SourceError: no subtitles there, or none that can be read.
        ReaderError: the video cannot be read.
    """
    path = find_sidecar(video.path) if wanted == AUTO else _file_named(wanted)
    if path is not None:
        return read_subtitles(path)
    with open_video(video.path, kind=video.kind, reader=reader) as opened:
        cues = cues_of_track(opened.text_track())
    if not cues:
        raise SourceError(
            f"no subtitles beside `{video.name}`, and no text track in it",
            hint="name the file with the subtitles",
        )
    return cues


def _file_named(wanted: str) -> Path:
    return existing_path(Path(wanted).expanduser())


def cues_with_room(
    cues: Sequence[Cue], pts_seconds: Sequence[float]
) -> tuple[list[Cue], str | None]:
    """The cues near the frames that have room in a prompt, and a sentence if others have none."""
    near = cues_near(cues, pts_seconds)
    kept = cues_within(near, _MOST_CHARACTERS)
    if len(kept) == len(near):
        return kept, None
    return kept, f"{len(kept)} of {len(near)} subtitles near the frames have room"
