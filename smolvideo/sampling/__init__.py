"""Which frames of a video to look at, and taking them.

options.py    what can be asked for
damage.py     frames that damage has reached, counted
choosing.py   the arithmetic of times, and taking frames from a reader
content.py    strategies that look at the pictures first: scenes, changes
"""

from smolvideo.sampling.choosing import (
    TimedFrames,
    choose_times,
    no_window_in,
    sample_frames,
    sample_times,
    smolvlm2_indices,
    v1_indices,
    window_of,
)
from smolvideo.sampling.damage import DamageCount
from smolvideo.sampling.options import FrameSampling, Seek, Share, Strategy, parse_time

__all__ = [
    "DamageCount",
    "FrameSampling",
    "Seek",
    "Share",
    "Strategy",
    "TimedFrames",
    "choose_times",
    "no_window_in",
    "parse_time",
    "sample_frames",
    "sample_times",
    "smolvlm2_indices",
    "v1_indices",
    "window_of",
]
