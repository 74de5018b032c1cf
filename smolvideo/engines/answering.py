"""The way from a prompt to its answer, token by token: the same for every engine.

An engine brings three things: how frames become rows, how the prompt is read, and how one more
token is read. Choosing tokens, text, stop texts, progress and time are the same for all.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from smolvideo.answer import Answer, AnswerStream, StopReason, Usage
from smolvideo.engines.answer_text import AnswerText, TokenText
from smolvideo.engines.base import GenerationOptions
from smolvideo.engines.devices import peak_memory_bytes, reset_peak_memory
from smolvideo.engines.next_token import NextToken
from smolvideo.errors import ModelError, PromptError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, Progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch

Rows = TypeVar("Rows")
"""What an engine makes of the frames of a prompt."""


class Decoding(Protocol):
    """The language half of a network over one prompt."""

    def read(self) -> "torch.Tensor":
        """Scores [vocabulary] of the token after the prompt."""
        ...

    def step(self, token_id: int) -> "torch.Tensor":
        """Scores [vocabulary] of the token after ``token_id``."""
        ...


def stream_tokens(
    checkpoint: Checkpoint,
    prompt: Prompt,
    generation: GenerationOptions,
    *,
    device: "torch.device",
    encode: Callable[[], Rows],
    decode: Callable[[Rows], Decoding],
    on_progress: OnProgress,
) -> AnswerStream:
    """The answer to ``prompt``, made while it is iterated; see ``Engine.stream``."""
    check_fits(prompt, checkpoint, generation.max_new_tokens)
    run = Run()

    def finish(text: str) -> Answer:
        if run.stop_reason is None:
            raise ModelError("the answer was broken off before its end")
        usage = Usage(
            prompt_tokens=len(prompt.token_ids),
            answer_tokens=run.answer_tokens,
            context_tokens=checkpoint.context_tokens,
            frames=len(prompt.images),
            seconds=dict(run.seconds),
            peak_memory_bytes=run.peak_memory_bytes,
        )
        return Answer(text, run.stop_reason, usage)

    def pieces() -> Iterator[str]:
        reset_peak_memory(device)
        next_token = NextToken(generation, prompt.token_ids)
        with run.timed("encode"):
            rows = encode()
        on_progress(Progress("read"))
        with run.timed("read"):
            decoding = decode(rows)
            del rows
            token_id = next_token.choose(_checked(decoding.read(), device))
        on_progress(Progress("read", 1, 1))

        def step(token_id: int) -> int:
            return next_token.choose(_checked(decoding.step(token_id), device))

        yield from _text(checkpoint, generation, run, token_id, step, on_progress)
        run.peak_memory_bytes = peak_memory_bytes(device)

    return AnswerStream(pieces(), finish)


def _text(
    checkpoint: Checkpoint,
    generation: GenerationOptions,
    run: "Run",
    token_id: int,
    step: Callable[[int], int],
    on_progress: OnProgress,
) -> Iterator[str]:
    """The text of the answer, as far as it is certain after each token; fills ``run``."""
    token_text, answer_text = TokenText(checkpoint.tokenizer), AnswerText(generation.stop)
    run.seconds["answer"] = 0.0  # all stages are told, even where the first token is the last
    while run.stop_reason is None:
        run.answer_tokens += 1
        on_progress(Progress("answer", run.answer_tokens))
        if token_id in checkpoint.eos_token_ids:
            run.stop_reason = "end"
            break
        if piece := answer_text.push(token_text.push(token_id)):
            yield piece
        if answer_text.stopped:
            run.stop_reason = "stop_string"
        elif run.answer_tokens == generation.max_new_tokens:
            run.stop_reason = "length"
        else:
            with run.timed("answer"):
                token_id = step(token_id)
    if piece := answer_text.finish():
        yield piece


@dataclass
class Run:
    """What one answer has cost so far, and why it ended; the consumer's own time is not counted."""

    answer_tokens: int = 0
    stop_reason: StopReason | None = None
    peak_memory_bytes: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.perf_counter

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = self.clock()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + self.clock() - started


def _checked(scores: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """The scores, if they are numbers; asking also waits for a GPU, so that it fails here."""
    if bool(scores.max().isnan()):  # the largest of numbers and no numbers is no number
        dtype = str(scores.dtype).removeprefix("torch.")
        raise ModelError(
            f"`{device}` computed no numbers in {dtype}",
            hint="run with `--dtype float32`, or check the weights",
        )
    return scores


def check_fits(prompt: Prompt, checkpoint: Checkpoint, new_tokens: int) -> None:
    """The prompt's images fill its image tokens, and prompt and answer fit the context."""
    tokens, room = len(prompt.token_ids), checkpoint.context_tokens - len(prompt.token_ids)
    if room < new_tokens:
        raise PromptError(
            f"the prompt takes {tokens:,} tokens and the answer {new_tokens:,}: "
            f"more than the {checkpoint.context_tokens:,} that `{checkpoint.name}` can hold",
            hint="ask for fewer frames (`--max-frames`) or a shorter answer (`--max-new-tokens`)",
        )
    places = prompt.token_ids.count(checkpoint.image_token_id)
    if places != len(prompt.images) * checkpoint.tokens_per_image:
        raise PromptError(
            f"the prompt has {places} places for image tokens and {len(prompt.images)} images of "
            f"{checkpoint.tokens_per_image} tokens"
        )
    size = checkpoint.image_size
    if len(prompt.images) and prompt.images.shape[1:3] != (size, size):
        height, width = prompt.images.shape[1:3]
        raise PromptError(
            f"images are {width} by {height}, and `{checkpoint.name}` sees {size} by {size}"
        )
