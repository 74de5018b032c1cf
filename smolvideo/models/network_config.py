"""Hyperparameters of a SmolVLM network, parsed from ``config.json`` and bounds-checked.

Published configurations omit values equal to the defaults of transformers' classes (5.23:
Idefics3VisionConfig, SmolVLMVisionConfig, LlamaConfig), so these defaults are repeated here.

A configuration is untrusted, and its sizes are allocated before weights are read. So each value has
a bound far above every SmolVLM (2.2B: 24 layers, 2,048 wide, 49,280 tokens, a context of 16,384),
and ``tensors`` compares all of them with the shapes that the weight files hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from smolvideo.models.json_files import broken_checkpoint, shown

MAX_LAYERS = 512
MAX_WIDTH = 65_536
"""Maximum hidden and intermediate size."""
MAX_HEADS = 1024
MAX_VOCABULARY = 1 << 20
MAX_CONTEXT_TOKENS = 1 << 17
MAX_IMAGE_SIZE = 4096
"""Pixels; the family's processors in transformers scale to no more (``MAX_IMAGE_SIZE``)."""
MAX_SCALE_FACTOR = 64
_MAX_EPSILON = 0.1
_MIN_ROPE_THETA = 1e3
_MAX_ROPE_THETA = 1e12
"""Llama has 1e4, the published checkpoints up to 2.7e5; far below, adjacent positions become
indistinguishable."""
_DTYPES = ("bfloat16", "float16", "float32")
_VISION_TYPES = ("idefics3", "idefics3_vision", "smolvlm", "smolvlm_vision", "siglip_vision_model")
_NOT_COMPUTED = (
    *("add_cross_attention", "alibi", "attention_chunk_size", "attention_multiplier"),
    *("attn_logit_softcapping", "clip_qkv", "cross_attention_layers", "embedding_multiplier"),
    *("final_logit_softcapping", "is_encoder_decoder", "kv_lora_rank", "logit_scale"),
    *("logit_softcapping", "logits_scaling", "no_rope_layer_interval", "no_rope_layers"),
    *("num_experts", "num_local_experts", "parallel_attn", "pruned_heads", "q_lora_rank"),
    *("qk_norm", "query_pre_attn_scalar", "residual_multiplier", "sliding_window"),
    *("sliding_window_pattern", "use_qk_norm", "use_sliding_window"),
)
"""Settings of features that related networks have and no SmolVLM does (transformers 5.23: the
configurations of Cohere, Gemma, Granite, Llama 4, Mistral, Mixtral, OLMo and Qwen)."""


@dataclass(frozen=True)
class VisionConfig:
    """Hyperparameters of the SigLIP vision tower: square images in square patches."""

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
        """Parse ``vision_config``. Raises ModelError for features that are not implemented."""
        _check_common(section)
        _only(section, "hidden_act", "gelu_pytorch_tanh")
        _only(section, "num_channels", 3)
        _only(section, "use_base_siglip", False)
        _one_of(section, "model_type", _VISION_TYPES)
        config = cls(
            image_size=whole_number(section, "image_size", 224, MAX_IMAGE_SIZE),
            patch_size=whole_number(section, "patch_size", 32, MAX_IMAGE_SIZE),
            hidden_size=whole_number(section, "hidden_size", 1152, MAX_WIDTH),
            intermediate_size=whole_number(section, "intermediate_size", 3072, MAX_WIDTH),
            num_hidden_layers=whole_number(section, "num_hidden_layers", 12, MAX_LAYERS),
            num_attention_heads=whole_number(section, "num_attention_heads", 16, MAX_HEADS),
            layer_norm_eps=_number(section, "layer_norm_eps", 1e-6, _MAX_EPSILON),
        )
        _divides(config.num_attention_heads, config.hidden_size, "heads of the vision tower")
        return config


@dataclass(frozen=True)
class TextConfig:
    """Hyperparameters of the Llama decoder: grouped-query attention, RoPE, gated MLP."""

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
        """Parse ``text_config``. Raises ModelError for features that are not implemented."""
        _check_common(section)
        _only(section, "model_type", "llama")
        _only(section, "hidden_act", "silu")
        _only(section, "attention_bias", False)
        _only(section, "is_llama_config", True)
        if any(kind != "full_attention" for kind in _listed(section, "layer_types")):
            raise broken_checkpoint("every layer of every SmolVLM has full attention")
        for name in ("mlp_bias", "qk_layer_norms", "rope_interleaved", "use_resampler"):
            _only(section, name, False)
        hidden = whole_number(section, "hidden_size", 4096, MAX_WIDTH)
        heads = whole_number(section, "num_attention_heads", 32, MAX_HEADS)
        config = cls(
            vocab_size=whole_number(section, "vocab_size", 32000, MAX_VOCABULARY),
            hidden_size=hidden,
            intermediate_size=whole_number(section, "intermediate_size", 11008, MAX_WIDTH),
            num_hidden_layers=whole_number(section, "num_hidden_layers", 32, MAX_LAYERS),
            num_attention_heads=heads,
            num_key_value_heads=whole_number(section, "num_key_value_heads", heads, MAX_HEADS),
            head_dim=whole_number(section, "head_dim", hidden // heads, MAX_WIDTH),
            max_position_embeddings=whole_number(
                section, "max_position_embeddings", 2048, MAX_CONTEXT_TOKENS
            ),
            rope_theta=_rope_theta(section),
            rms_norm_eps=_number(section, "rms_norm_eps", 1e-6, _MAX_EPSILON),
        )
        _divides(config.num_key_value_heads, heads, "key and value heads of the decoder")
        _divides(2, config.head_dim, "halves of a rotating head")
        return config


@dataclass(frozen=True)
class NetworkConfig:
    """Hyperparameters of vision tower and decoder, and of the pixel shuffle between them.

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
        """Parse ``config.json`` of either family, ``idefics3`` or ``smolvlm``.

        Raises ModelError if a value is missing or malformed, or if the network needs a feature that
        is not implemented.
        """
        vision, text = (_section(config, key) for key in ("vision_config", "text_config"))
        _check_common(config)
        network = cls(
            vision=VisionConfig.from_json(vision),
            text=TextConfig.from_json(text),
            scale_factor=whole_number(config, "scale_factor", 2, MAX_SCALE_FACTOR),
            tie_word_embeddings=flag(config, "tie_word_embeddings", default=False),
        )
        _same_as(text, "tie_word_embeddings", network.tie_word_embeddings)
        _same_as(config, "vocab_size", network.text.vocab_size)
        _divides(network.scale_factor, network.vision.patches_per_side, "shuffled patches")
        return network


def whole_number(section: Mapping[str, Any], key: str, default: int, at_most: int) -> int:
    """Return the integer ``section[key]``, 1 to ``at_most``; ``default`` if missing or null. Raises
    ModelError."""
    value = section.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise broken_checkpoint(f"`{key}` must be a whole number above 0, not {shown(value)}")
    if value > at_most:
        raise broken_checkpoint(f"`{key}` is {value:,}, and no SmolVLM has more than {at_most:,}")
    return value


def flag(section: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """Return the boolean ``section[key]``; ``default`` if missing or null. Raises ModelError."""
    value = section.get(key)
    if value is not None and not isinstance(value, bool):
        raise broken_checkpoint(f"`{key}` must be true or false, not {shown(value)}")
    return default if value is None else value


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = config.get(key)
    if section is not None and not isinstance(section, Mapping):
        raise broken_checkpoint(f"`{key}` must be an object, not {shown(section)}")
    return section or {}


def _rope_theta(section: Mapping[str, Any]) -> float:
    """Return the RoPE base: ``rope_parameters.rope_theta`` (transformers 5) or ``rope_theta``
    (4)."""
    rope = _section(section, "rope_parameters") or _section(section, "rope_scaling")
    kinds = [kind for name in ("rope_type", "type") if (kind := rope.get(name)) is not None]
    for kind in kinds:
        if kind != "default":
            raise broken_checkpoint(f"no SmolVLM has rotary positions of type {shown(kind)}")
    for key in rope.keys() - {"rope_type", "type", "rope_theta"}:
        _only(rope, key, 1.0)  # factors of other RoPE types
    _only(section, "partial_rotary_factor", 1.0)
    thetas = [one for one in (rope.get("rope_theta"), section.get("rope_theta")) if one is not None]
    if len(thetas) == 2 and thetas[0] != thetas[1]:
        raise broken_checkpoint(f"`rope_theta` is {shown(thetas[0])} and {shown(thetas[1])}")
    theta = _number(
        {"rope_theta": thetas[0] if thetas else None}, "rope_theta", 1e4, _MAX_ROPE_THETA
    )
    if theta < _MIN_ROPE_THETA:
        raise broken_checkpoint(
            f"`rope_theta` is {theta:g}, and no SmolVLM has less than {_MIN_ROPE_THETA:g}"
        )
    return theta


def _number(section: Mapping[str, Any], key: str, default: float, at_most: float) -> float:
    value = section.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise broken_checkpoint(f"`{key}` must be a number above 0, not {shown(value)}")
    if value > at_most:
        raise broken_checkpoint(f"`{key}` is {value:g}, and no SmolVLM has more than {at_most:g}")
    return float(value)


def _only(section: Mapping[str, Any], key: str, value: object) -> None:
    given = section.get(key)
    # 3.0 == 3 and True == 1, but other code may tell them apart: the type must match as well.
    kinds = (float, int) if isinstance(value, float) else (type(value),)
    if given is not None and (type(given) not in kinds or given != value):
        raise broken_checkpoint(f"`{key}` is {shown(given)}, and every SmolVLM has {value!r}")


def _same_as(section: Mapping[str, Any], key: str, value: object) -> None:
    """Raise ModelError if a value that is stored twice differs."""
    given = section.get(key)
    if given is not None and (type(given) is not type(value) or given != value):
        raise broken_checkpoint(f"`{key}` is {shown(given)} in one place, {value!r} in another")


def _one_of(section: Mapping[str, Any], key: str, values: tuple[str, ...]) -> None:
    given = section.get(key)
    if given is not None and given not in values:
        raise broken_checkpoint(f"`{key}` is {shown(given)}, not one of {', '.join(values)}")


def _listed(section: Mapping[str, Any], key: str) -> list[Any]:
    given = section.get(key)
    if given is not None and not isinstance(given, list):
        raise broken_checkpoint(f"`{key}` must be a list, not {shown(given)}")
    return given or []


def _check_common(section: Mapping[str, Any]) -> None:
    """Check what applies to every section. Raises ModelError."""
    for key in ("dtype", "torch_dtype"):
        _one_of(section, key, _DTYPES)
    for key in _NOT_COMPUTED:
        if section.get(key) not in (None, False, {}, []):
            raise broken_checkpoint(f"`{key}` is {shown(section[key])}, and no SmolVLM has it")


def _divides(divisor: int, number: int, what: str) -> None:
    if number % divisor:
        raise broken_checkpoint(f"{divisor} {what} do not divide {number}")
