"""Subtitles: sidecar files and embedded tracks, parsed, cleaned and limited to the frames' times.

In the order of processing:

encodings.py    bytes → text
timed.py        SubRip, WebVTT, Advanced SubStation, MicroDVD
structured.py   TTML, YouTube's XML and JSON, SAMI
cues.py         removal of markup, control characters
                and repeats, selection near given times, limit of characters
load.py         the whole: choice of the file next to a video, format detection, a file or a
                track → cues
"""

from smolvideo.subtitles.cues import Cue, cues_near, cues_within, format_cues
from smolvideo.subtitles.load import (
    SUBTITLE_SUFFIXES,
    cues_of_track,
    find_sidecar,
    is_sidecar,
    parse_subtitles,
    read_subtitles,
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
