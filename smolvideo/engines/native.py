"""The engine ``native``: our own torch modules, which keep what they computed.

It exists because it is several times faster than other engines on many frames and few tokens, and
because a second question on the same frames costs next to nothing: see ``session``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from smolvideo.answer import Answer, AnswerStream
from smolvideo.engines.base import GenerationOptions
from smolvideo.engines.devices import (
    check_quantise,
    choose_device,
    choose_dtype,
    use_usable_cores,
    wait_for,
)
from smolvideo.engines.failures import device_failures
from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.feature_keys import weight_state
from smolvideo.engines.recall import KeptFeatures, Recall
from smolvideo.engines.session import Session
from smolvideo.errors import ModelError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch

    from smolvideo.frames import Images
    from smolvideo.network import SmolVLM

_PATCHES_AT_ONCE = {"cpu": 1024, "mps": 4096, "cuda": 16384}
"""Patches of frames that go through the vision tower together, on a CPU by each thread: memory does
not grow with the video. Two frames of 256M together, 2,048 patches, took as long as one by one and
80 MB more; nano's, 64 patches each, took 85 ms two by two and 59 with sixteen together."""


def load_native_engine(
    checkpoint: Checkpoint,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantise: str = "none",
    cache: FeatureCache | None = None,
    on_progress: OnProgress = no_progress,
) -> "NativeEngine":
    """``checkpoint`` in memory, ready to answer. Raises as ``load_engine`` does."""
    if checkpoint.weights is None:
        raise ModelError(f"the weights of `{checkpoint.name}` were not fetched")
    started = time.perf_counter()
    on_progress(Progress("load", label=checkpoint.name))
    use_usable_cores()
    from smolvideo.network.loading import load_network

    place = choose_device(device)
    number_format = choose_dtype(place, checkpoint.weights.parameters, dtype)
    check_quantise(quantise, place, number_format)
    state = weight_state(checkpoint.weights)
    with device_failures(str(place), "loading the weights"):
        network = load_network(
            checkpoint.folder,
            checkpoint.weights,
            device=place,
            dtype=number_format,
            quantise=quantise,
        )
    kept = None
    # Nano, too: 50 frames cost it 93 ms, 2 ms if they are kept, and 19 ms more to be kept first
    # (medians of five, in turns, one core; 20 frames of 256M: 13 s, 14 ms, 0.15 s).
    if cache is not None:
        kept = KeptFeatures.of_network(
            cache,
            checkpoint.weights,
            state,
            network,
            device=place,
            dtype=number_format,
            quantise=quantise,
        )
    on_progress(Progress("load", done=1, total=1, label=checkpoint.name))
    seconds = time.perf_counter() - started
    return NativeEngine(checkpoint, network, quantise=quantise, kept=kept, load_seconds=seconds)


class NativeEngine:
    """A network of our own that answers one prompt at a time, or many on the same frames."""

    name = "native"

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: "SmolVLM",
        *,
        quantise: str = "none",
        kept: KeptFeatures | None = None,
        load_seconds: float = 0.0,
    ) -> None:
        self.checkpoint = checkpoint
        self.network = network
        self.quantise = quantise
        self.kept = kept
        self.load_seconds = load_seconds
        weight = network.model.text_model.embed_tokens.weight
        self.place: torch.device = weight.device
        self.number_format: torch.dtype = weight.dtype

    @property
    def device(self) -> str:
        return str(self.place)

    @property
    def dtype(self) -> str:
        return str(self.number_format).removeprefix("torch.")

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
    ) -> AnswerStream:
        """The answer to ``prompt``, made while it is iterated; see ``Engine.stream``.

        Nothing is kept for a next question: that is what ``start`` is for.
        """
        room = len(prompt.token_ids) + generation.max_new_tokens
        session = Session(self, room=min(room, self.checkpoint.context_tokens))
        return session.stream(prompt, generation, on_progress=on_progress)

    def answer_batch(
        self,
        prompts: Sequence[Prompt],
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
    ) -> list[Answer]:
        """The answers to ``prompts``, on the same frames or not; see ``Session``."""
        longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
        room = min(longest, self.checkpoint.context_tokens)
        return Session(self, room=room).answer_batch(prompts, generation, on_progress=on_progress)

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        """The log-probability of each text as the answer to ``prompt``; see ``Engine.score``."""
        return Session(self).score(prompt, answers, with_end=with_end)

    def start(self, prompt: Prompt, *, on_progress: OnProgress = no_progress) -> Session:
        """``prompt`` encoded and read once, for any number of questions that begin like it.

        Raises PromptError where the prompt does not fit the context, ModelError where the device
        fails or runs out of memory.
        """
        session = Session(self)
        session.read(prompt, on_progress=on_progress)
        return session

    def encode(self, images: "Images", *, on_progress: OnProgress = no_progress) -> "torch.Tensor":
        """Uint8 images [N, S, S, 3] as the decoder sees them, [N, tokens_per_image, hidden]."""
        return self.encode_counted(images, on_progress=on_progress)[0]

    def encode_counted(
        self, images: "Images", *, on_progress: OnProgress = no_progress
    ) -> tuple["torch.Tensor", int]:
        """``encode``, and how many of the images came from the cache.

        The others are encoded a few at a time: pixels as numbers exist for these alone.
        """
        import torch

        network = self.network.config
        shape = (len(images), network.tokens_per_image, network.text.hidden_size)
        features = torch.empty(shape, device=self.place, dtype=self.number_format)
        recall = Recall(self.kept, images, features)
        at_once = _PATCHES_AT_ONCE[self.place.type] // network.vision.patches_per_side**2
        if self.place.type == "cpu":  # something for each of the threads
            at_once = min(at_once, -(-len(recall.missing) // torch.get_num_threads()))
        at_once = max(1, at_once)

        def encode_chunk(start: int) -> list[int]:
            places = recall.missing[start : start + at_once]
            with device_failures(self.device, "encoding the frames"), torch.inference_mode():
                # A list of places copies, so torch never meets an array that is read-only.
                pixels = torch.from_numpy(images[places]).to(self.place).permute(0, 3, 1, 2)
                # mean = std = 0.5, as the processors of the whole family.
                pixels = ((pixels.float() - 127.5) / 127.5).to(self.number_format)
                features[places] = self.network.encode(pixels)
                wait_for(self.place)
            return places

        done = from_cache = len(images) - len(recall.missing)
        if len(images):
            on_progress(Progress("encode", done, len(images)))
        with _side_by_side(self.place) as run_each:
            for places in run_each(encode_chunk, range(0, len(recall.missing), at_once)):
                recall.keep(places)
                done += len(places)
                on_progress(Progress("encode", done, len(images)))
        return features, from_cache


@contextmanager
def _side_by_side(device: "torch.device") -> Iterator[Callable[..., Iterator[list[int]]]]:
    """A ``map`` that runs one call per core of a CPU at a time, each on one thread of torch.

    Frames need nothing of each other, so nobody waits: threads that share one product wait for each
    other after every one, a hundred times per layer, and a busy machine lets each wait be long.
    """
    import torch

    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield map
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
