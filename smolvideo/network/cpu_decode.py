"""Decode tokens on a CPU, each in one call of a compiled kernel.

This is the torch side: addresses of weights and KV caches, the number of threads, and the networks
for which compiling pays. The kernel is ``kernels.decode``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from smolvideo.models.network_config import TextConfig
from smolvideo.network.compilation import CompiledInBackground, KernelBuild, has_numba
from smolvideo.network.decoder import Decoder, TextLayer, rope_inv_freq
from smolvideo.network.kv_cache import BatchedPagedKVCache, KVCache
from smolvideo.network.linear import Linear
from smolvideo.network.quantized import Int4Weight, Int8Weight, int4_packing
from smolvideo.network.threads import max_workers, parallel_call

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smolvideo.network.kernels.decode import DecoderWeights
    from smolvideo.network.kernels.jit import JitFunction
    from smolvideo.network.kernels.matmul import WeightMatrix
    from smolvideo.network.kernels.paged_attention import PageTable

    _Compiled = tuple[DecoderWeights, JitFunction]

_MIN_PARAMETERS = 20_000_000
"""Minimum weights that a token reads for the kernel to be used: loading it takes half a second, in
which nano could have answered."""

_CHUNK_BYTES = 128 << 10
"""Approximate weights of a chunk of work: tokens of 256M took as long with 256 KB, and a twentieth
longer with 64 KB."""

_NUMPY_DTYPES = {
    torch.bfloat16: np.uint16,  # its bits: numpy has no bfloat16
    torch.float32: np.float32,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.int32: np.uint32,
}


def is_supported(config: TextConfig, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel decodes tokens of such a decoder."""
    heads = config.num_attention_heads + config.num_key_value_heads
    of_a_layer = 2 * heads * config.head_dim + 3 * config.intermediate_size
    rows = config.num_hidden_layers * of_a_layer + config.vocab_size
    return (
        device.type == "cpu"
        and dtype in (torch.bfloat16, torch.float32)
        and rows * config.hidden_size >= _MIN_PARAMETERS
        and has_numba()
    )


def decode_build(*dtypes: str) -> KernelBuild:
    """Return the kernel for ``DecoderWeights.dtypes``, followed by the dtype of the KV cache."""
    return KernelBuild("smolvideo.network.kernels.decode:decode_for_dtypes", dtypes)


def unquantized_decode_build(dtype: torch.dtype) -> KernelBuild:
    """Return the kernel for weights and KV cache in ``dtype``."""
    name = np.dtype(_NUMPY_DTYPES[dtype]).name
    return decode_build(*(name, "float32") * 5, name)


class CpuDecoder:
    """Decode one token of each of ``B`` sequences at a time, for one decoder and its head.

    The weights of the linear layers must be row-major or quantized, and must not be replaced: their
    addresses are taken here. The kernel is compiled, or loaded from the on-disk cache, in the
    background.
    """

    def __init__(self, decoder: Decoder, head: Linear) -> None:
        self._decoder, self._head = decoder, head
        self._dtype = decoder.norm.weight.dtype
        config, cpu = decoder.config, torch.device("cpu")
        self._frequencies = rope_inv_freq(config.head_dim, config.rope_theta, cpu).numpy()
        self._threads = max_workers(torch.get_num_threads())
        self._keep_alive: list[Tensor] = []
        self.kernel = CompiledInBackground(self._compiled)

    def decode(self, vectors: Tensor, cache: KVCache) -> Tensor:
        """Append one token ``[1, D]`` to ``cache``; return its logits ``[1, vocabulary]``, float32.
        Raises ModelError where the kernel cannot be compiled."""
        cache.reserve(1)
        logits = self._run(self.kernel.get(), vectors, None, [cache])
        cache.length += 1
        return logits

    def decode_batch(self, vectors: Tensor, batch: BatchedPagedKVCache) -> Tensor:
        """Append one token ``[B, D]`` to each sequence; return the logits ``[B, vocabulary]``."""
        for cache in batch.suffixes:
            cache.reserve(1)
        logits = self._run(self.kernel.get(), vectors, batch.shared_prefix, batch.suffixes)
        for cache in batch.suffixes:
            cache.length += 1
        return logits

    def _compiled(self, kept: bool) -> "_Compiled":
        """Return the weights and the kernel."""
        weights = self._weight_pointers()
        kv_dtype = np.dtype(_NUMPY_DTYPES[self._dtype]).name
        return weights, decode_build(*weights.dtypes, kv_dtype).compile(kept=kept)

    def _weight_pointers(self) -> "DecoderWeights":
        """Collect the weights as the kernel takes them."""
        from smolvideo.network.kernels.decode import DecoderWeights

        layers = [cast(TextLayer, layer) for layer in self._decoder.layers]
        norms = [
            norm.weight.detach().float()
            for layer in layers
            for norm in (layer.input_layernorm, layer.post_attention_layernorm)
        ]
        return DecoderWeights(
            qkv=self._matrix([layer.self_attn.qkv_proj for layer in layers]),
            out=self._matrix([layer.self_attn.o_proj for layer in layers], adds=True),
            gate_up=self._matrix([layer.mlp.gate_up_proj for layer in layers]),
            down=self._matrix([layer.mlp.down_proj for layer in layers], adds=True),
            head=self._matrix([self._head]),
            norms=torch.stack((*norms, self._decoder.norm.weight.detach().float())).numpy(),
            epsilon=np.float32(self._decoder.config.rms_norm_eps),
        )

    def _matrix(self, maps: Sequence[Linear | None], *, adds: bool = False) -> "WeightMatrix":
        """Collect one linear layer of all decoder layers; ``adds`` to the residual stream."""
        from smolvideo.network.kernels.matmul import WeightMatrix

        first = maps[0]
        assert first is not None  # fused for inference
        outputs, inputs = first.out_features, first.in_features
        weights, scales = zip(*(_tensors(part) for part in maps if part is not None), strict=True)
        assert all(tensor.is_contiguous() for tensor in (*weights, *scales))
        self._keep_alive += weights + scales  # even where the layers are dropped
        tile = int4_packing().rows if weights[0].dtype is torch.uint8 else 1
        return WeightMatrix(
            weights=np.array([weight.data_ptr() for weight in weights]),
            scales=np.array([scale.data_ptr() for scale in scales]),
            weights_like=np.empty(0, _NUMPY_DTYPES[weights[0].dtype]),
            scales_like=np.empty(0, _NUMPY_DTYPES[scales[0].dtype]),
            outputs=outputs,
            inputs=inputs,
            tile=tile,
            rows_per_chunk=_rows_at_once(outputs, weights[0].nbytes, tile, self._threads),
            adds=adds,
        )

    def _run(
        self,
        compiled: "_Compiled",
        vectors: Tensor,
        common: KVCache | None,
        own: Sequence[KVCache],
    ) -> Tensor:
        """Run the kernel: logits ``[B, vocabulary]`` after ``vectors`` ``[B, D]``."""
        from smolvideo.network.kernels.decode import PHASES_PER_LAYER
        from smolvideo.network.kernels.paged_attention import KVPages, PartialAttention
        from smolvideo.network.kernels.work_sharing import new_counters

        weights, read = compiled
        config, count = self._decoder.config, len(own)
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        layers = config.num_hidden_layers
        # page tables, RoPE, and the number of partial attention outputs
        of_common, of_own = _pages([] if common is None else [common], layers), _pages(own, layers)
        before = 0 if common is None else common.length
        rotation = self._rotation(before + of_own.lengths)
        pages = -(-before // of_common.page_size)
        pages += max((cache.length for cache in own), default=0) // of_own.page_size + 1
        gathered = groups, pages, count * heads // groups
        # output and work counters
        logits = np.empty((count, config.vocab_size), np.float32)
        counters = new_counters(PHASES_PER_LAYER * config.num_hidden_layers + 1)
        arguments = (
            vectors.float().numpy().copy(),  # residual stream, overwritten
            rotation,
            weights,
            KVPages(np.empty(0, _NUMPY_DTYPES[self._dtype]), of_common, of_own),
            heads,
            np.empty((count, heads + 2 * groups, config.head_dim), np.float32),
            PartialAttention(
                sums=np.empty((*gathered, config.head_dim), np.float32),
                weights=np.empty(gathered, np.float32),
                max_scores=np.empty(gathered, np.float32),
            ),
            np.empty((count, 2 * config.intermediate_size), np.float32),
            logits,
            counters,
        )
        # Keep alive while a thread may use the addresses, even if the network is dropped.
        held = self._keep_alive, common, [cache.pages for cache in own]

        def read_token() -> None:
            assert held is not None
            read(*arguments)

        parallel_call(read_token, torch.get_num_threads() if count else 1, counters)
        return torch.from_numpy(logits)

    def _rotation(self, positions: "NDArray[np.int64]") -> "NDArray[np.float32]":
        """Compute ``rope_cos_sin``, ``[2, B, head_dim]``, without the cost of a dozen torch
        operators."""
        half = len(self._frequencies)
        angles = positions.astype(np.float32)[:, None] * self._frequencies
        rotation = np.empty((2, len(positions), 2 * half), np.float32)
        cosines, sines = rotation
        np.cos(angles, out=cosines[:, :half])
        np.sin(angles, out=sines[:, half:])
        cosines[:, half:] = cosines[:, :half]
        np.negative(sines[:, half:], out=sines[:, :half])
        return rotation


def _pages(caches: Sequence[KVCache], layers: int) -> "PageTable":
    """Page table of ``caches``."""
    from smolvideo.network.kernels.paged_attention import PageTable

    addresses = np.array([cache.addresses for cache in caches], dtype=np.int64)
    return PageTable(
        addresses=addresses.reshape(len(caches), layers, 2),
        lengths=np.array([cache.length for cache in caches], dtype=np.int64),
        page_counts=np.array([cache.pages[0].pages for cache in caches], dtype=np.int64),
        page_size=caches[0].pages[0].size if caches else 1,
    )


def _tensors(part: Linear) -> tuple[Tensor, Tensor]:
    """Weights of a linear layer, and their scales; all 1 for unquantized weights."""
    if isinstance(part.quantized_weight, Int4Weight):
        # scale and offset of a group are the halves of 32 bits
        return part.quantized_weight.qweight, part.quantized_weight.scales.view(torch.int32)
    if isinstance(part.quantized_weight, Int8Weight):
        return part.quantized_weight.qweight, part.quantized_weight.scales
    weight = part.weight if part.packed is None else part.packed
    return weight, torch.ones(part.out_features)


def _rows_at_once(rows: int, size: int, tile: int, threads: int) -> int:
    """Rows per chunk of a matrix of ``size`` bytes: about as many chunks for every thread."""
    parts = -(-size // (_CHUNK_BYTES * threads)) * threads
    return -(-rows // (parts * tile)) * tile
