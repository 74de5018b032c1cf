"""The numbers of a SmolVLM network, as they stand in its ``config.json``."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VisionConfig:
    """The SigLIP vision tower: square images cut into square patches."""

    image_size: int
    patch_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float = 1e-6

    @property
    def patches_per_side(self) -> int:
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TextConfig:
    """The Llama decoder: grouped-query attention, rotary positions, gated MLP."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rope_theta: float
    rms_norm_eps: float = 1e-5


@dataclass(frozen=True)
class NetworkConfig:
    """Vision tower, decoder, and the pixel shuffle between them.

    ``scale_factor`` squared patches become one token.
    """

    vision: VisionConfig
    text: TextConfig
    scale_factor: int
    tie_word_embeddings: bool

    @property
    def tokens_per_image(self) -> int:
        return (self.vision.patches_per_side // self.scale_factor) ** 2
