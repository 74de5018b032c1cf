"""Options of nano's evaluation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExamOptions:
    """``videos`` sampled from ``seed``; every model gets the same videos and questions."""

    videos: int = 240
    seed: int = 2026
