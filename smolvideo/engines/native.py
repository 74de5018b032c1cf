"""The engine ``native``: our own torch modules, with a feature cache and a prefix cache.

It is several times faster than other engines on many frames and few tokens, and a second question
on the same frames costs next to nothing: see ``session``.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smolvideo.answer import Answer, AnswerStream
from smolvideo.closing import ClosedOnExit
from smolvideo.engines.arithmetic import ArithmeticCheck, ArithmeticVerdict, choose_arithmetic
from smolvideo.engines.base import GenerationOptions, OnToken, describe_engine, trim_heap
from smolvideo.engines.devices import (
    TINY_PARAMETERS,
    check_quantize,
    choose_device,
    choose_dtype,
    set_num_threads,
    wrap_torch_errors,
)
from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.feature_keys import ScopedFeatureCache, code_digest, weight_files_stat
from smolvideo.engines.frame_encoder import FrameEncoder
from smolvideo.engines.session import Session
from smolvideo.errors import ModelError
from smolvideo.models import Checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch

    from smolvideo.frames import Images
    from smolvideo.network import SmolVLM


def load_native_engine(
    checkpoint: Checkpoint,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    arithmetic: str = "auto",
    cache: FeatureCache | None = None,
    on_progress: OnProgress = no_progress,
) -> "NativeEngine":
    """Load ``checkpoint``, ready to answer. Raises as ``load_engine`` does."""
    if checkpoint.weights is None:
        raise ModelError(f"the weights of `{checkpoint.name}` were not fetched")
    started = time.perf_counter()
    on_progress(Progress("load", label=checkpoint.name))
    set_num_threads()
    from smolvideo.network.loading import load_network

    # choose device, dtype, weight format and arithmetic
    torch_device = choose_device(device)
    number_format = choose_dtype(torch_device, checkpoint.weights.parameters, dtype)
    check_quantize(quantize, torch_device, number_format)
    wanted = choose_arithmetic(
        arithmetic,
        device=torch_device,
        dtype=number_format,
        is_auto_dtype=dtype == "auto",
        parameters=checkpoint.weights.parameters,
    )
    # load the weights, with those of both arithmetics where the choice is not made yet
    state = weight_files_stat(checkpoint.weights, checkpoint.adapter)
    check = ArithmeticCheck(state, code_digest(), cache) if wanted == "auto" else None
    verdict = ArithmeticVerdict(wanted) if check is None else check.stored()
    with wrap_torch_errors(str(torch_device), "loading the weights"):
        network = load_network(
            checkpoint.folder,
            checkpoint.weights,
            device=torch_device,
            dtype=number_format,
            quantize=quantize,
            arithmetic="both" if verdict is None else verdict.arithmetic,
            float_layers=() if verdict is None else verdict.float_layers,
            adapter=checkpoint.adapter,
        )
    if torch_device.type == "cpu":
        trim_heap()
    kept = None
    if cache is not None:
        kept = ScopedFeatureCache.of_network(
            cache, checkpoint.weights, state, network, quantize=quantize, adapter=checkpoint.adapter
        )
    on_progress(Progress("load", done=1, total=1, label=checkpoint.name))
    seconds = time.perf_counter() - started
    encoder = FrameEncoder(network, kept=kept, verdict=verdict, check=check)
    return NativeEngine(checkpoint, encoder, quantize=quantize, load_seconds=seconds)


def compile_kernels(checkpoint: Checkpoint, *, on_progress: OnProgress = no_progress) -> None:
    """Compile the kernels with which the engine ``native`` runs ``checkpoint`` if nothing else is
    requested, so that the first answer need not.

    Raises ModelError where the configuration is broken or a kernel cannot be compiled.
    """
    if checkpoint.weights is None or checkpoint.weights.parameters < TINY_PARAMETERS:
        return
    device = choose_device()
    dtype = choose_dtype(device, checkpoint.weights.parameters)
    from smolvideo.network.compilation import wait_for_kernels
    from smolvideo.network.loading import start_compiling

    config = NetworkConfig.from_json(read_json(checkpoint.folder / "config.json"))
    arithmetic = choose_arithmetic(
        "auto",
        device=device,
        dtype=dtype,
        is_auto_dtype=True,
        parameters=checkpoint.weights.parameters,
    )
    kernels = start_compiling(config, device, dtype, in_int8=arithmetic != "float")
    wait_for_kernels(kernels, on_progress)
    for kernel in kernels:
        kernel.get()


class NativeEngine(ClosedOnExit):
    """A ``SmolVLM`` that answers prompts one at a time or in a batch, with sessions on the same
    frames."""

    name = "native"

    def __init__(
        self,
        checkpoint: Checkpoint,
        encoder: FrameEncoder,
        *,
        quantize: str = "none",
        load_seconds: float = 0.0,
    ) -> None:
        self.checkpoint = checkpoint
        self.quantize = quantize
        self.load_seconds = load_seconds
        self.encoder = encoder

    @property
    def network(self) -> "SmolVLM":
        """The network. Raises ModelError after ``close``."""
        return self.encoder.network

    def close(self) -> None:
        """Free the weights, of sessions, too; see ``Engine.close``."""
        self.encoder.close()

    def __repr__(self) -> str:
        return describe_engine(self, closed=self.encoder.is_closed)

    @property
    def device(self) -> str:
        return str(self.encoder.device)

    @property
    def dtype(self) -> str:
        return str(self.encoder.dtype).removeprefix("torch.")

    @property
    def arithmetic(self) -> str:
        """``int8`` or ``float``: arithmetic of many rows of activations; ``auto`` until frames have
        decided."""
        return self.encoder.arithmetic

    def settle_arithmetic(self) -> None:
        """Decide the arithmetic now, on generated pictures if there were no frames yet."""
        self.encoder.settle_arithmetic()

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
        on_token: OnToken | None = None,
    ) -> AnswerStream:
        """Return the answer to ``prompt``, generated while it is iterated; see ``Engine.stream``.

        Nothing is cached for a next question: see ``start_session``.
        """
        room = len(prompt.token_ids) + generation.max_new_tokens
        session = self.open_session(cache_capacity=min(room, self.checkpoint.context_tokens))
        return session.stream(prompt, generation, on_progress=on_progress, on_token=on_token)

    def answer_batch(
        self,
        prompts: Sequence[Prompt],
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
    ) -> list[Answer]:
        """Return the answers to ``prompts``, on the same frames or not; see
        ``Session.answer_batch``."""
        longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
        room = min(longest, self.checkpoint.context_tokens)
        session = self.open_session(cache_capacity=room)
        return session.answer_batch(prompts, generation, on_progress=on_progress)

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        """Return the log-likelihood of each text as the answer to ``prompt``; see
        ``Engine.score``."""
        return self.open_session().score(prompt, answers, with_end=with_end)

    def open_session(self, *, cache_capacity: int | None = None) -> Session:
        """Open an empty session whose KV cache holds up to ``cache_capacity`` tokens (the context
        by default)."""
        self.encoder.check_open()
        return Session(self.checkpoint, self.encoder, cache_capacity=cache_capacity)

    def start_session(self, prompt: Prompt, *, on_progress: OnProgress = no_progress) -> Session:
        """Encode and prefill ``prompt`` once, for any number of questions that begin like it.

        Raises PromptError where the prompt does not fit the context, ModelError where the device
        fails or runs out of memory.
        """
        session = self.open_session()
        session.prefill(prompt, on_progress=on_progress)
        return session

    def encode(self, images: "Images", *, on_progress: OnProgress = no_progress) -> "torch.Tensor":
        """Encode uint8 images [N, S, S, 3] to the decoder's features, [N, tokens_per_image,
        hidden]."""
        with self.encoder.lock:
            return self.encoder.encode(images, on_progress=on_progress)[0]
