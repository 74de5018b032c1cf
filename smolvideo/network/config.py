"""The numbers of a SmolVLM network, as they stand in its ``config.json``.

Published configurations leave out what equals the defaults of transformers' classes (5.23:
Idefics3VisionConfig, SmolVLMVisionConfig, LlamaConfig), so those defaults stand here too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from smolvideo.errors import ModelError


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

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Self:
        """From ``vision_config``. Raises ModelError for what these modules do not compute."""
        _only(section, "hidden_act", "gelu_pytorch_tanh")
        _only(section, "num_channels", 3)
        config = cls(
            image_size=_whole(section, "image_size", 224),
            patch_size=_whole(section, "patch_size", 32),
            hidden_size=_whole(section, "hidden_size", 1152),
            intermediate_size=_whole(section, "intermediate_size", 3072),
            num_hidden_layers=_whole(section, "num_hidden_layers", 12),
            num_attention_heads=_whole(section, "num_attention_heads", 16),
            layer_norm_eps=_number(section, "layer_norm_eps", 1e-6),
        )
        _divides(config.num_attention_heads, config.hidden_size, "heads of the vision tower")
        return config


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

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Self:
        """From ``text_config``. Raises ModelError for what these modules do not compute."""
        _only(section, "hidden_act", "silu")
        _only(section, "attention_bias", False)
        _only(section, "mlp_bias", False)
        hidden = _whole(section, "hidden_size", 4096)
        heads = _whole(section, "num_attention_heads", 32)
        config = cls(
            vocab_size=_whole(section, "vocab_size", 32000),
            hidden_size=hidden,
            intermediate_size=_whole(section, "intermediate_size", 11008),
            num_hidden_layers=_whole(section, "num_hidden_layers", 32),
            num_attention_heads=heads,
            num_key_value_heads=_whole(section, "num_key_value_heads", heads),
            head_dim=_whole(section, "head_dim", hidden // heads),
            max_position_embeddings=_whole(section, "max_position_embeddings", 2048),
            rope_theta=_rope_theta(section),
            rms_norm_eps=_number(section, "rms_norm_eps", 1e-6),
        )
        _divides(config.num_key_value_heads, heads, "key and value heads of the decoder")
        _divides(2, config.head_dim, "halves of a rotating head")
        return config


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

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> Self:
        """From the content of ``config.json`` of either family, ``idefics3`` or ``smolvlm``.

        Raises ModelError where a number is missing or malformed, or where the network would
        compute something else.
        """
        vision, text = (config.get(key) or {} for key in ("vision_config", "text_config"))
        network = cls(
            vision=VisionConfig.from_json(vision),
            text=TextConfig.from_json(text),
            scale_factor=_whole(config, "scale_factor", 2),
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        )
        _divides(network.scale_factor, network.vision.patches_per_side, "shuffled patches")
        return network


def _rope_theta(section: Mapping[str, Any]) -> float:
    """transformers 5 keeps it in ``rope_parameters``, transformers 4 kept it by itself."""
    rope = section.get("rope_parameters") or section.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ModelError(f"broken checkpoint: no SmolVLM has rotary positions of type `{kind}`")
    return _number({"rope_theta": section.get("rope_theta"), **rope}, "rope_theta", 10000.0)


def _whole(section: Mapping[str, Any], key: str, default: int) -> int:
    value = section.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(
            f"broken checkpoint: `{key}` must be a whole number above 0, not {value!r}"
        )
    return value


def _number(section: Mapping[str, Any], key: str, default: float) -> float:
    value = section.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ModelError(f"broken checkpoint: `{key}` must be a number above 0, not {value!r}")
    return float(value)


def _only(section: Mapping[str, Any], key: str, value: object) -> None:
    given = section.get(key)
    if given is not None and given != value:
        raise ModelError(
            f"broken checkpoint: `{key}` is {given!r}, and every SmolVLM has {value!r}"
        )


def _divides(divisor: int, number: int, what: str) -> None:
    if number % divisor:
        raise ModelError(f"broken checkpoint: {divisor} {what} do not divide {number}")
