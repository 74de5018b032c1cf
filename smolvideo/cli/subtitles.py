"""``--subtitles``: what is said around the frames, as text for the prompt."""

from collections.abc import Callable, Sequence
from pathlib import Path

from smolvideo.errors import SourceError, UsageError
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, choose_times
from smolvideo.source import VideoSource
from smolvideo.subtitles import (
    cues_near,
    cues_of_track,
    cues_within,
    find_sidecar,
    format_cues,
    read_subtitles,
)

AUTO = "auto"


MOST_CHARACTERS = 4000
"""About a thousand tokens: beside fifty frames, every context has room for so many."""


def subtitles_near(
    wanted: str,
    sources: Sequence[VideoSource],
    sampling: FrameSampling,
    *,
    reader: str,
    on_note: Callable[[str], None] = lambda _: None,
) -> str:
    """The cues near the frames that ``sampling`` chooses, one a line; empty if nothing is said.

    ``wanted`` is a file, or ``auto`` for the one beside the video, else the text track inside it.
    ``on_note`` hears of cues that have no room.

    Raises:
        UsageError: there is not just one video.
        SourceError: no subtitles there, or none that can be read.
        ReaderError: the video cannot be read.
    """
    if len(sources) != 1 or sources[0].kind != "video":
        raise UsageError("`--subtitles` needs one video, and only one, to belong to")
    video = sources[0]
    path = find_sidecar(video.path) if wanted == AUTO else Path(wanted)
    cues = read_subtitles(path) if path is not None else []
    with open_video(video.path, kind=video.kind, reader=reader) as opened:
        if path is None:
            cues = cues_of_track(opened.text_track())
        times = choose_times(opened, sampling)
    if not cues:
        raise SourceError(
            f"no subtitles beside `{video.name}`, and no text track in it",
            hint="name the file: `--subtitles FILE`",
        )
    near = cues_near(cues, times)
    kept = cues_within(near, MOST_CHARACTERS)
    if len(kept) < len(near):
        on_note(f"{len(kept)} of {len(near)} subtitles near the frames have room")
    return format_cues(kept)
