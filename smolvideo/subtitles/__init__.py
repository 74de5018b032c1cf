"""Subtitles: files beside a video and tracks inside it, read, cleaned, and cut down to the frames.

In the order of a file's way:

sidecars.py     which file beside a video holds its subtitles
encodings.py    bytes → text
formats.py      text → blocks: which of the readers below it is for
timed.py        SubRip and WebVTT
substation.py   Advanced SubStation
marked_up.py    TTML, YouTube's XML and JSON, SAMI
microdvd.py     MicroDVD, which counts frames
plain_text.py   lines as they are read on screen: no tags, no control characters
cues.py         cues without repeats, near given times, in as many characters as have room
reading.py      all of these joined
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
