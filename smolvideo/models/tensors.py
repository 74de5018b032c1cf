"""Validation of weight files against the configuration: names, shapes and dtypes, by headers alone.

Takes milliseconds. Every size in ``config.json`` that determines an allocation is a dimension of a
stored tensor or the number of such tensors (the context length, which is not, has a bound of its
own). So a malicious configuration cannot cause an allocation that the files do not fill.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from smolvideo.models.json_files import Json, broken_checkpoint
from smolvideo.models.network_config import NetworkConfig, TextConfig, VisionConfig
from smolvideo.models.weights import COMPUTED_WEIGHTS, WeightHeader, format_weight_names

Shape = list[int]


def expected_shapes(config: NetworkConfig) -> dict[str, Shape]:
    """Return name → shape of each tensor that a checkpoint of ``config`` stores, with the names of
    transformers."""
    vision, text = config.vision, config.text
    shapes = dict(_vision_shapes(vision))
    shuffled = vision.hidden_size * config.scale_factor**2
    shapes["model.connector.modality_projection.proj.weight"] = [text.hidden_size, shuffled]
    shapes |= _text_shapes(text)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = [text.vocab_size, text.hidden_size]
    return shapes


def left_out(config: NetworkConfig) -> tuple[str, ...]:
    """Return the name suffixes of tensors that may be stored but are not loaded."""
    return (*COMPUTED_WEIGHTS, "lm_head.weight") if config.tie_word_embeddings else COMPUTED_WEIGHTS


def check_tensors(
    folder: Path,
    config: NetworkConfig,
    headers: Mapping[Path, WeightHeader],
    *,
    dtypes: Sequence[str] | None = None,
) -> None:
    """Check that the files hold every weight of the network exactly once, with its shape, and no
    others.

    ``dtypes`` are the safetensors dtypes that an engine supports, None for any. Raises ModelError.
    """
    skipped = left_out(config)
    _check_once(folder, headers, skip=skipped)
    expected = expected_shapes(config)
    stored = {name: entry for header in headers.values() for name, entry in header.tensors.items()}
    faults = {
        "is missing": [name for name in expected if name not in stored],
        "has another shape than config.json says": [
            name for name, shape in expected.items() if _shape(stored, name) not in (None, shape)
        ],
        "does not belong to this network": [
            name for name in stored if name not in expected and not name.endswith(skipped)
        ],
        "is stored in a format this engine does not read": [
            name
            for name in expected
            if name in stored and dtypes is not None and stored[name].get("dtype") not in dtypes
        ],
    }
    message = "; ".join(
        f"{format_weight_names(sorted(names))} {fault}" for fault, names in faults.items() if names
    )
    if message:
        raise broken_checkpoint(message, folder=folder)


def _shape(stored: Mapping[str, Json], name: str) -> object:
    return stored[name].get("shape") if name in stored else None


def _check_once(
    folder: Path, headers: Mapping[Path, WeightHeader], *, skip: tuple[str, ...]
) -> None:
    """Raise ModelError for a weight in two files: they may differ, and the right one is unknown."""
    held: dict[str, Path] = {}
    for file, header in headers.items():
        for name in header.tensors:
            if not name.endswith(skip) and name in held:
                raise broken_checkpoint(
                    f"{format_weight_names([name])} is in both "
                    f"`{held[name].name}` and `{file.name}`",
                    folder=folder,
                )
            held[name] = file


def _vision_shapes(config: VisionConfig) -> Iterator[tuple[str, Shape]]:
    width, inner = config.hidden_size, config.intermediate_size
    tower = "model.vision_model"
    patch = [width, 3, config.patch_size, config.patch_size]
    yield f"{tower}.embeddings.patch_embedding.weight", patch
    yield f"{tower}.embeddings.patch_embedding.bias", [width]
    positions = config.patches_per_side**2
    yield f"{tower}.embeddings.position_embedding.weight", [positions, width]
    linear = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
    linear |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    for number in range(config.num_hidden_layers):
        layer = f"{tower}.encoder.layers.{number}"
        for name, (rows, columns) in linear.items():
            yield f"{layer}.{name}.weight", [rows, columns]
            yield f"{layer}.{name}.bias", [rows]
        for name in ("layer_norm1", "layer_norm2"):
            yield f"{layer}.{name}.weight", [width]
            yield f"{layer}.{name}.bias", [width]
    yield f"{tower}.post_layernorm.weight", [width]
    yield f"{tower}.post_layernorm.bias", [width]


def _text_shapes(config: TextConfig) -> Iterator[tuple[str, Shape]]:
    width, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    decoder = "model.text_model"
    yield f"{decoder}.embed_tokens.weight", [config.vocab_size, width]
    for number in range(config.num_hidden_layers):
        layer = f"{decoder}.layers.{number}"
        yield f"{layer}.self_attn.q_proj.weight", [queries, width]
        yield f"{layer}.self_attn.k_proj.weight", [keys, width]
        yield f"{layer}.self_attn.v_proj.weight", [keys, width]
        yield f"{layer}.self_attn.o_proj.weight", [width, queries]
        yield f"{layer}.mlp.gate_proj.weight", [inner, width]
        yield f"{layer}.mlp.up_proj.weight", [inner, width]
        yield f"{layer}.mlp.down_proj.weight", [width, inner]
        yield f"{layer}.input_layernorm.weight", [width]
        yield f"{layer}.post_attention_layernorm.weight", [width]
    yield f"{decoder}.norm.weight", [width]
