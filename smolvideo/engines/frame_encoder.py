"""Image features: encode images by the vision tower, or read them from the feature cache."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smolvideo.engines.base import closed_error, release_memory
from smolvideo.engines.devices import synchronize, wrap_torch_errors
from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.feature_fingerprint import (
    encoder_fingerprint,
    frame_keys,
    weight_files_stat,
    weights_digest,
)
from smolvideo.models.weights import WeightFiles
from smolvideo.progress import OnProgress, Progress, no_progress

if TYPE_CHECKING:
    import torch

    from smolvideo.frames import Images
    from smolvideo.network import SmolVLM


_MAX_PATCHES_PER_CHUNK = {"cpu": 1024, "mps": 4096, "cuda": 16384}
"""Maximum patches that go through the vision tower together, on a CPU per thread, so that memory
does not grow with the video. Two frames of 256M together, 2,048 patches, took as long as one by one
and 80 MB more; nano's, 64 patches each, took 85 ms two by two and 59 with sixteen together."""


@dataclass(frozen=True)
class ScopedFeatureCache:
    """Feature cache under the key scope of one loaded network; see ``encoder_fingerprint``."""

    cache: FeatureCache
    scope: bytes

    @classmethod
    def of_network(
        cls,
        cache: FeatureCache,
        weights: WeightFiles,
        stat_at_load: bytes,
        network: "SmolVLM",
        *,
        device: "torch.device",
        dtype: "torch.dtype",
        quantize: str = "none",
    ) -> "ScopedFeatureCache | None":
        """Return None where the files have changed since loading (``stat_at_load`` is their
        ``weight_files_stat`` from before): then they do not identify the network in memory."""
        digest = weights_digest(weights, cache)
        if weight_files_stat(weights) != stat_at_load:
            return None
        scope = encoder_fingerprint(digest, network, device=device, dtype=dtype, quantize=quantize)
        return cls(cache, scope)


class FeatureLookup:
    """Look up the features of ``images`` [N, S, S, 3] in the cache, and read them into ``features``
    [N, tokens_per_image, hidden].

    ``missing`` are the indices of the others, in order; all indices without ``kept``. Which frames
    are encoded together then depends on what is missing. On a CPU their features do not (measured
    to the bit, one and two together, bfloat16 and float32); a GPU may choose another kernel for
    another batch size, and round differently.
    """

    def __init__(
        self, kept: ScopedFeatureCache | None, images: "Images", features: "torch.Tensor"
    ) -> None:
        self._kept = kept
        self._features = features
        self.missing = list(range(len(images)))
        if kept is None or not len(images):
            return
        import torch

        self._keys = frame_keys(kept.scope, images)
        # Read each entry into its final place; only a GPU needs a copy on the CPU.
        on_cpu = (
            features if features.device.type == "cpu" else torch.empty_like(features, device="cpu")
        )
        rows = _bytes_of(on_cpu)
        found = [kept.cache.read(key, row) for key, row in zip(self._keys, rows, strict=True)]
        self.missing = [place for place, is_there in enumerate(found) if not is_there]
        if on_cpu is not features:
            features.copy_(on_cpu)

    def store(self, places: Sequence[int]) -> None:
        """Write the features at the indices ``places`` to the cache, once they are computed."""
        if self._kept is None:
            return
        computed = self._features[list(places)].cpu()
        if not bool(computed.isfinite().all()):
            return  # a failure of the device must not be cached
        for place, row in zip(places, _bytes_of(computed), strict=True):
            self._kept.cache.write(self._keys[place], row)


def _bytes_of(features: "torch.Tensor") -> list[memoryview]:
    """Memory of each row, as bytes; numpy has no bfloat16."""
    import torch

    return [memoryview(row) for row in features.flatten(1).view(torch.uint8).numpy()]


class FrameEncoder:
    """The vision tower and connector of one network, with its feature cache if it has one.

    ``device`` and ``dtype`` are those of the features. ``lock`` is held while the network computes,
    one token or one prefill at a time.
    """

    def __init__(self, network: "SmolVLM", *, kept: ScopedFeatureCache | None = None) -> None:
        weight = network.model.text_model.embed_tokens.weight
        self.device: torch.device = weight.device
        self.dtype: torch.dtype = weight.dtype
        self.lock = threading.RLock()
        self._loaded: SmolVLM | None = network
        self._kept = kept

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
        their pixels exist in floating point. Raises ModelError where the device fails.
        """
        import torch

        # read known features from the cache
        network = self.network
        config = network.config
        shape = (len(images), config.tokens_per_image, config.text.hidden_size)
        features = torch.empty(shape, device=self.device, dtype=self.dtype)
        recall = FeatureLookup(self._kept, images, features)
        # frames per chunk
        at_once = _MAX_PATCHES_PER_CHUNK[self.device.type] // config.vision.patches_per_side**2
        if self.device.type == "cpu":  # a chunk for each thread
            at_once = min(at_once, -(-len(recall.missing) // torch.get_num_threads()))
        at_once = max(1, at_once)

        def encode_chunk(start: int) -> list[int]:
            places = recall.missing[start : start + at_once]
            with wrap_torch_errors(str(self.device), "encoding the frames"), torch.inference_mode():
                # Indexing by a list copies, so torch never gets a read-only array.
                pixels = torch.from_numpy(images[places]).to(self.device).permute(0, 3, 1, 2)
                # mean = std = 0.5, as the processors of the whole family.
                pixels = ((pixels.float() - 127.5) / 127.5).to(self.dtype)
                features[places] = network.encode_images(pixels)
                synchronize(self.device)
            return places

        # encode the missing frames, on a CPU one chunk per core at a time
        done = from_cache = len(images) - len(recall.missing)
        if len(images):
            on_progress(Progress("encode", done, len(images)))
        with one_core_per_call(self.device) as run_each:
            for places in run_each(encode_chunk, range(0, len(recall.missing), at_once)):
                recall.store(places)
                done += len(places)
                on_progress(Progress("encode", done, len(images)))
        return features, from_cache


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
