"""Keys of the feature cache: hashes of pixels, weights and everything else that affects features.

The key of a frame is a hash of its pixels, keyed with a *scope*: a hash of the weights and their
quantization, the configuration, our code, torch, the device, the dtype and the arithmetic. The name
and path of a video, the index of a frame and the question play no part.

BLAKE2b: no collisions are known or feared, it takes a key, and 50 frames of 512×512 take 0.04 s
(measured; SHA-256 is as fast only where the processor has instructions for it).
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache as remembered
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolvideo.engines.feature_cache import KEY_BYTES, FeatureCache
from smolvideo.errors import ModelError
from smolvideo.models.adapter import DECODER_PREFIXES, Adapter
from smolvideo.models.weight_formats import quantized_formats
from smolvideo.models.weights import WeightFiles, WeightHeader, read_header

if TYPE_CHECKING:
    import torch

    from smolvideo.frames import Images
    from smolvideo.network import SmolVLM


_FORMAT = "features [tokens_per_image, hidden], row by row, as the dtype lies in memory"
"""Content of an entry, part of the scope: a change of this text invalidates all keys."""

_PER_CHUNK = 1 << 20
_UNSETTLED_SECONDS = 2.0
"""A file that has just changed may change again within the same tick of its file system's clock;
FAT has the longest."""


def frame_keys(scope: bytes, images: "Images") -> list[bytes]:
    """Return the key of each of the uint8 ``images`` [N, S, S, 3]."""
    import numpy as np

    shape = repr(images.shape[1:]).encode()
    keys = []
    for image in images:
        hashed = hashlib.blake2b(shape, key=scope, digest_size=KEY_BYTES)
        hashed.update(np.ascontiguousarray(image).data)
        keys.append(hashed.digest())
    return keys


def encoder_fingerprint(
    weights: bytes,
    network: "SmolVLM",
    *,
    device: "torch.device",
    dtype: "torch.dtype",
    quantize: str,
) -> bytes:
    """Hash everything that is the same for all frames; ``weights`` is the ``weights_digest``."""
    import torch

    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    else:
        processor = torch.backends.cpu.get_cpu_capability()
    facts = [
        _FORMAT,
        weights.hex(),
        repr(network.config),
        str(dtype),
        quantize,
        _encoder_formats(network, quantize),
        # Each of these may change rounding, and answers must not depend on what was asked before.
        device.type,
        platform.machine(),
        processor,
        network.attention_backend_name,
        network.vision_arithmetic,
        torch.__version__,
        code_digest(),
    ]
    return _digest(json.dumps(facts).encode())


def _encoder_formats(network: "SmolVLM", quantize: str) -> list[tuple[str, str]]:
    """Return names and formats of the quantized weights that frames meet."""
    formats = quantized_formats(network.config, quantize)
    return [item for item in formats.items() if not item[0].startswith(DECODER_PREFIXES)]


def weight_files_stat(weights: WeightFiles, adapter: Adapter | None = None) -> bytes:
    """Hash the file status of the weights: changes when a file is modified or replaced; reads no
    data.

    It includes the time of the inode's last change, as git's index does: no program can set it
    back, so a file that was rewritten in place with its old size and date is noticed. An
    ``adapter`` of the vision tower or the connector counts, too; one of the decoder does not.
    """
    facts: list[Any] = []
    if adapter is not None and adapter.changes_features:
        facts.append(adapter.sha256)
    for file in weights.files:
        try:
            found = file.stat()
        except OSError as error:
            raise ModelError(f"cannot read `{file}`: {error.strerror or error}") from error
        where = str(file.resolve())
        stamps = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        facts.append([where, *stamps])
    return _digest(json.dumps(facts).encode())


def weights_digest(
    weights: WeightFiles, cache: FeatureCache, adapter: Adapter | None = None
) -> bytes:
    """Hash the content of the weights that frames meet.

    The name of a hub's revision (a folder has none), headers and samples (a fine-tuned checkpoint
    has the same headers, and may differ in one layer) do not identify weights: every byte is read,
    once per checkpoint and machine. Right after loading, from the system's page cache, that runs at
    2 GB/s on two cores (measured; SmolVLM2-256M has 0.37 GB of them); afterwards ``cache`` has it
    under ``weight_files_stat``.

    Raises ModelError where the files cannot be read.
    """
    state, begun = weight_files_stat(weights, adapter), time.time()
    found = bytearray(KEY_BYTES)
    if cache.read(state, memoryview(found)):
        return bytes(found)
    digest = _hash_weights(weights, adapter)
    newest = max(max(found.st_mtime, found.st_ctime) for found in map(Path.stat, weights.files))
    if newest < begun - _UNSETTLED_SECONDS and weight_files_stat(weights, adapter) == state:
        cache.write(state, memoryview(digest))
    return digest


def _hash_weights(weights: WeightFiles, adapter: Adapter | None) -> bytes:
    """Hash names, dtypes, shapes and bytes of all weights but the decoder's, whatever file they are
    in."""
    tasks = [
        (file, header, name)
        for file in weights.files
        for header in [read_header(file)]
        for name in header.tensors
        if not name.startswith(DECODER_PREFIXES)
    ]
    from smolvideo.engines.devices import available_cores

    with ThreadPoolExecutor(available_cores()) as pool:
        digests = pool.map(lambda task: _hash_tensor(*task), tasks)
        lines = sorted(
            f"{name} {digest}" for (_, _, name), digest in zip(tasks, digests, strict=True)
        )
    if adapter is not None and adapter.changes_features:
        lines.append(f"adapter {adapter.sha256}")
    return _digest("\n".join(lines).encode())


def _hash_tensor(file: Path, header: WeightHeader, name: str) -> str:
    entry = header.tensors[name]
    start, end = entry["data_offsets"]
    hashed = hashlib.blake2b(f"{entry['dtype']} {entry['shape']}".encode(), digest_size=KEY_BYTES)
    try:
        # Not mapped: pages of a mapped file would stay in the process.
        with file.open("rb", buffering=0) as stream:
            stream.seek(header.data_start + start)
            left, buffer = end - start, bytearray(_PER_CHUNK)
            while left:
                count = stream.readinto(memoryview(buffer)[: min(left, _PER_CHUNK)])
                if not count:
                    raise ModelError(f"broken checkpoint: `{file}` is cut short")
                hashed.update(memoryview(buffer)[:count])
                left -= count
    except OSError as error:
        raise ModelError(f"cannot read `{file}`: {error.strerror or error}") from error
    return hashed.hexdigest()


@remembered
def code_digest() -> str:
    """Hash the source of the modules that compute features: results of a fixed bug, or of another
    order of sums, must not be found again."""
    from smolvideo import network

    folder = Path(network.__file__ or "").parent
    hashed = hashlib.blake2b(digest_size=KEY_BYTES)
    files = [file for place in (folder, folder / "kernels") for file in sorted(place.glob("*.py*"))]
    for file in [*files, Path(__file__).with_stem("native")]:
        hashed.update(file.read_bytes())
    return hashed.hexdigest()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


@dataclass(frozen=True)
class ScopedFeatureCache:
    """Feature cache under the key scope of one loaded network; see ``encoder_fingerprint``.

    ``scope_of`` computes the scope anew when the arithmetic of the network was chosen.
    """

    cache: FeatureCache
    scope: bytes
    scope_of: "Callable[[SmolVLM], bytes]"

    def rescoped(self, network: "SmolVLM") -> "ScopedFeatureCache":
        """Return the same cache for ``network`` as it is now."""
        return replace(self, scope=self.scope_of(network))

    @classmethod
    def of_network(
        cls,
        cache: FeatureCache,
        weights: WeightFiles,
        stat_at_load: bytes,
        network: "SmolVLM",
        *,
        quantize: str = "none",
        adapter: Adapter | None = None,
    ) -> "ScopedFeatureCache | None":
        """Return None where the files have changed since loading (``stat_at_load`` is their
        ``weight_files_stat`` from before): then they do not identify the network in memory."""
        digest = weights_digest(weights, cache, adapter)
        if weight_files_stat(weights, adapter) != stat_at_load:
            return None
        weight = network.model.text_model.embed_tokens.weight
        scope_of = partial(
            encoder_fingerprint, digest, device=weight.device, dtype=weight.dtype, quantize=quantize
        )
        return cls(cache, scope_of(network), scope_of)


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
