"""The SmolVLM network, named as in a published checkpoint; see ``loading`` for its weights."""

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo.models.network_config import NetworkConfig
from smolvideo.network.compilation import CompiledInBackground
from smolvideo.network.cpu_decode import CpuDecoder
from smolvideo.network.decoder import Decoder, TextAttention, TextMLP
from smolvideo.network.int8_arithmetic import (
    compiled_row_passes,
    int8_weight_levels,
    row_passes,
)
from smolvideo.network.kv_cache import BatchedKVCache, BatchedPagedKVCache, KVCache
from smolvideo.network.linear import Linear, int8_linears
from smolvideo.network.quantized import Int8Weight
from smolvideo.network.vision import Connector, VisionAttention, VisionLayer, VisionTower

VISION = ".vision_model."
"""Part of the name of each weight of the vision tower."""


class SmolVLMModel(nn.Module):
    """Modules whose parameters are under ``model.`` in the checkpoints."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.vision_model = VisionTower(config.vision)
        self.connector = Connector(config)
        self.text_model = Decoder(config.text)


_HEAD_WEIGHTS_PER_CHUNK = 1 << 17
"""Weights of the head that are converted to float32 at a time: 0.5 MB stays in cache. Of 2^16 to
2^20 the fastest for one row, 14 ms for the 28 million of 256M on one core."""


class Head(Linear):
    """Hidden states ``[..., D]`` → logits ``[..., vocabulary]``, float32 in every weight format.

    bfloat16 has steps of an eighth between 16 and 32, where the largest logits are: of the weights
    of SmolLM2-135M, one token in twenty would tie with another for the most likely.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if isinstance(self.quantized_weight, Int8Weight):
            logits = self.quantized_weight.matmul(rows.float(), None)
        elif x.dtype is torch.float32:
            logits = F.linear(rows, self.weight).float()  # autocast rounds
        elif has_float32_product(x.device, x.dtype):
            logits = torch.mm(rows, self.weight.t(), out_dtype=torch.float32)
        else:
            exact, at_once = rows.float(), max(1, _HEAD_WEIGHTS_PER_CHUNK // x.shape[-1])
            parts = self.weight.split(at_once)
            logits = torch.cat([F.linear(exact, part.float()) for part in parts], dim=-1)
        return logits.view(*x.shape[:-1], -1)


@cache
def has_float32_product(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch multiplies matrices of ``dtype`` on ``device`` to float32, as with CUDA;
    no CPU does."""
    ones = torch.ones((2, 16), device=device, dtype=dtype)
    try:
        return bool((torch.mm(ones, ones.t(), out_dtype=torch.float32) == 16).all())
    except (RuntimeError, TypeError):  # this device has none; another torch
        return False


class SmolVLM(nn.Module):
    """Vision tower, connector, decoder and head; a tied head shares the embedding's weight.

    ``cpu_decoder`` decodes single tokens where it is faster than torch.
    """

    cpu_decoder: CpuDecoder | None = None

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.model = SmolVLMModel(config)
        self.lm_head = Head(config.text.hidden_size, config.text.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Share the embedding's weight with the head, if the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.text_model.embed_tokens.weight

    @property
    def attention_backend_name(self) -> str:
        """Name of the vision tower's attention backend; backends round differently."""
        layer = cast(VisionLayer, self.model.vision_model.encoder.layers[0])
        return layer.self_attn.attention_backend.name

    @property
    def encode_kernels(self) -> tuple[CompiledInBackground[Any], ...]:
        """Kernels that ``encode_images`` waits for."""
        layer = cast(VisionLayer, self.model.vision_model.encoder.layers[0])
        backend = layer.self_attn.backend
        kernel = None if backend is None else backend.compiled
        passes = compiled_row_passes() if layer.mlp.fc1.int8_product is not None else None
        return tuple(kernel for kernel in (kernel, passes) if kernel is not None)

    @property
    def decode_kernels(self) -> tuple[CompiledInBackground[Any], ...]:
        """Kernels that a decode step waits for."""
        return () if self.cpu_decoder is None else (self.cpu_decoder.kernel,)

    @property
    def vision_arithmetic(self) -> str:
        """Arithmetic of the vision tower's linear layers, and what decides its rounding."""
        parts = int8_linears(self).items()
        used = [name for name, part in parts if part.uses_int8 and VISION in name]
        if not used:
            return "float"
        return f"int8 {row_passes().name} {int8_weight_levels()} {used}"

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Encode pixels ``[N, 3, S, S]`` in −1…1 to the decoder's image features ``[N, T, D]``."""
        return self.model.connector(self.model.vision_model(pixels))

    def embed_inputs(self, token_ids: Tensor, features: Tensor, image_token_id: int) -> Tensor:
        """Embed ids ``[B, L]`` → ``[B, L, D]``; image tokens take ``features`` ``[N, T, D]``."""
        vectors: Tensor = self.model.text_model.embed_tokens(token_ids)
        at_images = (token_ids == image_token_id).unsqueeze(-1)
        return vectors.masked_scatter(at_images, features.reshape(-1, features.shape[-1]))

    def embed_tokens(self, token_ids: Sequence[int]) -> Tensor:
        """Embeddings ``[1, L, D]``; of one token a view of the table, neither copied nor moved to
        the device."""
        embedding = self.model.text_model.embed_tokens
        if len(token_ids) == 1:
            return embedding.weight[token_ids[0]].view(1, 1, -1)
        vectors: Tensor = embedding(torch.tensor([[*token_ids]], device=embedding.weight.device))
        return vectors

    def new_cache(self, capacity: int) -> KVCache:
        """Allocate a KV cache for ``capacity`` tokens."""
        weight, paged = self.model.text_model.norm.weight, self.cpu_decoder is not None
        return KVCache.empty(
            self.config.text, capacity, device=weight.device, dtype=weight.dtype, paged=paged
        )

    def new_batch_cache(
        self, common: KVCache, sequences: int, capacity: int
    ) -> BatchedKVCache | BatchedPagedKVCache:
        """Allocate a KV cache for ``sequences`` after the shared prefix ``common``, ``capacity``
        tokens each."""
        kind = BatchedKVCache if self.cpu_decoder is None else BatchedPagedKVCache
        return kind(common, sequences, capacity)

    def prefill(self, vectors: Tensor, cache: KVCache, *, last: int = 1) -> Tensor:
        """Append ``vectors`` ``[1, L, D]`` to ``cache``; return the logits ``[last, vocabulary]``,
        float32.

        The head runs only over the ``last`` tokens.
        """
        if self.cpu_decoder is not None and vectors.shape[1] == 1:
            return self.cpu_decoder.decode(vectors[0], cache)
        hidden = self.model.text_model.prefill(vectors, cache, num_logits=last)
        logits: Tensor = self.lm_head(hidden)
        return logits[0]

    def decode_batch(self, vectors: Tensor, batch: BatchedKVCache | BatchedPagedKVCache) -> Tensor:
        """Append one token ``[B, D]`` to each sequence; return the logits ``[B, vocabulary]``,
        float32."""
        if isinstance(batch, BatchedPagedKVCache):
            assert self.cpu_decoder is not None
            return self.cpu_decoder.decode_batch(vectors, batch)
        hidden = self.model.text_model.decode_batch(vectors, batch)
        logits: Tensor = self.lm_head(hidden)
        return logits


def prepare_for_inference(
    part: nn.Module, *, compiled: bool = False, dtype: torch.dtype = torch.float32
) -> None:
    """Fuse and pack the linear layers of ``part`` itself; it cannot be trained afterwards.

    Its children need calls of their own: no more than one module is in memory twice. ``compiled``:
    compiled kernels do some of the work. Weights that a ``cpu_decoder`` reads, too, stay row-major:
    2,048 rows take 3 to 6 % longer with them.
    """
    if isinstance(part, VisionAttention | TextAttention | TextMLP):
        part.fuse_projections()
    if compiled and isinstance(part, VisionAttention):
        part.use_compiled_attention()
    if compiled and isinstance(part, TextAttention):
        part.use_compiled_attention(dtype)
    if isinstance(part, SmolVLM):
        return  # the head converts its weights, or has no GELU or addition to fuse
    for child in part.children():
        if isinstance(child, Linear):
            child.pack_for_onednn(in_rows=compiled and isinstance(part, TextAttention | TextMLP))


def weight_bytes(network: SmolVLM) -> int:
    """Memory of all weights, in whatever format, packed ones included."""
    total = sum(weight.nbytes for weight in network.parameters())
    for part in network.modules():
        if not isinstance(part, Linear):
            continue
        copies = part.packed, part.quantized_weight, part.int8_product
        total += sum(copy.nbytes for copy in copies if copy is not None)
        if part.int8_product is not None and part.int8_product.shares(part.quantized_weight):
            total -= part.int8_product.levels.nbytes
    return total
