"""The way from a prompt to its answer, token by token: the same for every engine.

An engine brings three things: how frames become rows, how the prompt is read, and how one more
token is read. Choosing tokens, text, stop texts, progress and time are the same for all.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from smolvideo.answer import AnswerStream
from smolvideo.engines.base import GenerationOptions
from smolvideo.engines.devices import peak_memory_bytes, reset_peak_memory
from smolvideo.engines.growing import GrowingAnswer
from smolvideo.errors import PromptError
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
    encode: Callable[[], tuple[Rows, int]],
    decode: Callable[[Rows], Decoding],
    on_progress: OnProgress,
) -> AnswerStream:
    """The answer to ``prompt``, made while it is iterated; see ``Engine.stream``.

    ``encode`` also says how many of the frames came from the cache.
    """
    check_fits(prompt, checkpoint, generation.max_new_tokens)
    growing = GrowingAnswer(checkpoint, prompt, generation)

    def pieces() -> Iterator[str]:
        reset_peak_memory(device)
        with growing.timed("encode"):
            rows, growing.frames_from_cache = encode()
        on_progress(Progress("read"))
        with growing.timed("read"):
            decoding = decode(rows)
            del rows
            piece = growing.take(decoding.read())
        on_progress(Progress("read", 1, 1))
        while True:
            on_progress(Progress("answer", growing.tokens))
            if piece:
                yield piece
            if growing.stop_reason is not None:
                break
            with growing.timed("answer"):
                piece = growing.take(decoding.step(growing.last_token_id))
        growing.peak_memory_bytes = peak_memory_bytes(device)

    return AnswerStream(pieces(), growing.finish)


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
