"""What is asked about a video in a training; no torch."""

from dataclasses import dataclass

from smolvideo.evals.protocol import ask_item
from smolvideo.evals.protocol.prompts import PromptName


@dataclass(frozen=True)
class Asking:
    """Up to ``questions`` about each video, and ``glimpses`` besides.

    ``choices`` of them have options, in the ``form`` of that name; ``drills`` are exercises.
    ``favoured`` is the probability of each of the slow types to come before the others. A glimpse
    is an exercise in looking at one moment, or in finding it. ``earlier`` is the probability of a
    question to come later in a conversation, after others about the same video.
    """

    questions: int
    choices: int = 0
    drills: int = 0
    form: PromptName = "plain"
    favoured: float = 0.0
    glimpses: int = 0
    earlier: float = 0.0

    @property
    def instruction(self) -> str:
        """What stands before the frames, for questions with options in this form."""
        asked = ask_item(self.form, "cinepile", "", (), None)
        return asked.instruction or "" if self.choices else ""
