"""Formats of quantized weights: which weights of a checkpoint have which.

Every weight that a token or a frame is multiplied with is int8 or int4. A head that is tied to the
embedding stays as it is, as embedding and connector do: 6 % (2.2B) to 14 % (256M) of the published
weights.
"""

from typing import Literal

from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weights import expected_shapes

WeightFormat = Literal["int8", "int4"]

INT4_GROUP_SIZE = 32
"""Inputs that share a scale and an offset: the least that torch's int4 operator takes."""

INT4_TILE = 64
"""Maximum rows of a tile on any CPU: the number of rows must be a multiple."""

INT4_LAYERS = ("self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj")
"""Linear layers of the decoder that ``int4`` packs in 4 bits; queries, keys, values and the last
layer of the MLP take a byte. With all in 4 bits the perplexity of SmolLM2-135M rises by 26 %, with
these alone by 6 % (docs/speed.md), and a token takes as long."""


def quantized_formats(config: NetworkConfig, quantize: str) -> dict[str, WeightFormat]:
    """Weight name → the format that ``quantize`` (``none``, ``int8`` or ``int4``) gives it; other
    weights stay as they are.

    ``int4`` is for the decoder's layers alone: every token waits for them. A frame is many rows,
    and many rows take longer in int4. Layers that are fused have one format.
    """
    if quantize == "none":
        return {}
    return {
        name: "int4" if quantize == "int4" and _is_int4(name, shape) else "int8"
        for name, shape in expected_shapes(config).items()
        if (".layers." in name and len(shape) == 2) or name == "lm_head.weight"
    }


def int8_arithmetic_layers(config: NetworkConfig) -> frozenset[str]:
    """Weight names of the linear layers that may compute in int8: all of vision tower and decoder.
    The head has few rows."""
    return frozenset(name for name in quantized_formats(config, "int8") if ".layers." in name)


def is_int4_packable(out_features: int, in_features: int) -> bool:
    """Whether a weight has whole tiles and groups; the published widths do."""
    return out_features % INT4_TILE == 0 and in_features % INT4_GROUP_SIZE == 0


def _is_int4(name: str, shape: list[int]) -> bool:
    layer = name.removesuffix(".weight")
    is_chosen = ".text_model." in name and layer.endswith(INT4_LAYERS)
    return is_chosen and is_int4_packable(*shape)
