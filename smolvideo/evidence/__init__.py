"""Evidence for an answer: the frames that carry it, and controls without or with other frames.

answer_scores.py  scores of one answer given some of its frames
sufficiency.py    the frames that carry an answer, by halving groups of frames
"""

from smolvideo.evidence.answer_scores import (
    AnswerScores,
    FramePosition,
    frames_of_evidence,
    require_sessions,
)
from smolvideo.evidence.sufficiency import MAX_READINGS, explain_answer

__all__ = [
    "MAX_READINGS",
    "AnswerScores",
    "FramePosition",
    "explain_answer",
    "frames_of_evidence",
    "require_sessions",
]
