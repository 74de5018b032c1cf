"""Safetensors headers of a checkpoint: integrity, names, shapes and dtypes, without the data.

Only headers are read. Format: 8 bytes little-endian length, a JSON header of that length that gives
each tensor's dtype, shape and data_offsets, then the data (github.com/huggingface/safetensors,
README).

Validation against the configuration takes milliseconds. Every size in ``config.json`` that
determines an allocation is a dimension of a stored tensor or the number of such tensors (the
context length, which is not, has a bound of its own). So a malicious configuration cannot cause an
allocation that the files do not fill.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeGuard

from smolvideo.errors import ModelError
from smolvideo.json_types import parse_strict_json
from smolvideo.models.json_files import (
    TAKE_AS_PUBLISHED,
    Json,
    broken_checkpoint,
    read_json,
    shown,
)
from smolvideo.models.network_config import NetworkConfig, TextConfig, VisionConfig

COMPUTED_WEIGHTS = (".inv_freq", ".position_ids")
"""Suffixes of tensors that old checkpoints store although they are computed from the config."""

DTYPE_BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2},
    **{"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1},
}
"""Safetensors dtype → bytes per element; sub-byte dtypes are left out."""

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})

_NAMED_AT_MOST = 3
"""Maximum number of weights that an error lists; the rest are counted."""

_MAX_HEADER_BYTES = 16 << 20
"""Maximum bytes of a header. The library's limit is 100 MB, which parses to a gigabyte; the header
of the 2.2B model has 90 kB."""

_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a checkpoint, complete according to their headers."""

    files: tuple[Path, ...]
    parameters: int
    """Number of elements in all files."""

    @property
    def size_bytes(self) -> int:
        """Total size of the files in bytes."""
        return sum(file.stat().st_size for file in self.files)


def find_weights(folder: Path) -> WeightFiles:
    """Find ``model.safetensors``, or the shards listed in its index.

    Raises ModelError if a file is missing, is not a safetensors file, or is truncated.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        files = _shards(index)
    else:
        hint = TAKE_AS_PUBLISHED
        if any(folder.glob("*.bin")):
            hint = "weights in PyTorch's own format can run code and are not loaded"
        raise ModelError(f"broken checkpoint: no `model.safetensors` in `{folder}`", hint=hint)
    return WeightFiles(tuple(files), sum(count_parameters(file) for file in files))


def is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    try:
        count_parameters(file)
    except ModelError:
        return False
    return True


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise broken_checkpoint(f"`{index}` has no `weight_map`")
    names = set(map(str, weight_map.values()))
    for name in sorted(names):
        # A name with a folder in it could lead out of the checkpoint.
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise broken_checkpoint(f"`{index}` names `{name[:80]}`, which is no shard")
        if not (index.parent / name).is_file():
            raise broken_checkpoint(f"no `{name[:80]}` in `{index.parent}`")
        if not _is_inside(index.parent / name, index.parent):
            raise broken_checkpoint(f"`{name[:80]}` in `{index.parent}` leads to another folder")
    return [index.parent / name for name in sorted(names)]


def _is_inside(file: Path, folder: Path) -> bool:
    """Return whether a file, links resolved, is in ``folder``, or in the blobs of its hub cache."""
    real = file.resolve()
    homes = [folder.resolve()]
    if homes[0].parent.name == "snapshots":
        homes.append(homes[0].parent.parent / "blobs")
    return any(real.is_relative_to(home) for home in homes)


def format_weight_names(names: list[str]) -> str:
    """Format ``weight `a` `` or ``each of `a`, `b`, `c` and 4 more weights``."""
    if len(names) == 1:
        return f"weight `{names[0]}`"
    listed = ", ".join(f"`{name}`" for name in names[:_NAMED_AT_MOST])
    rest = len(names) - _NAMED_AT_MOST
    return f"each of {listed}" + (f" and {rest} more weights" if rest > 0 else "")


@dataclass(frozen=True)
class WeightHeader:
    """The parsed header of a safetensors file."""

    tensors: dict[str, Json]
    """Name → ``dtype``, ``shape`` and ``data_offsets``."""
    data_start: int
    """Byte offset of the data, the origin of ``data_offsets``."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """``__metadata__``: texts of the program that wrote the file."""


def read_header(file: Path) -> WeightHeader:
    """Parse the header of ``file``; ModelError if it is not a complete safetensors header."""
    try:
        with file.open("rb") as stream:
            return _parse_header(stream, file)
    except OSError as error:
        raise ModelError(f"cannot read `{file}`: {error.strerror or error}") from error
    except ValueError as error:
        raise _no_safetensors(file, str(error)) from error


def count_parameters(file: Path) -> int:
    """Return the number of elements in ``file``. Raises ModelError if it is truncated, or its
    tensors overlap or leave gaps."""
    header = read_header(file)
    if not header.tensors:
        raise broken_checkpoint(f"`{file}` holds no weights")
    parameters, extents = 0, []
    for name, description in header.tensors.items():
        try:
            count, start, end = _extent(description)
        except ValueError as error:
            raise _no_safetensors(file, f"{shown(name)} has {error}") from error
        parameters += count
        extents.append((start, end))
    _refuse_quantized(file, header)
    end = 0
    for start, stop in sorted(extents):
        if start != end:
            raise _no_safetensors(file, "its tensors overlap, or leave gaps")
        end = stop
    size, expected = file.stat().st_size, header.data_start + end
    if expected > size:
        raise broken_checkpoint(f"`{file}` is cut short ({size:,} of {expected:,} bytes)")
    if expected < size:
        raise _no_safetensors(file, f"{size - expected:,} bytes belong to no tensor")
    return parameters


def _extent(description: object) -> tuple[int, int, int]:
    """Return a tensor's number of elements, and its start and end offset; ValueError if invalid.

    Floats and booleans are refused in place of integers, because the loader computes with them.
    """
    if not isinstance(description, dict):
        raise ValueError("no description")
    shape, offsets = description.get("shape"), description.get("data_offsets")
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"the shape {shown(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"the offsets {shown(offsets)}")
    dtype = description.get("dtype")
    if not isinstance(dtype, str):
        raise ValueError(f"the dtype {shown(dtype)}")
    count = math.prod(shape)
    if dtype in DTYPE_BYTES and count * DTYPE_BYTES[dtype] != offsets[1] - offsets[0]:
        raise ValueError("another length than its shape")
    return count, offsets[0], offsets[1]


def _are_counts(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values
    )


def _refuse_quantized(file: Path, header: WeightHeader) -> None:
    """Raise ModelError for integer weights (quantized), which would be loaded as if they were
    floats."""
    for name, tensor in header.tensors.items():
        if tensor["dtype"] not in _FLOATS and not name.endswith(COMPUTED_WEIGHTS):
            raise ModelError(
                f"`{file}` stores `{name}` as {tensor['dtype']}: quantized weights are not read",
                hint="take the checkpoint as it was published",
            )


def _parse_header(stream: BinaryIO, file: Path) -> WeightHeader:
    start = stream.read(8)
    length = int.from_bytes(start, "little")
    if start.startswith(b"version "):
        raise ModelError(
            f"`{file}` is a Git LFS pointer, not the weights",
            hint="fetch it with `git lfs pull`",
        )
    if len(start) < 8 or not 2 <= length <= _MAX_HEADER_BYTES:
        raise _no_safetensors(file, "it does not begin with the length of its header")
    text = stream.read(length)
    if len(text) < length:
        raise broken_checkpoint(f"`{file}` is cut short")
    content = parse_strict_json(text.decode("utf-8"))
    if not isinstance(content, dict):
        raise _no_safetensors(file, "its header is no object")
    notes = content.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise _no_safetensors(file, "its `__metadata__` holds more than texts")
    return WeightHeader(content, 8 + length, notes)


def _no_safetensors(file: Path, why: str) -> ModelError:
    return broken_checkpoint(f"`{file}` is not a safetensors file: {why}")


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
