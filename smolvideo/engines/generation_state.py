"""State of one answer during generation: its tokens, text, stop reason and timings."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from smolvideo.answer import Answer, StopReason, Usage
from smolvideo.engines.answer_notices import notices_on
from smolvideo.engines.base import GenerationOptions
from smolvideo.engines.detokenizer import StopStringBuffer, StreamingDetokenizer
from smolvideo.engines.token_sampler import TokenSampler, check_logits
from smolvideo.errors import ModelError
from smolvideo.models import Checkpoint
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch


class GenerationState:
    """Sample tokens from logits, detokenize them, and stop at the end.

    ``stop_reason`` is None until the answer ends. ``seconds`` are the times of each stage so far,
    without the time that the consumer of the text takes.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prompt: Prompt,
        generation: GenerationOptions,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.token_ids: list[int] = []
        self.stop_reason: StopReason | None = None
        self.frames_from_cache = 0
        self.peak_memory_bytes: int | None = None
        # every stage has an entry, even where the first token is the last
        self.seconds: dict[str, float] = {"encode": 0.0, "prefill": 0.0, "generate": 0.0}
        self._checkpoint = checkpoint
        self._prompt = prompt
        self._most_tokens = generation.max_new_tokens
        self._next_token = TokenSampler(generation, prompt.token_ids)
        self._token_text = StreamingDetokenizer(checkpoint.tokenizer)
        self._answer_text = StopStringBuffer(generation.stop)
        self._clock = clock

    @property
    def tokens(self) -> int:
        """Number of generated tokens, the end token included."""
        return len(self.token_ids)

    @property
    def last_token_id(self) -> int:
        """The latest token."""
        return self.token_ids[-1]

    def append_token(self, logits: "torch.Tensor") -> str:
        """Sample a token from ``logits`` [vocabulary]; return the text that is final now, often
        none."""
        check_logits(logits)
        self.token_ids.append(self._next_token.sample(logits))
        if self.last_token_id in self._checkpoint.eos_token_ids:
            self.stop_reason = "end"
            return self._answer_text.finish()
        piece = self._answer_text.push(self._token_text.push(self.last_token_id))
        if self._answer_text.stopped:
            self.stop_reason = "stop_string"
        elif self.tokens == self._most_tokens:
            self.stop_reason = "length"
            piece += self._answer_text.finish()
        return piece

    def finish(self, text: str) -> Answer:
        """Return the answer with ``text``, all pieces joined. Raises ModelError if it has not
        ended."""
        if self.stop_reason is None:
            raise ModelError("the answer was broken off before its end")
        usage = Usage(
            prompt_tokens=len(self._prompt.token_ids),
            answer_tokens=self.tokens,
            context_tokens=self._checkpoint.context_tokens,
            frames=len(self._prompt.images),
            frames_from_cache=self.frames_from_cache,
            seconds=dict(self.seconds),
            peak_memory_bytes=self.peak_memory_bytes,
        )
        notices = notices_on(
            text, self.stop_reason, self.token_ids, incomplete=self._token_text.incomplete
        )
        return Answer(text, self.stop_reason if text else "empty", usage, notices)

    @contextmanager
    def time_stage(self, stage: str) -> Iterator[None]:
        """Add the time of the block to ``stage``."""
        started = self._clock()
        try:
            yield
        finally:
            self.seconds[stage] += self._clock() - started
