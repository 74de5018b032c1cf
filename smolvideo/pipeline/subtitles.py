"""Subtitle cues for a prompt: from a file, or from the text track of the video."""

from collections.abc import Callable, Sequence
from pathlib import Path

from smolvideo.errors import SourceError, UsageError
from smolvideo.file_names import existing_path
from smolvideo.media_types import CaptionKind
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, choose_times
from smolvideo.sanitize import display_path
from smolvideo.source import VideoSource
from smolvideo.subtitles import (
    Cue,
    cues_near,
    cues_of_track,
    cues_within,
    find_sidecar,
    format_cues,
    read_subtitles,
    sidecar_kind,
)

AUTO = "auto"
"""The subtitle file next to the video, otherwise its text track."""

_MAX_CHARACTERS = 4000
"""About a thousand tokens, which fit every context together with fifty frames."""


def read_cues(
    path_or_auto: str,
    video: VideoSource,
    *,
    reader: str,
    on_notice: Callable[[str], None] = lambda _: None,
) -> list[Cue]:
    """Read the cues of the file ``path_or_auto``, or those that ``auto`` finds.

    ``on_notice`` receives messages for the user: guesses, skipped cues, and subtitles that cover
    only a part of the speech (such as forced ones).

    Raises:
        SourceError: no subtitles found, or none that can be read.
        ReaderError: the video cannot be read.
    """

    def frame_rate() -> float | None:
        with open_video(video.path, kind=video.kind, reader=reader) as opened:
            return opened.metadata.average_fps

    # A complete subtitle file comes first.
    path = find_sidecar(video.path) if path_or_auto == AUTO else _file_named(path_or_auto)
    partial = path_or_auto == AUTO and (
        path is not None and sidecar_kind(path, video.path) is CaptionKind.PARTIAL
    )
    if path is not None and not partial:
        return read_subtitles(path, frame_rate=frame_rate, on_notice=on_notice)
    # Otherwise a complete text track, then a partial file, then a partial track.
    with open_video(video.path, kind=video.kind, reader=reader) as opened:
        track = opened.text_track()
    only_partial = all(text.partial for text in track)
    cues = [] if path is not None and only_partial else cues_of_track(track, on_notice=on_notice)
    if path is not None and not cues:
        on_notice(_only_partial(display_path(path.name)))
        return read_subtitles(path, frame_rate=frame_rate, on_notice=on_notice)
    if cues and only_partial:
        on_notice(_only_partial(f"a text track of {display_path(video.name)}"))
    if not cues:
        raise SourceError(
            f"no subtitles beside `{video.name}`, and no text track in it",
            hint="name the file with the subtitles",
        )
    return cues


def _only_partial(found: str) -> str:
    return (
        f"only forced subtitles (or signs, songs, commentary) were found: {found};"
        " they hold a part of what is said"
    )


def _file_named(path_or_auto: str) -> Path:
    return existing_path(Path(path_or_auto).expanduser())


def limit_cues_for_prompt(
    cues: Sequence[Cue], pts_seconds: Sequence[float]
) -> tuple[list[Cue], str | None]:
    """Return the cues near the frames within the character limit, and a notice if some are cut."""
    near = cues_near(cues, pts_seconds)
    kept = cues_within(near, _MAX_CHARACTERS)
    if len(kept) == len(near):
        return kept, None
    return kept, f"{len(kept)} of {len(near)} subtitles near the frames have room"


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
