"""What is asked about a video in a training; no torch."""

from dataclasses import dataclass

from smolvideo.evals.protocol import format_question
from smolvideo.evals.protocol.prompts import PromptName


@dataclass(frozen=True)
class QuestionMix:
    """Up to ``questions`` about each video, and ``single_frame_questions`` besides.

    ``choices`` of them have options, in the ``prompt_name`` of that name; ``text_exercises`` are
    exercises. ``hard_type_probability`` is the probability of each of the slow types to come before
    the others. A glimpse is an exercise in looking at one moment, or in finding it.
    ``follow_up_probability`` is the probability of a question to come later in a conversation,
    after others about the same video.
    """

    questions: int
    choices: int = 0
    text_exercises: int = 0
    prompt_name: PromptName = "plain"
    hard_type_probability: float = 0.0
    single_frame_questions: int = 0
    follow_up_probability: float = 0.0

    @property
    def instruction(self) -> str:
        """What stands before the frames, for questions with options in this form."""
        asked = format_question(self.prompt_name, "cinepile", "", (), None)
        return asked.instruction or "" if self.choices else ""
