"""Image features: encode images by the vision tower, or read them from the feature cache."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from smolvideo.engines.arithmetic import (
    CHECKED_FRAMES,
    ArithmeticCheck,
    ArithmeticVerdict,
    generated_pictures,
)
from smolvideo.engines.base import closed_error, release_memory, trim_heap
from smolvideo.engines.devices import synchronize, wrap_torch_errors
from smolvideo.engines.feature_keys import FeatureLookup, ScopedFeatureCache, frame_keys
from smolvideo.progress import OnProgress, Progress, no_progress

if TYPE_CHECKING:
    import torch

    from smolvideo.frames import Images
    from smolvideo.network import SmolVLM


_MAX_PATCHES_PER_CHUNK = {"cpu": 1024, "mps": 4096, "cuda": 16384}
"""Maximum patches that go through the vision tower together, on a CPU per thread, so that memory
does not grow with the video. Two frames of 256M together, 2,048 patches, took as long as one by one
and 80 MB more; nano's, 64 patches each, took 85 ms two by two and 59 with sixteen together."""


class FrameEncoder:
    """The vision tower and connector of one network, with its feature cache if it has one.

    ``device`` and ``dtype`` are those of the features. ``lock`` is held while the network computes,
    one token or one prefill at a time.
    """

    def __init__(
        self,
        network: "SmolVLM",
        *,
        kept: ScopedFeatureCache | None = None,
        verdict: ArithmeticVerdict | None = ArithmeticVerdict("float"),  # noqa: B008 -- frozen
        check: ArithmeticCheck | None = None,
    ) -> None:
        """``verdict``: the arithmetic of ``network``; None where ``check`` compares both on the
        first frames."""
        weight = network.model.text_model.embed_tokens.weight
        self.device: torch.device = weight.device
        self.dtype: torch.dtype = weight.dtype
        self.lock = threading.RLock()
        self._loaded: SmolVLM | None = network
        self._kept = kept
        self.verdict = verdict
        self._check = check

    @property
    def arithmetic(self) -> str:
        """``int8`` or ``float``; ``auto`` until the first frames have decided."""
        return "auto" if self.verdict is None else self.verdict.arithmetic

    def settle_arithmetic(self) -> None:
        """Decide the arithmetic before there are frames, on generated pictures."""
        if self.verdict is None:
            with self.lock:
                self._choose_arithmetic(generated_pictures(self.network.config.vision.image_size))

    @property
    def network(self) -> "SmolVLM":
        """The whole network, decoder included. Raises ModelError after ``close``."""
        if self._loaded is None:
            raise closed_error()
        return self._loaded

    @property
    def is_closed(self) -> bool:
        """Whether the weights are freed."""
        return self._loaded is None

    def check_open(self) -> None:
        """Raise ModelError after ``close``."""
        if self.is_closed:
            raise closed_error()

    def close(self) -> None:
        """Free the weights, once a computation in another thread has ended."""
        with self.lock:
            self._loaded = self._kept = None
            release_memory(self.device)

    def encode(
        self, images: "Images", *, on_progress: OnProgress = no_progress
    ) -> tuple["torch.Tensor", int]:
        """Encode uint8 images [N, S, S, 3].

        Returns features [N, tokens_per_image, hidden], as the decoder takes them, and the number of
        images whose features came from the cache. The others are encoded in chunks, so that only
        their pixels exist in floating point; equal ones are encoded once. Raises ModelError where
        the device fails.
        """
        import torch

        from smolvideo.network.compilation import is_compiling, wait_for_kernels

        network = self.network
        if self.verdict is None and len(images):
            wait_for_kernels(network.encode_kernels, on_progress)
            on_progress(Progress("encode", 0, len(images)))
            self._choose_arithmetic(images)
        # read known features from the cache
        config = network.config
        shape = (len(images), config.tokens_per_image, config.text.hidden_size)
        features = torch.empty(shape, device=self.device, dtype=self.dtype)
        recall = FeatureLookup(self._kept, images, features)
        wanted, copies = _distinct(images, recall.missing)
        # frames per chunk
        at_once = _MAX_PATCHES_PER_CHUNK[self.device.type] // config.vision.patches_per_side**2
        if self.device.type == "cpu":  # a chunk for each thread
            at_once = min(at_once, -(-len(wanted) // torch.get_num_threads()))
        at_once = max(1, at_once)

        def encode_chunk(start: int) -> list[int]:
            places = wanted[start : start + at_once]
            with wrap_torch_errors(str(self.device), "encoding the frames"), torch.inference_mode():
                features[places] = network.encode_images(self._pixels(images, places))
                synchronize(self.device)
            return places

        # encode the missing frames, on a CPU one chunk per core at a time
        from_cache = len(images) - len(recall.missing)
        done = len(images) - len(wanted)
        if recall.missing:
            wait_for_kernels(network.encode_kernels, on_progress)
        if len(images):
            on_progress(Progress("encode", done, len(images)))
        compiling = False
        with one_core_per_call(self.device) as run_each:
            for places in run_each(encode_chunk, range(0, len(wanted), at_once)):
                recall.store(places)
                done += len(places)
                if is_compiling() is not compiling:  # kernels of later stages
                    compiling = not compiling
                    on_progress(Progress("compile") if compiling else Progress("compile", 1, 1))
                on_progress(Progress("encode", done, len(images)))
        for place, first in copies.items():
            features[place] = features[first]
        if recall.missing and self.device.type == "cpu":
            trim_heap()  # before the prompt takes memory of its own
        return features, from_cache

    def _pixels(self, images: "Images", places: Sequence[int]) -> "torch.Tensor":
        """Normalize the images at ``places`` to ``[N, 3, S, S]``, −1…1."""
        import torch

        # Indexing by a list copies, so torch never gets a read-only array.
        pixels = torch.from_numpy(images[list(places)]).to(self.device).permute(0, 3, 1, 2)
        # mean = std = 0.5, as the processors of the whole family.
        return ((pixels.float() - 127.5) / 127.5).to(self.dtype)

    def _choose_arithmetic(self, images: "Images") -> None:
        """Compare the two arithmetics on the first ``images``, and keep the better one."""
        import torch

        assert self._check is not None
        with wrap_torch_errors(str(self.device), "comparing arithmetics"), torch.inference_mode():
            self.verdict = self._check.run(
                self.network, self._pixels(images, range(min(len(images), CHECKED_FRAMES)))
            )
        trim_heap()
        if self._kept is not None:
            self._kept = self._kept.rescoped(self.network)


def _distinct(images: "Images", places: Sequence[int]) -> tuple[list[int], dict[int, int]]:
    """Return those of ``places`` whose image is the first of its pixels, and the place of the first
    one for each of the others."""
    firsts: dict[bytes, int] = {}
    copies: dict[int, int] = {}
    for place, key in zip(places, frame_keys(b"", images[[*places]]), strict=True):
        first = firsts.setdefault(key, place)
        if first != place:
            copies[place] = first
    return [*firsts.values()], copies


@contextmanager
def one_core_per_call(device: "torch.device") -> Iterator[Callable[..., Iterator[list[int]]]]:
    """Yield a ``map`` that runs one call per core of a CPU at a time, each on one torch thread.

    Frames are independent, so no barrier is needed: threads that share one product meet at a
    barrier after every product, a hundred times per layer, and a busy machine makes each wait long.
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
