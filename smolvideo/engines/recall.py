"""Features of frames that were seen before, from the disk into memory and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.feature_keys import feature_scope, frame_keys, weight_state, weights_digest
from smolvideo.models.weights import WeightFiles

if TYPE_CHECKING:
    import torch

    from smolvideo.frames import Images
    from smolvideo.network import SmolVLM


@dataclass(frozen=True)
class KeptFeatures:
    """A cache as one loaded network may use it; see ``feature_scope``."""

    cache: FeatureCache
    scope: bytes

    @classmethod
    def of_network(
        cls,
        cache: FeatureCache,
        weights: WeightFiles,
        loaded_state: bytes,
        network: "SmolVLM",
        *,
        device: "torch.device",
        dtype: "torch.dtype",
        quantise: str = "none",
    ) -> "KeptFeatures | None":
        """None where the files are no longer those that were loaded (``loaded_state`` is their
        ``weight_state`` from before): nobody can say what the network in memory is."""
        digest = weights_digest(weights, cache)
        if weight_state(weights) != loaded_state:
            return None
        scope = feature_scope(digest, network, device=device, dtype=dtype, quantise=quantise)
        return cls(cache, scope)


class Recall:
    """What the disk knows of ``images`` [N, S, S, 3], put into the rows of ``features``
    [N, tokens_per_image, hidden].

    ``missing`` are the places of the others, in order; all of them without ``kept``. Which frames
    are encoded together then depends on what is missing. On a CPU their features do not (measured
    to the bit, one and two at once, bfloat16 and float32); a GPU may take another kernel for
    another number, and round otherwise.
    """

    def __init__(
        self, kept: KeptFeatures | None, images: "Images", features: "torch.Tensor"
    ) -> None:
        self._kept = kept
        self._features = features
        self.missing = list(range(len(images)))
        if kept is None or not len(images):
            return
        import torch

        self._keys = frame_keys(kept.scope, images)
        # Entry by entry into the place where it is needed; only a GPU needs a second one.
        on_cpu = (
            features if features.device.type == "cpu" else torch.empty_like(features, device="cpu")
        )
        rows = _bytes_of(on_cpu)
        found = [kept.cache.read(key, row) for key, row in zip(self._keys, rows, strict=True)]
        self.missing = [place for place, is_there in enumerate(found) if not is_there]
        if on_cpu is not features:
            features.copy_(on_cpu)

    def keep(self, places: Sequence[int]) -> None:
        """Write the features at ``places``, which were computed since."""
        if self._kept is None:
            return
        computed = self._features[list(places)].cpu()
        if not bool(computed.isfinite().all()):
            return  # a device that failed once must not fail for ever
        for place, row in zip(places, _bytes_of(computed), strict=True):
            self._kept.cache.write(self._keys[place], row)


def _bytes_of(features: "torch.Tensor") -> list[memoryview]:
    """The bytes of each row, as they lie in memory; numpy has no bfloat16."""
    import torch

    return [memoryview(row) for row in features.flatten(1).view(torch.uint8).numpy()]
