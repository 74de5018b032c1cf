"""Frames of one source alone, without a prompt: for display, for export, and for tests."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from smolvideo.errors import UsageError
from smolvideo.files import file_state, read_unchanged
from smolvideo.frames import FrameBatch, Images
from smolvideo.progress import OnProgress, no_progress
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, sample_frames
from smolvideo.source import VideoSource, resolve_all


def load_frames(
    source: VideoSource | str | Path,
    sampling: FrameSampling = FrameSampling(),  # noqa: B008 -- frozen
    *,
    reader: str = "auto",
    fit: Callable[[Images], Images] | None = None,
    geometry: str | None = None,
    times: Sequence[float] | None = None,
    longest: int | None = None,
    on_progress: OnProgress = no_progress,
) -> FrameBatch:
    """Decode the sampled frames of one source, or the frames on screen at ``times``.

    Raises SourceError or ReaderError, as ``resolve_source``, ``open_video`` and ``sample_frames``
    do, and UsageError for a folder of several videos.
    """
    one, *more = resolve_all(source, on_progress=on_progress)
    if more:
        raise UsageError(f"`{source}` holds {1 + len(more)} videos: name one of them")

    def load() -> FrameBatch:
        state = file_state(one.path)
        with open_video(one.path, kind=one.kind, reader=reader) as opened:
            batch = sample_frames(
                opened,
                sampling,
                times=times,
                transform=fit,
                geometry=geometry,
                max_side=longest,
                on_progress=on_progress,
            )
        return replace(batch, state=state)

    return read_unchanged(load, one.path)
