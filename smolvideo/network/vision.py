"""Vision tower (SigLIP) and connector: pixels in, embeddings of the decoder's width out.

The connector is a pixel shuffle and a linear projection.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo.models.network_config import NetworkConfig, VisionConfig
from smolvideo.network.attention import (
    TORCH_BACKEND,
    AttentionBackend,
    LayerBackend,
    attention_reference,
)
from smolvideo.network.int8_arithmetic import gelu_mlp
from smolvideo.network.linear import Embedding, Linear, concat_linear


class PatchEmbeddings(nn.Module):
    """Patches through one linear layer (stored as a convolution), plus learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, kernel_size=size, stride=size)
        self.position_embedding = Embedding(config.patches_per_side**2, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """``[N, 3, S, S]`` → ``[N, P, D]`` with P patches in reading order.

        Pixels at the right and the bottom that fill no patch are ignored (384 pixels, patches of
        14).
        """
        n, channels, height, width = pixels.shape
        size = self.patch_embedding.kernel_size[0]
        down, across = height // size, width // size
        patches = pixels[:, :, : down * size, : across * size]
        patches = patches.reshape(n, channels, down, size, across, size)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, channels * size * size)
        weight = self.patch_embedding.weight.flatten(1)
        return F.linear(patches, weight, self.patch_embedding.bias) + self.position_embedding.weight


class VisionAttention(nn.Module):
    """Self-attention among all patches of an image."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.k_proj = Linear(config.hidden_size, config.hidden_size)
        self.v_proj = Linear(config.hidden_size, config.hidden_size)
        self.out_proj = Linear(config.hidden_size, config.hidden_size)
        self.qkv_proj: Linear | None = None
        self.backend: LayerBackend | None = None

    def fuse_projections(self) -> None:
        """Fuse the projections of queries, keys and values; for inference only."""
        self.qkv_proj = concat_linear(self.q_proj, self.k_proj, self.v_proj)
        del self.q_proj, self.k_proj, self.v_proj

    def use_compiled_attention(self) -> None:
        """Use the fastest attention backend; for inference on a CPU only."""
        self.backend = LayerBackend(self.head_dim, self.out_proj.bias.dtype, self.out_proj)

    @property
    def attention_backend(self) -> AttentionBackend:
        """Attention backend for inference."""
        return TORCH_BACKEND if self.backend is None else self.backend.get()

    def forward(self, x: Tensor, to: Tensor) -> Tensor:
        """``to`` plus self-attention of ``x``, both ``[N, P, D]``."""
        n, patches, width = x.shape
        if self.qkv_proj is None:
            projected = [projection(x) for projection in (self.q_proj, self.k_proj, self.v_proj)]
        else:
            projected = list(self.qkv_proj(x).chunk(3, dim=-1))
        q, k, v = (
            part.view(n, patches, self.heads, self.head_dim).transpose(1, 2) for part in projected
        )
        attend = (
            attention_reference
            if torch.is_grad_enabled()
            else self.attention_backend.vision_attention
        )
        mixed = attend(q, k, v)
        return self.out_proj.forward_add(mixed.transpose(1, 2).reshape(n, patches, width), to)


class VisionMLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor, to: Tensor) -> Tensor:
        """``to`` plus the MLP of ``x``, both ``[N, P, D]``."""
        first, second = self.fc1.int8_for(x), self.fc2.int8_for(x)
        if first is not None and second is not None:
            return gelu_mlp(x, first, second, to)
        return self.fc2.forward_add(self.fc1.forward_gelu(x), to)


class VisionLayer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = VisionAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.self_attn(self.layer_norm1(x), x)
        return self.mlp(self.layer_norm2(x), x)


class VisionEncoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionTower(nn.Module):
    """``[N, 3, S, S]`` pixels in −1…1 → ``[N, P, D]``, one embedding per patch."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.post_layernorm(self.encoder(self.embeddings(pixels)))


def pixel_shuffle(x: Tensor, scale_factor: int) -> Tensor:
    """``[N, P, D]`` → ``[N, P / s², D · s²]``: concatenate each s × s square of patches.

    The order inside a token is row by row, as in Idefics3 (arXiv 2408.12637, §2.2).
    """
    n, patches, width = x.shape
    side = int(patches**0.5)
    s = scale_factor
    x = x.reshape(n, side // s, s, side // s, s, width)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, patches // s**2, width * s**2)


class ModalityProjection(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.vision.hidden_size * config.scale_factor**2
        self.proj = Linear(width, config.text.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Connector(nn.Module):
    """``[N, P, D_vision]`` → ``[N, T, D_text]``: pixel shuffle, one linear layer, no bias."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.scale_factor = config.scale_factor
        self.modality_projection = ModalityProjection(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.modality_projection(pixel_shuffle(x, self.scale_factor))
