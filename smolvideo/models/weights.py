"""The safetensors files of a checkpoint: which they are, and whether they are whole.

Only headers are read. Format: 8 bytes little-endian length, a JSON header of that length that gives
each tensor's dtype, shape and data_offsets, then the data (github.com/huggingface/safetensors,
README).
"""

import json
import math
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import BinaryIO

from smolvideo.errors import ModelError
from smolvideo.models.files import Json, read_json

COMPUTED_WEIGHTS = (".inv_freq", ".position_ids")
"""Ends of the names of tensors that old checkpoints store although they follow from the config."""

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})

_NAMED_AT_MOST = 3
"""So many tensors an error names before it counts the rest."""

_LONGEST_HEADER = 100_000_000  # the limit of the safetensors library


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of one checkpoint, whole as far as their headers tell."""

    files: tuple[Path, ...]
    parameters: int
    """How many numbers the files hold."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.stat().st_size for file in self.files)


def find_weights(folder: Path) -> WeightFiles:
    """``model.safetensors``, or the shards its index names.

    Raises ModelError where a file is missing, is no safetensors file, or ends before its data does.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        files = _shards(index)
    else:
        hint = None
        if any(folder.glob("*.bin")):
            hint = "weights in PyTorch's own format can run code and are not loaded"
        raise ModelError(f"broken checkpoint: no `model.safetensors` in `{folder}`", hint=hint)
    return WeightFiles(tuple(files), sum(_count_parameters(file) for file in files))


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"broken checkpoint: `{index}` has no `weight_map`")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        # A name with a folder in it could point anywhere.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"broken checkpoint: `{index}` names `{name}`, which is no shard")
        if not (index.parent / name).is_file():
            raise ModelError(f"broken checkpoint: no `{name}` in `{index.parent}`")
    return [index.parent / name for name in names]


def named_weights(names: list[str]) -> str:
    """``weight `a` `` or ``each of `a`, `b`, `c` and 4 more weights``."""
    if len(names) == 1:
        return f"weight `{names[0]}`"
    listed = ", ".join(f"`{name}`" for name in names[:_NAMED_AT_MOST])
    rest = len(names) - _NAMED_AT_MOST
    return f"each of {listed}" + (f" and {rest} more weights" if rest > 0 else "")


@dataclass(frozen=True)
class WeightHeader:
    """What one file says of its tensors."""

    tensors: dict[str, Json]
    """Name → ``dtype``, ``shape`` and ``data_offsets``."""
    data_start: int
    """Where the data begins, in bytes: the offsets count from there."""


def read_header(file: Path) -> WeightHeader:
    """The header of ``file``; raises ModelError where it is no whole safetensors header."""
    try:
        with file.open("rb") as stream:
            return _parse_header(stream, file)
    except OSError as error:
        raise ModelError(f"cannot read `{file}`: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _no_safetensors(file) from error


def _count_parameters(file: Path) -> int:
    """How many numbers ``file`` holds. Raises ModelError where it ends before its data does."""
    header = read_header(file)
    try:
        tensors = header.tensors.values()
        # `index` refuses what only looks like a whole number: the loader calculates with them.
        ends = [[index(offset) for offset in tensor["data_offsets"]][1] for tensor in tensors]
        end = max(ends, default=0)
        parameters = sum(math.prod(map(index, tensor["shape"])) for tensor in tensors)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _no_safetensors(file) from error
    if not all(isinstance(tensor.get("dtype"), str) for tensor in tensors):
        raise _no_safetensors(file)
    if not tensors:
        raise ModelError(f"broken checkpoint: `{file}` holds no weights")
    _refuse_quantised(file, header)
    size, expected = file.stat().st_size, header.data_start + end
    if expected > size:
        raise ModelError(
            f"broken checkpoint: `{file}` is cut short ({size:,} of {expected:,} bytes)"
        )
    return parameters


def _refuse_quantised(file: Path, header: WeightHeader) -> None:
    """Whole numbers in place of weights would be taken for weights, and answer nothing."""
    for name, tensor in header.tensors.items():
        if tensor["dtype"] not in _FLOATS and not name.endswith(COMPUTED_WEIGHTS):
            raise ModelError(
                f"`{file}` stores `{name}` as {tensor['dtype']}: quantised weights are not read",
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
    if len(start) < 8 or not 2 <= length <= _LONGEST_HEADER:
        raise _no_safetensors(file)
    text = stream.read(length)
    if len(text) < length:
        raise ModelError(f"broken checkpoint: `{file}` is cut short")
    content = json.loads(text)
    if not isinstance(content, dict):
        raise _no_safetensors(file)
    content.pop("__metadata__", None)
    return WeightHeader(content, 8 + length)


def _no_safetensors(file: Path) -> ModelError:
    return ModelError(f"broken checkpoint: `{file}` is not a safetensors file")
