"""Evidence for an answer: the frames that carry it, and controls without or with other frames.

answer_scores.py  scores of one answer given some of its frames
controls.py       the same question with grey, shuffled and shifted frames
other_frames.py   a prompt with other frames in place of its own
sufficiency.py    the frames that carry an answer, by halving groups of frames
"""

from smolvideo.evidence.answer_scores import (
    AnswerScores,
    FramePosition,
    frames_of_evidence,
    open_session,
    require_sessions,
)
from smolvideo.evidence.controls import AnswerPrompt, answers_alike, check_answer, is_same_answer
from smolvideo.evidence.other_frames import blank_prompt, frame_batches
from smolvideo.evidence.sufficiency import MAX_READINGS, explain_answer

__all__ = [
    "MAX_READINGS",
    "AnswerPrompt",
    "AnswerScores",
    "FramePosition",
    "answers_alike",
    "blank_prompt",
    "check_answer",
    "explain_answer",
    "frame_batches",
    "frames_of_evidence",
    "is_same_answer",
    "open_session",
    "require_sessions",
]
