"""What an engine is, and how it is told to generate."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from smolvideo.answer import AnswerStream
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Prompt


@dataclass(frozen=True)
class GenerationOptions:
    """How tokens are chosen, and when the answer ends. Raises UsageError for what makes no sense.

    ``temperature`` 0 takes the likeliest token each time (greedy); above 0 tokens are drawn at
    random, from the fewest that together have the probability ``top_p``. ``repetition_penalty``
    above 1 makes tokens of the prompt and of the answer so far less likely (CTRL, arXiv
    1909.05858). ``stop`` are texts at which the answer ends; they are not part of it.
    ``max_new_tokens`` counts the end token.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.max_new_tokens, int) or self.max_new_tokens < 1:
            raise UsageError(
                f"max-new-tokens must be a whole number above 0, not {self.max_new_tokens!r}"
            )
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature must be 0 or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1, not {self.top_p}")
        if not 0 < self.repetition_penalty < float("inf"):
            raise UsageError(f"repetition-penalty must be above 0, not {self.repetition_penalty}")
        if self.seed is not None and not (isinstance(self.seed, int) and 0 <= self.seed < 2**63):
            raise UsageError(f"seed must be between 0 and 2^63 - 1, not {self.seed!r}")
        # A text in place of the tuple would end the answer at each of its letters.
        if not isinstance(self.stop, tuple):
            raise UsageError(f"stop must be a tuple of texts, not {self.stop!r}")
        if not all(self.stop):
            raise UsageError("the text to stop at must not be empty", hint="leave `--stop` out")

    @property
    def is_greedy(self) -> bool:
        """True where the same prompt always gives the same answer, whatever the seed."""
        return self.temperature == 0

    def with_drawn_seed(self) -> "GenerationOptions":
        """These options with a seed drawn where one is needed and none was given.

        What is recorded can then be repeated.
        """
        if self.is_greedy or self.seed is not None:
            return self
        return replace(self, seed=secrets.randbelow(2**32))


class StreamingEngine(Protocol):
    """A loaded checkpoint that answers prompts, one at a time.

    ``device`` and ``dtype`` are what it runs on (``cpu``, ``cuda:0``; ``bfloat16``), never
    ``auto``; ``quantise`` is how weights are kept: ``none`` (in the dtype), ``int8`` (most of
    them), or ``int4`` (those of the decoder's layers, others as with int8).
    ``load_seconds`` is what loading the weights took.
    """

    @property
    def name(self) -> str: ...
    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def quantise(self) -> str: ...
    @property
    def load_seconds(self) -> float: ...

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = ...,
        *,
        on_progress: OnProgress = no_progress,
    ) -> AnswerStream:
        """The answer to ``prompt``, made while it is iterated.

        Raises PromptError at once where prompt and answer do not fit the context together, and
        ModelError while iterating where the device fails or runs out of memory.
        """
        ...


class Engine(StreamingEngine, Protocol):
    """An engine that also says how likely given answers are."""

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        """The natural logarithm of the probability of each text as the answer to ``prompt``.

        Texts are what ``Answer.text`` would be: outer blanks make no difference, and the blank
        that the checkpoint writes before an answer is added (see ``prompt.answer_ids``). A text's
        probability is the product of those of its tokens, and of the end of the turn after them
        (any of the checkpoint's ``eos_token_ids``): only so can an answer be compared with one that
        begins like it. Without ``with_end`` it is that of an answer that begins with the text,
        such as the letter of an option. Nothing is divided by the length: of two texts the longer
        one tends to be less likely. Temperature and penalties play no part.

        Raises UsageError for one text in place of several and for none, PromptError for a text
        that is empty or blank and where the longest does not fit the context, ModelError where the
        device fails or computes no finite numbers.
        """
        ...


def format_dtype(dtype: str, quantise: str = "none") -> str:
    """``bfloat16``, or ``bfloat16 with int8 weights``."""
    return dtype if quantise == "none" else f"{dtype} with {quantise} weights"


EngineLoader = Callable[..., Engine]
"""``(checkpoint, *, device, dtype, quantise, cache, on_progress) -> Engine``.

Raises ModelError or UsageError."""
