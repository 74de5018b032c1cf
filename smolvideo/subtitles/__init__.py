"""Subtitles: sidecar files and embedded tracks, parsed, cleaned and limited to the frames' times.

In the order of processing:

sidecars.py     choice of the subtitle file next to a video
encodings.py    bytes → text
timed.py        SubRip, WebVTT, Advanced SubStation, MicroDVD
structured.py   TTML, YouTube's XML and JSON, SAMI
cues.py         removal of markup, control characters
                and repeats, selection near given times, limit of characters
load.py         the whole: format detection, a file or a track → cues
"""

from smolvideo.subtitles.cues import Cue, cues_near, cues_within, format_cues
from smolvideo.subtitles.load import cues_of_track, parse_subtitles, read_subtitles
from smolvideo.subtitles.sidecars import (
    SUBTITLE_SUFFIXES,
    find_sidecar,
    is_sidecar,
    sidecar_kind,
)

__all__ = [
    "SUBTITLE_SUFFIXES",
    "Cue",
    "cues_near",
    "cues_of_track",
    "cues_within",
    "find_sidecar",
    "format_cues",
    "is_sidecar",
    "parse_subtitles",
    "read_subtitles",
    "sidecar_kind",
]
