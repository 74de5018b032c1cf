"""Which exam it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExamOptions:
    """``videos`` drawn from ``seed``; the same paper for every model, whatever else is set."""

    videos: int = 240
    seed: int = 2026
