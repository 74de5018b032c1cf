"""``--subtitles``: what is said around the frames, as text for the prompt."""

from collections.abc import Sequence
from pathlib import Path

from smolvideo.errors import SourceError, UsageError
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, choose_times
from smolvideo.source import VideoSource
from smolvideo.subtitles import cues_near, find_sidecar, format_cues, read_subtitles

AUTO = "auto"


def subtitles_near(
    wanted: str, sources: Sequence[VideoSource], sampling: FrameSampling, *, reader: str
) -> str:
    """The cues near the frames that ``sampling`` chooses, one a line; empty if nothing is said.

    ``wanted`` is a file, or ``auto`` for the one beside the video.

    Raises:
        UsageError: there is not just one video.
        SourceError: no subtitles there, or none that can be read.
        ReaderError: the video cannot be read.
    """
    if len(sources) != 1 or sources[0].kind != "video":
        raise UsageError("`--subtitles` needs one video, and only one, to belong to")
    video = sources[0]
    path = find_sidecar(video.path) if wanted == AUTO else Path(wanted)
    if path is None:
        raise SourceError(
            f"no subtitles beside `{video.name}`", hint="name the file: `--subtitles FILE`"
        )
    cues = read_subtitles(path)
    with open_video(video.path, kind=video.kind, reader=reader) as opened:
        times = choose_times(opened, sampling)
    return format_cues(cues_near(cues, times))
