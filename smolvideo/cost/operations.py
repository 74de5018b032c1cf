"""Operations and bytes of each stage, counted from a network's hyperparameters.

A multiplication and an addition are two operations (FLOP). Products of weights and activations are
counted apart from attention, whose operations grow with the square of the tokens: machines run the
two at different rates. Norms, activations and RoPE are linear in the tokens and are part of the
measured rates (``rates``). Formulas: Kaplan et al., arXiv 2001.08361, §2.1, for grouped-query
attention and the vision tower as ``smolvideo.network`` computes them.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weight_formats import (
    INT4_GROUP_SIZE,
    int8_arithmetic_layers,
    quantized_formats,
)
from smolvideo.models.weights import expected_shapes

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per element of the dtypes of inference."""

_QUANTIZED_CHUNK = 2048
"""Tokens for which quantized weights are dequantized once (``network.decoder``)."""

_INT8_OUTPUT_BYTES = 12
"""Scale, sum of weights and bias of an output, float32 (``network.int8_arithmetic``)."""

_EMBEDDING = "model.text_model.embed_tokens.weight"
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class StageWork:
    """Operations of one stage: of products with weights, and of attention; ``moved_bytes`` are
    read or written beyond them: weights that are dequantized first."""

    product_flops: int
    attention_flops: int
    moved_bytes: int = 0


@dataclass(frozen=True)
class NumberFormat:
    """Dtype of activations and unquantized weights, the format of quantized weights, and the
    arithmetic of many rows, which has weights of its own: ``float`` or ``int8``."""

    dtype: str
    quantize: str = "none"
    arithmetic: str = "float"

    @property
    def bytes(self) -> int:
        """Bytes per activation."""
        return DTYPE_BYTES[self.dtype]


@lru_cache
def largest_tensor(config: NetworkConfig) -> int:
    """Number of weights of the largest stored tensor."""
    return max(map(prod, expected_shapes(config).values()))


@lru_cache
def parameter_count(config: NetworkConfig) -> int:
    """Number of stored weights; a tied head is stored once."""
    return sum(map(prod, expected_shapes(config).values()))


@lru_cache
def weight_bytes(config: NetworkConfig, numbers: NumberFormat) -> int:
    """Memory of all weights as the engine ``native`` holds them: with int8 arithmetic those of the
    vision tower's layers are int8 alone, and the decoder's are int8 as well."""
    formats = quantized_formats(config, numbers.quantize)
    in_int8 = int8_arithmetic_layers(config) if numbers.arithmetic == "int8" else frozenset()
    total = 0
    for name, shape in expected_shapes(config).items():
        if name in in_int8:
            is_vision = ".vision_model." in name
            shared = formats.get(name) == "int8" and not is_vision  # levels of the same weight
            total += 0 if shared else prod(shape)
            total += shape[0] * _INT8_OUTPUT_BYTES
        if name not in in_int8 or ".vision_model." not in name:
            total += _bytes_as(shape, formats.get(name, "none"), numbers.bytes)
    return total


def encode_work(config: NetworkConfig, numbers: NumberFormat) -> StageWork:
    """Work of vision tower and connector for one image."""
    vision = config.vision
    patches, width = vision.patches_per_side**2, vision.hidden_size
    per_layer = 4 * width * width + 2 * width * vision.intermediate_size
    patch_weights = 3 * vision.patch_size**2 * width
    shuffled = width * config.scale_factor**2
    multiplied = patches * (vision.num_hidden_layers * per_layer + patch_weights)
    multiplied += config.tokens_per_image * shuffled * config.text.hidden_size
    scores = attention_flops(vision.num_attention_heads, vision.head_dim, patches**2)
    weights = vision.num_hidden_layers * per_layer
    return StageWork(
        product_flops=2 * multiplied,
        attention_flops=vision.num_hidden_layers * scores,
        moved_bytes=_dequantized_bytes(weights, numbers),
    )


def prefill_work(
    config: NetworkConfig, tokens: int, numbers: NumberFormat, *, cached: int = 0
) -> StageWork:
    """Work of the decoder for ``tokens`` after ``cached`` others, and of the head for the last."""
    text = config.text
    scores = attention_flops(text.num_attention_heads, text.head_dim, causal_pairs(tokens, cached))
    chunks = -(-tokens // _QUANTIZED_CHUNK)
    return StageWork(
        product_flops=2 * (tokens * decoder_weights(config) + head_weights(config)),
        attention_flops=text.num_hidden_layers * scores,
        moved_bytes=chunks * _dequantized_bytes(decoder_weights(config), numbers),
    )


def attention_flops(heads: int, head_dim: int, pairs: int) -> int:
    """Operations of scores and of weighted sums of one layer, for ``pairs`` of query and key."""
    return 4 * heads * head_dim * pairs


def causal_pairs(tokens: int, cached: int = 0) -> int:
    """Pairs of query and key: each of ``tokens`` attends to the ``cached`` ones, to those before
    it, and to itself."""
    return tokens * cached + tokens * (tokens + 1) // 2


def decode_bytes(config: NetworkConfig, length: int, numbers: NumberFormat) -> int:
    """Bytes that one token reads after ``length`` others: weights of decoder and head, and the KV
    cache."""
    return _weight_bytes_per_token(config, numbers) + kv_bytes(config, length, numbers)


@lru_cache
def _weight_bytes_per_token(config: NetworkConfig, numbers: NumberFormat) -> int:
    formats = quantized_formats(config, numbers.quantize)
    head = _EMBEDDING if config.tie_word_embeddings else _HEAD
    return sum(
        _bytes_as(shape, formats.get(name, "none"), numbers.bytes)
        for name, shape in expected_shapes(config).items()
        if ".text_model.layers." in name or name == head
    )


def kv_bytes(config: NetworkConfig, tokens: int, numbers: NumberFormat) -> int:
    """Bytes of the keys and values of ``tokens``."""
    text = config.text
    per_layer = 2 * text.num_key_value_heads * text.head_dim * numbers.bytes
    return text.num_hidden_layers * per_layer * tokens


def decoder_weights(config: NetworkConfig) -> int:
    """Weights of the linear layers that every token of the decoder is multiplied with."""
    text = config.text
    heads = text.num_attention_heads + text.num_key_value_heads
    per_layer = 2 * heads * text.head_dim + 3 * text.intermediate_size
    return text.num_hidden_layers * per_layer * text.hidden_size


def head_weights(config: NetworkConfig) -> int:
    """Weights of the head."""
    return config.text.vocab_size * config.text.hidden_size


def _dequantized_bytes(weights: int, numbers: NumberFormat) -> int:
    """Bytes read and written where ``weights`` are dequantized for one product of many rows."""
    dequantized = numbers.quantize != "none" and numbers.arithmetic != "int8"
    return weights * (1 + 2 * numbers.bytes) if dequantized else 0


def _bytes_as(shape: list[int], weight_format: str, number_bytes: int) -> int:
    if weight_format == "int8":
        return prod(shape) + shape[0] * number_bytes
    if weight_format == "int4":
        return prod(shape) // 2 + prod(shape) // INT4_GROUP_SIZE * 4  # scale and offset
    return prod(shape) * number_bytes
