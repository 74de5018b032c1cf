"""The one function: a new token of each sequence, from its vector to the scores of the next."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from smolvideo.network.kernels.compiling import Compiled, compiled, compiled_and_kept, sources
from smolvideo.network.kernels.numbers import gate, normalise
from smolvideo.network.kernels.products import Matrix, multiply
from smolvideo.network.kernels.sharing import are_done
from smolvideo.network.kernels.token_attention import Gathered, Seen, attend, join

PHASES_OF_A_LAYER = 5


class Weights(NamedTuple):
    """All layers' maps, the head, and the weights of their norms ``[2 layers + 1, D]``, float32."""

    qkv: Matrix
    out: Matrix
    gate_up: Matrix
    down: Matrix
    head: Matrix
    norms: Any
    epsilon: Any

    @property
    def kind(self) -> str:
        """A name for the dtypes of all maps and their scales."""
        maps = self.qkv, self.out, self.gate_up, self.down, self.head
        dtypes = [like.dtype.name for part in maps for like in (part.like, part.scale_like)]
        return "_".join(dtypes)


@lru_cache
def reader(kind: str, *, kept: bool = True) -> Compiled:
    """The function for weights of one ``kind``, which is kept on disk by that name.

    numba itself looks whether this file has changed, not at those it calls, but what the function
    refers to counts: the checksum of all. Returning it is all that is done with it.
    """
    checksum = sources()

    def read_token(
        hidden: Any,
        rotation: Any,
        weights: Weights,
        seen: Seen,
        heads: int,
        projected: Any,
        gathered: Gathered,
        gated: Any,
        scores: Any,
        counting: Any,
    ) -> int:
        """Vectors ``hidden`` ``[B, D]`` → ``scores`` ``[B, vocabulary]``; all threads run this.

        ``projected`` ``[B, H + 2 G, d]``, ``gathered`` and ``gated`` ``[B, 2 I]`` are memory that
        they share, as ``hidden`` is, which does not stay what it was. ``heads`` are those of
        queries.
        """
        sequences, width = hidden.shape
        counters = counting.ctypes.data
        layers = weights.qkv.weights.shape[0]
        last_parts = (weights.head.outputs + weights.head.at_once - 1) // weights.head.at_once
        if are_done(counters, PHASES_OF_A_LAYER * layers, last_parts):
            return checksum  # this thread came too late
        normed = np.empty((sequences, width), np.float32)
        joined = np.empty((sequences, weights.out.inputs), np.float32)
        activated = np.empty((sequences, weights.down.inputs), np.float32)
        flat = projected.reshape(sequences, weights.qkv.outputs)
        phase = np.int64(0)
        for layer in range(layers):
            normalise(hidden, weights.norms[2 * layer], weights.epsilon, normed)
            phase = multiply(weights.qkv, layer, normed, flat, False, counters, phase)
            phase = attend(projected, heads, rotation, seen, layer, gathered, counters, phase)
            join(gathered, sequences, joined)
            phase = multiply(weights.out, layer, joined, hidden, True, counters, phase)
            normalise(hidden, weights.norms[2 * layer + 1], weights.epsilon, normed)
            phase = multiply(weights.gate_up, layer, normed, gated, False, counters, phase)
            gate(gated, activated)
            phase = multiply(weights.down, layer, activated, hidden, True, counters, phase)
        normalise(hidden, weights.norms[2 * layers], weights.epsilon, normed)
        multiply(weights.head, 0, normed, scores, False, counters, phase)
        return checksum

    read_token.__qualname__ = f"read_token_{kind}"
    return compiled_and_kept(read_token) if kept else compiled(read_token)
