"""Decode kernel: one new token of each sequence, from embedding to logits, in one call."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from smolvideo.network.kernels.elementwise import rms_norm, swiglu
from smolvideo.network.kernels.jit import JitFunction, jit, jit_cached, source_checksum
from smolvideo.network.kernels.matmul import WeightMatrix, matmul
from smolvideo.network.kernels.paged_attention import (
    KVPages,
    PageTable,
    PartialAttention,
    merge_partials,
    paged_attention,
)
from smolvideo.network.kernels.work_sharing import address_of, is_phase_done, new_counters

PHASES_PER_LAYER = 5


class DecoderWeights(NamedTuple):
    """Linear layers of all decoder layers, the head, and the RMSNorm weights ``[2 layers + 1, D]``,
    float32."""

    qkv: WeightMatrix
    out: WeightMatrix
    gate_up: WeightMatrix
    down: WeightMatrix
    head: WeightMatrix
    norms: Any
    epsilon: Any

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Names of the dtypes of all weights and scales."""
        maps = self.qkv, self.out, self.gate_up, self.down, self.head
        return tuple(
            like.dtype.name for part in maps for like in (part.weights_like, part.scales_like)
        )


def decode_for_dtypes(*dtypes: str, kept: bool) -> tuple[JitFunction, tuple[Any, ...]]:
    """Build the decode kernel for ``DecoderWeights.dtypes`` and the dtype of the KV cache, see
    ``KernelBuild``. The arguments have no layers and no sequences."""
    *of_weights, kv_dtype = (np.empty(0, dtype) for dtype in dtypes)
    none = np.zeros(0, np.int64)
    qkv, out, gate_up, down, head = (
        WeightMatrix(none, none, weight, scale, 0, 0, 1, 1, False)
        for weight, scale in zip(of_weights[::2], of_weights[1::2], strict=True)
    )
    floats = [np.empty((0,) * dimensions, np.float32) for dimensions in range(5)]
    pages = PageTable(np.empty((0, 0, 2), np.int64), none, none, 1)
    arguments = (
        floats[2],
        floats[3],
        DecoderWeights(qkv, out, gate_up, down, head, np.zeros((1, 0), np.float32), np.float32(0)),
        KVPages(kv_dtype, pages, pages),
        1,
        floats[3],
        PartialAttention(floats[4], floats[3], floats[3]),
        floats[2],
        floats[2],
        new_counters(1),
    )
    return build_decode("_".join(dtypes), kept=kept), arguments


@lru_cache
def build_decode(kind: str, *, kept: bool = True) -> JitFunction:
    """Build the decode kernel for dtypes that ``kind`` names, cached on disk under that name.

    numba's cache only watches this file. The checksum of all kernel sources is a closure variable,
    so a change in any of them invalidates it; the return value is unused.
    """
    checksum = source_checksum()

    def read_token(
        hidden: Any,
        rotation: Any,
        weights: DecoderWeights,
        seen: KVPages,
        heads: int,
        projected: Any,
        gathered: PartialAttention,
        gated: Any,
        scores: Any,
        counting: Any,
    ) -> int:
        """Decode one token of each sequence: ``hidden`` ``[B, D]`` to logits ``[B, vocabulary]``.

        All threads run this. ``scores`` receives the logits; ``hidden`` is the residual stream and
        is overwritten. ``rotation`` ``[2, B, d]`` is RoPE cos and sin, ``seen`` the paged KV cache,
        ``heads`` the number of query heads H. The threads share the work counters ``counting`` and
        ``projected`` ``[B, H + 2 G, d]``, ``gathered`` (partial attention), ``gated`` ``[B, 2 I]``.
        """
        sequences, width = hidden.shape
        counters = address_of(counting)
        layers = weights.qkv.weights.shape[0]
        last_parts = -(-weights.head.outputs // weights.head.rows_per_chunk)
        if is_phase_done(counters, PHASES_PER_LAYER * layers, last_parts):
            return checksum  # a late thread: all work is done
        # buffers of this thread: every thread repeats the cheap elementwise steps
        normed = np.empty((sequences, width), np.float32)
        joined = np.empty((sequences, weights.out.inputs), np.float32)
        activated = np.empty((sequences, weights.down.inputs), np.float32)
        flat = projected.reshape(sequences, weights.qkv.outputs)
        phase = np.int64(0)
        for layer in range(layers):
            # attention block
            rms_norm(hidden, weights.norms[2 * layer], weights.epsilon, normed)
            phase = matmul(weights.qkv, layer, normed, flat, counters, phase)
            phase = paged_attention(
                projected, heads, rotation, seen, layer, gathered, counters, phase
            )
            merge_partials(gathered, sequences, joined)
            phase = matmul(weights.out, layer, joined, hidden, counters, phase)
            # MLP block (SwiGLU)
            rms_norm(hidden, weights.norms[2 * layer + 1], weights.epsilon, normed)
            phase = matmul(weights.gate_up, layer, normed, gated, counters, phase)
            swiglu(gated, activated)
            phase = matmul(weights.down, layer, activated, hidden, counters, phase)
        # final norm and logits
        rms_norm(hidden, weights.norms[2 * layers], weights.epsilon, normed)
        matmul(weights.head, np.int64(0), normed, scores, counters, phase)
        return checksum

    read_token.__qualname__ = f"read_token_{kind}"
    return jit_cached(read_token) if kept else jit(read_token)
