"""Subtitles of an indexed video, and the state of the file that they are from.

The hash of a video does not change when a subtitle file appears beside it or is edited: the index
knows the file by its name, size and times.
"""

import json
from functools import lru_cache
from pathlib import Path

from smolvideo.errors import SmolVideoError
from smolvideo.pipeline.subtitles import AUTO, read_cues
from smolvideo.source import VideoSource
from smolvideo.subtitles import SUBTITLE_SUFFIXES, Cue, find_sidecar
from smolvideo.summaries.loader import file_stat


def video_cues(source: VideoSource, reader: str) -> tuple[tuple[Cue, ...], tuple[str, ...]]:
    """Return the subtitles of a video, of a file beside it or its text track, and notices; empty
    where it has none."""
    heard: list[str] = []
    try:
        cues = read_cues(AUTO, source, reader=reader, on_notice=heard.append)
    except SmolVideoError:  # none, or none that can be read: the pictures are indexed all the same
        return (), ()
    return tuple(cues), tuple(heard)


def subtitle_state(video: Path) -> str:
    """Return name, size and times of the subtitle file beside a video, as JSON; empty without
    one."""
    folder = video.parent
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return ""
    found = find_sidecar(video) if _has_subtitles(folder, changed) else None
    return "" if found is None else json.dumps([found.name, *file_stat(found)])


@lru_cache(maxsize=64)
def _has_subtitles(folder: Path, changed: int) -> bool:
    """Whether a folder has any subtitle file; most have none, and may have thousands of videos.

    ``changed``: its modification time, part of the key.
    """
    try:
        return any(one.suffix.lower() in SUBTITLE_SUFFIXES for one in folder.iterdir())
    except OSError:
        return False
