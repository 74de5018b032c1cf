"""How many questions of each kind a training video gets; no torch."""

from dataclasses import dataclass

from smolvideo.evals.protocol import format_question
from smolvideo.evals.protocol.prompts import PromptName


@dataclass(frozen=True)
class QuestionMix:
    """Up to ``questions`` about each video, and up to ``single_frame_questions`` more.

    Of ``questions``, ``choices`` have options, in the prompt ``prompt_name``, and
    ``text_exercises`` need no video. ``hard_type_probability`` is the probability that one of the
    hard types is taken before the others, for each of them. A single-frame question asks what one
    moment shows, or which moment shows something. ``follow_up_probability`` is the probability that
    a question comes later in a conversation, after others about the same video.
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
        """The text before the frames, for questions with options in this prompt."""
        asked = format_question(self.prompt_name, "cinepile", "", (), None)
        return asked.instruction or "" if self.choices else ""
