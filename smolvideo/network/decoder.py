"""Decoder (Llama): token embeddings in, hidden states out."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo.models.network_config import TextConfig
from smolvideo.network.attention import (
    TORCH_BACKEND,
    AttentionBackend,
    LayerBackend,
    attention_reference,
)
from smolvideo.network.int8_arithmetic import swiglu_mlp
from smolvideo.network.kv_cache import BatchedKVCache, KVCache
from smolvideo.network.linear import Embedding, Linear, concat_linear
from smolvideo.network.threads import PrefillThreads, noop

_MAX_ACTIVATIONS_PER_CHUNK = 6 << 20
"""Activations between two products that go through the layers together on a CPU (chunked prefill):
2,048 tokens of 256M, 384 of 2.2B. Smaller chunks slow down products, larger ones leave the cache:
2.2B took a twenty-fifth longer with 2,048 tokens than with 512."""
_QUANTIZED_MIN_CHUNK = 2048
"""Minimum tokens per chunk where weights are quantized: they are dequantized for each chunk."""


def rope_inv_freq(head_dim: int, theta: float, device: torch.device) -> Tensor:
    """RoPE frequencies ``[head_dim / 2]``: angles between neighbouring positions."""
    exponents = torch.arange(0, head_dim, 2, device=device).float() / head_dim
    return 1.0 / theta**exponents


def rope_cos_sin(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """RoPE cosines and sines ``[..., L, head_dim]`` (arXiv 2104.09864), in float32.

    The halves of a head rotate against each other, as in the published checkpoints, not the
    neighbouring pairs of the paper; the sines of the first half are negated.
    """
    frequencies = rope_inv_freq(head_dim, theta, positions.device)
    angles = positions.float().unsqueeze(-1) * frequencies
    sines = angles.sin()
    return torch.cat((angles, angles), dim=-1).cos(), torch.cat((-sines, sines), dim=-1)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ``x`` ``[..., head_dim]`` by the angles of ``rope_cos_sin``."""
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin)


class TextAttention(nn.Module):
    """Grouped-query self-attention, under a mask or with a KV cache."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        width, head = config.hidden_size, config.head_dim
        self.q_proj = Linear(width, self.heads * head, bias=False)
        self.k_proj = Linear(width, self.kv_heads * head, bias=False)
        self.v_proj = Linear(width, self.kv_heads * head, bias=False)
        self.o_proj = Linear(self.heads * head, width, bias=False)
        self.qkv_proj: Linear | None = None
        self.backend: LayerBackend | None = None

    def fuse_projections(self) -> None:
        """Fuse the projections of queries, keys and values; for inference only."""
        self.qkv_proj = concat_linear(self.q_proj, self.k_proj, self.v_proj)
        del self.q_proj, self.k_proj, self.v_proj

    def use_compiled_attention(self, dtype: torch.dtype) -> None:
        """Prefill with the fastest attention backend; for inference on a CPU only."""
        self.backend = LayerBackend(self.head_dim, dtype, self.o_proj)

    @property
    def attention_backend(self) -> AttentionBackend:
        """Attention backend for prefill."""
        return TORCH_BACKEND if self.backend is None else self.backend.get()

    def project(self, x: Tensor) -> Tensor:
        """Project ``[B, L, D]`` to queries, keys and values, ``[B, L, H + 2 G, d]``."""
        if self.qkv_proj is not None:
            heads = self.qkv_proj(x)
        else:
            heads = torch.cat((self.q_proj(x), self.k_proj(x), self.v_proj(x)), dim=-1)
        return heads.view(*x.shape[:2], -1, self.head_dim)

    def forward(
        self,
        x: Tensor,
        residual: Tensor,
        cos_sin: tuple[Tensor, Tensor],
        attn_mask: Tensor | KVCache | BatchedKVCache,
    ) -> Tensor:
        """``residual`` plus self-attention of ``x`` ``[B, L, D]``.

        ``attn_mask`` is a mask over the tokens of ``x``, or a KV cache to which they are appended.
        """
        heads, kv_heads = self.heads, self.kv_heads
        projected = self.project(x)
        turned = apply_rope(projected[:, :, : heads + kv_heads], *cos_sin).transpose(1, 2)
        q, k = turned[:, :heads], turned[:, heads:]
        v = projected[:, :, heads + kv_heads :].transpose(1, 2)
        if isinstance(attn_mask, Tensor):
            mixed = attention_reference(q, k, v, attn_mask)
        elif isinstance(attn_mask, KVCache):
            mixed = attn_mask.attend(self.layer, q, k, v, self.attention_backend)
        else:
            mixed = attn_mask.attend(self.layer, q, k, v)
        return self.o_proj.forward_add(mixed.transpose(1, 2).flatten(2), residual)


class TextMLP(nn.Module):
    """Gated MLP (SwiGLU, arXiv 2002.05202)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.gate_up_proj: Linear | None = None

    def fuse_projections(self) -> None:
        """Fuse the gate and up projections; for inference only."""
        self.gate_up_proj = concat_linear(self.gate_proj, self.up_proj)
        del self.gate_proj, self.up_proj

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """``residual`` plus the MLP of ``x``, both ``[B, L, D]``."""
        if self.gate_up_proj is None:
            gated = F.silu(self.gate_proj(x)) * self.up_proj(x)
        else:
            first, second = self.gate_up_proj.int8_for(x), self.down_proj.int8_for(x)
            if first is not None and second is not None:
                return swiglu_mlp(x, first, second, residual)
            gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
            gated = F.silu(gate).mul_(up)
        return self.down_proj.forward_add(gated, residual)


class TextLayer(nn.Module):
    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = TextAttention(config, layer)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = TextMLP(config)

    def forward(
        self,
        x: Tensor,
        cos_sin: tuple[Tensor, Tensor],
        attn_mask: Tensor | KVCache | BatchedKVCache,
    ) -> Tensor:
        x = self.self_attn(self.input_layernorm(x), x, cos_sin, attn_mask)
        return self.mlp(self.post_attention_layernorm(x), x)


class Decoder(nn.Module):
    """``[B, L, D]`` token embeddings → ``[B, L, D]`` hidden states, normalized for the head."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            TextLayer(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self._threads = PrefillThreads()

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """``positions`` ``[B, L]``; ``mask`` ``[B, 1, L, L]``, 0 where a token may attend, else
        −inf."""
        return self.norm(self._layers(x, positions, mask))

    def prefill(self, x: Tensor, cache: KVCache, *, num_logits: int = 1) -> Tensor:
        """Append ``x`` ``[1, L, D]`` to ``cache``; return the last hidden states
        ``[1, num_logits, D]``.

        On a CPU the prompt goes through the layers in chunks, so that memory does not grow with its
        length.
        """
        cache.reserve(x.shape[1])
        parts = x.split(self._chunk_size, dim=1) if x.device.type == "cpu" else (x,)
        hidden = [self._append(part, cache)[:, -num_logits:] for part in parts]
        return self.norm(torch.cat(hidden, dim=1)[:, -num_logits:])

    @cached_property
    def _chunk_size(self) -> int:
        """Tokens per chunk of a prefill on a CPU."""
        rows = max(1, _MAX_ACTIVATIONS_PER_CHUNK // (2 * self.config.intermediate_size))
        maps = (part for part in self.layers[0].modules() if isinstance(part, Linear))
        quantized = any(part.quantized_weight is not None for part in maps)
        return max(rows, _QUANTIZED_MIN_CHUNK) if quantized else rows

    def _append(self, x: Tensor, cache: KVCache) -> Tensor:
        rows = x.shape[1]
        positions = torch.arange(cache.length, cache.length + rows, device=x.device)[None]
        with self._threads.limit(x) as after_layer:
            hidden = self._layers(x, positions, cache, after_layer)
        cache.length += rows
        return hidden

    def decode_batch(self, x: Tensor, cache: BatchedKVCache) -> Tensor:
        """Append one token ``[B, D]`` to each sequence of ``cache``; return hidden states
        ``[B, D]``."""
        cache.begin_step()
        hidden = self._layers(x[:, None], cache.positions(), cache)
        cache.end_step()
        return self.norm(hidden[:, 0])

    def _layers(
        self,
        x: Tensor,
        positions: Tensor,
        attn_mask: Tensor | KVCache | BatchedKVCache,
        after_layer: Callable[[], None] = noop,
    ) -> Tensor:
        cos, sin = rope_cos_sin(positions, self.config.head_dim, self.config.rope_theta)
        cos_sin = cos.unsqueeze(2).to(x.dtype), sin.unsqueeze(2).to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos_sin, attn_mask)
            after_layer()
        return x
