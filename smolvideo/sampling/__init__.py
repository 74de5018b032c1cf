"""Which frames of a video to look at, and taking them.

choosing.py   the options, the arithmetic of times, and the one function that touches a reader
content.py    strategies that look at the pictures first: scenes, changes
"""

from smolvideo.sampling.choosing import (
    FrameSampling,
    Seek,
    Share,
    Strategy,
    TimedFrames,
    choose_times,
    parse_time,
    sample_frames,
    sample_times,
    smolvlm2_indices,
    v1_indices,
    window_of,
)

__all__ = [
    "FrameSampling",
    "Seek",
    "Share",
    "Strategy",
    "TimedFrames",
    "choose_times",
    "parse_time",
    "sample_frames",
    "sample_times",
    "smolvlm2_indices",
    "v1_indices",
    "window_of",
]
