"""``--subtitles``: subtitle cues near the sampled frames, as text for the prompt."""

from collections.abc import Callable, Sequence

from smolvideo.errors import UsageError
from smolvideo.pipeline.subtitles import limit_cues_for_prompt, read_cues
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, choose_times
from smolvideo.source import VideoSource
from smolvideo.subtitles import format_cues


def subtitles_for_sampling(
    wanted: str,
    sources: Sequence[VideoSource],
    sampling: FrameSampling,
    *,
    reader: str,
    on_notice: Callable[[str], None] = lambda _: None,
) -> str:
    """Return the cues near the frames chosen by ``sampling``, one per line; empty without any.

    ``wanted`` is a file, or ``auto`` for the file next to the video, otherwise its text track.
    ``on_notice`` receives guesses, skipped cues, and cues beyond the character limit.

    Raises:
        UsageError: the sources are not exactly one video.
        SourceError: no subtitles found, or none that can be read.
        ReaderError: the video cannot be read.
    """
    if len(sources) != 1 or sources[0].kind != "video":
        raise UsageError("`--subtitles` needs one video, and only one, to belong to")
    video = sources[0]
    cues = read_cues(wanted, video, reader=reader, on_notice=on_notice)
    with open_video(video.path, kind=video.kind, reader=reader) as opened:
        times = choose_times(opened, sampling)
    kept, note = limit_cues_for_prompt(cues, times)
    if note is not None:
        on_notice(note)
    return format_cues(kept)
