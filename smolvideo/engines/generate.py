"""Generation loop of all engines: encode frames, prefill the prompt, decode token by token.

An engine provides the encoding of frames, the prefill of the prompt and the decoding of one token.
Sampling, detokenizing, stop strings, progress and timing are the same for all.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from smolvideo.answer import AnswerStream
from smolvideo.engines.base import GenerationOptions
from smolvideo.engines.devices import peak_memory_bytes, reset_peak_memory
from smolvideo.engines.generation_state import GenerationState
from smolvideo.errors import PromptError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, Progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch

Features = TypeVar("Features")
"""An engine's features of the frames of a prompt."""


class DecoderState(Protocol):
    """The decoder over one prompt, with its KV cache."""

    def prefill(self) -> "torch.Tensor":
        """Prefill the prompt; return the logits [vocabulary] of the next token."""
        ...

    def decode(self, token_id: int) -> "torch.Tensor":
        """Append ``token_id``; return the logits [vocabulary] of the next token."""
        ...


def generate(
    checkpoint: Checkpoint,
    prompt: Prompt,
    generation: GenerationOptions,
    *,
    device: "torch.device",
    encode: Callable[[], tuple[Features, int]],
    decode: Callable[[Features], DecoderState],
    on_progress: OnProgress,
) -> AnswerStream:
    """Return the answer to ``prompt``, generated while it is iterated; see ``Engine.stream``.

    ``encode`` also returns the number of frames whose features came from the cache.
    """
    check_context(prompt, checkpoint, generation.max_new_tokens)
    growing = GenerationState(checkpoint, prompt, generation)

    def pieces() -> Iterator[str]:
        """Yield the text of the answer piece by piece."""
        # encode the frames
        reset_peak_memory(device)
        with growing.time_stage("encode"):
            rows, growing.frames_from_cache = encode()
        # prefill the prompt, sample the first token
        on_progress(Progress("prefill"))
        with growing.time_stage("prefill"):
            decoding = decode(rows)
            del rows
            piece = growing.append_token(decoding.prefill())
        on_progress(Progress("prefill", 1, 1))
        # decode until the answer ends
        while True:
            on_progress(Progress("generate", growing.tokens))
            if piece:
                yield piece
            if growing.stop_reason is not None:
                break
            with growing.time_stage("generate"):
                piece = growing.append_token(decoding.decode(growing.last_token_id))
        growing.peak_memory_bytes = peak_memory_bytes(device)

    return AnswerStream(pieces(), growing.finish)


def check_context(prompt: Prompt, checkpoint: Checkpoint, new_tokens: int) -> None:
    """Check that prompt and answer fit the context, and that the images fill the image tokens.
    Raises PromptError."""
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
