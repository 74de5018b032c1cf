"""Options of the exam, in a module that imports no media library: ``--help`` reads them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExamOptions:
    """``videos`` sampled from ``seed``; every model gets the same videos and questions."""

    videos: int = 240
    seed: int = 2026
