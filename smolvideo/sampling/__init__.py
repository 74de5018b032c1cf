"""Frame sampling: choose time stamps by strategy, and decode the frames at them.

options.py          sampling options, and times as users write them
sample.py           strategies as arithmetic on times, and decoding of the chosen frames
scene_detection.py  the strategies ``scenes`` and ``changes``, which scan thumbnails
"""

from smolvideo.frames import DamageCount
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
