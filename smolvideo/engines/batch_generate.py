"""Batched generation: every decode step adds a token to each unfinished answer.

Decoding is bound by reading the weights, so one step for eight sequences costs little more than for
one.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from smolvideo.answer import Answer
from smolvideo.engines.base import GenerationOptions
from smolvideo.engines.devices import peak_memory_bytes, reset_peak_memory, wrap_torch_errors
from smolvideo.engines.generate import GenerationState, check_context
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, Progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch

    from smolvideo.network import BatchedKVCache, BatchedPagedKVCache, KVCache, SmolVLM

Encode = Callable[[Prompt], int]
"""Encode the frames of a prompt; return how many features came from the cache."""

Prefill = Callable[[Prompt], "tuple[torch.Tensor, KVCache]"]
"""Prefill a prompt; return the logits [vocabulary] after it, and its KV cache."""


def generate_batch(
    network: "SmolVLM",
    checkpoint: Checkpoint,
    prompts: Sequence[Prompt],
    generation: GenerationOptions,
    *,
    encode: Encode,
    read: Prefill,
    prefix_length: int,
    on_progress: OnProgress,
) -> list[Answer]:
    """Return the answers to ``prompts``, which share the first ``prefix_length`` tokens.

    ``seconds`` of an answer: encoding and prefill of its own prompt, and the time until its last
    token, in full, although the answers share the decode steps.
    """
    from smolvideo.network.compilation import wait_for_kernels

    for prompt in prompts:
        check_context(prompt, checkpoint, generation.max_new_tokens)
    if not prompts:
        return []
    device = _device(network)
    reset_peak_memory(device)
    growing = [GenerationState(checkpoint, prompt, generation) for prompt in prompts]
    texts = [""] * len(prompts)
    batch: BatchedKVCache | BatchedPagedKVCache | None = None
    # prefill each prompt; the first one's cache holds the shared prefix
    for place, (prompt, answer) in enumerate(zip(prompts, growing, strict=True)):
        with answer.time_stage("encode"):
            answer.frames_from_cache = encode(prompt)
        on_progress(Progress("prefill", place, len(prompts)))
        with answer.time_stage("prefill"):
            logits, cache = read(prompt)
            texts[place] = answer.append_token(logits)
            if batch is None:
                own_rows = max(len(prompt.token_ids) for prompt in prompts) - prefix_length
                batch = _empty_batch(
                    network,
                    cache,
                    prefix_length,
                    len(prompts),
                    own_rows + generation.max_new_tokens,
                )
            batch.load_sequence(place, cache)
            del cache
    on_progress(Progress("prefill", len(prompts), len(prompts)))
    assert batch is not None
    wait_for_kernels(network.decode_kernels, on_progress)
    # decode all answers together
    _decode_loop(network, batch, growing, texts, on_progress)
    for answer in growing:
        answer.peak_memory_bytes = peak_memory_bytes(device)
    return [answer.finish(text) for answer, text in zip(growing, texts, strict=True)]


def _device(network: "SmolVLM") -> "torch.device":
    return network.model.text_model.embed_tokens.weight.device


def _empty_batch(
    network: "SmolVLM", cache: "KVCache", prefix_length: int, sequences: int, capacity: int
) -> "BatchedKVCache | BatchedPagedKVCache":
    with wrap_torch_errors(str(_device(network)), "reading the prompts"):
        return network.new_batch_cache(cache.fork(prefix_length), sequences, capacity)


def _decode_loop(
    network: "SmolVLM",
    batch: "BatchedKVCache | BatchedPagedKVCache",
    growing: Sequence[GenerationState],
    texts: list[str],
    on_progress: OnProgress,
) -> None:
    """Decode until every answer has ended; append the pieces to ``texts``."""
    import torch

    device = _device(network)
    inside = list(range(len(growing)))  # sequences in the batch, in its order
    while True:
        on_progress(Progress("generate", sum(answer.tokens for answer in growing)))
        unfinished = [place for place in inside if growing[place].stop_reason is None]
        if not unfinished:
            return
        with ExitStack() as clocks:
            for place in unfinished:
                clocks.enter_context(growing[place].time_stage("generate"))
            with wrap_torch_errors(str(device), "answering"), torch.inference_mode():
                # Copying the KV cache costs about a step: worth it once half of the answers have
                # ended.
                if 2 * len(unfinished) <= len(inside):
                    batch.select_sequences([inside.index(place) for place in unfinished])
                    inside = unfinished
                # one decode step; finished sequences in the batch are ignored
                last = torch.tensor([growing[place].take_pending() for place in inside])
                last = last.to(device)
                vectors = network.model.text_model.embed_tokens(last)
                logits = network.decode_batch(vectors, batch)
            for row, place in enumerate(inside):
                if growing[place].stop_reason is None and not growing[place].pending_ids:
                    texts[place] += growing[place].append_token(logits[row])
