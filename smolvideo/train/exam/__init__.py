"""Evaluation of nano: held-out scenes as mp4 files, asked about like any video.

run.py              answers on disk, for resuming; right answers and accuracies
evaluate.py         a checkpoint's answers, seeing and blind
videos.py           the videos of each part and their questions
wordings.py         new wordings, filled from a scene; new_wordings.toml has them
statements.py       statements for yes-no questions, true or false as wanted
second_renderer.py  other drawings of the same scenes, in other codecs
unanswerable.py     questions that no drawing answers, from unanswerable.toml
"""

from dataclasses import dataclass
from typing import Literal, get_args

ExamPart = Literal["old", "wordings", "renderer", "unanswerable"]
"""``old``: questions of the templates and questions with options. ``wordings``: the same videos,
new wordings. ``renderer``: other drawings, questions of the templates. ``unanswerable``: the videos
of ``old``, questions that no drawing answers."""
PARTS: tuple[ExamPart, ...] = get_args(ExamPart)


# Here, because `--help` reads its defaults: this module imports no media library.
@dataclass(frozen=True)
class ExamOptions:
    """``videos`` sampled from ``seed``; every model gets the same videos and questions."""

    videos: int = 240
    seed: int = 2026
