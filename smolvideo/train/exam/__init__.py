"""Evaluation of nano: held-out scenes as mp4 files, asked about like any video.

run.py       answers on disk, for resuming; right answers and accuracies
evaluate.py  the videos and their questions; a checkpoint's answers, seeing and blind
"""

from dataclasses import dataclass


# Here, because `--help` reads its defaults: this module imports no media library.
@dataclass(frozen=True)
class ExamOptions:
    """``videos`` sampled from ``seed``; every model gets the same videos and questions."""

    videos: int = 240
    seed: int = 2026
