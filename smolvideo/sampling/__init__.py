"""Which frames of a video to look at, and taking them.

options.py    what can be asked for
damage.py     frames that damage has reached, counted
choosing.py   the arithmetic of times, and taking frames from a reader
content.py    strategies that look at the pictures first: scenes, changes
"""

from smolvideo.sampling.corrupt_frames import DamageCount
from smolvideo.sampling.options import FrameSampling, RelativeTime, Seek, Strategy, parse_time
from smolvideo.sampling.sample import (
    SeekableFrames,
    choose_times,
    resolve_window,
    sample_frames,
    sample_times,
    smolvlm2_indices,
    still_image_warning,
    v1_indices,
)

__all__ = [
    "DamageCount",
    "FrameSampling",
    "RelativeTime",
    "Seek",
    "SeekableFrames",
    "Strategy",
    "choose_times",
    "parse_time",
    "resolve_window",
    "sample_frames",
    "sample_times",
    "smolvlm2_indices",
    "still_image_warning",
    "v1_indices",
]
