"""The safetensors files of a checkpoint: which they are, and whether they are whole.

Only headers are read. Format: 8 bytes little-endian length, a JSON header of that length that gives
each tensor's dtype, shape and data_offsets, then the data (github.com/huggingface/safetensors,
README).
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from smolvideo.errors import ModelError
from smolvideo.models.files import Json, read_json

COMPUTED_WEIGHTS = (".inv_freq", ".position_ids")
"""Ends of the names of tensors that old checkpoints store although they follow from the config."""

_NAMED_AT_MOST = 3
"""So many tensors an error names before it counts the rest."""

_LONGEST_HEADER = 100_000_000  # the limit of the safetensors library


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of one checkpoint, whole as far as their headers tell."""

    files: tuple[Path, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.stat().st_size for file in self.files)

    @cached_property
    def parameters(self) -> int:
        """How many numbers the files hold."""
        return sum(
            math.prod(tensor["shape"])
            for file in self.files
            for name, tensor in read_header(file).items()
            if name != "__metadata__"
        )


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
    for file in files:
        _check_whole(file)
    return WeightFiles(tuple(files))


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


def data_start(file: Path) -> int:
    """Where the data of ``file`` begins, in bytes: offsets in its header count from there."""
    with file.open("rb") as stream:
        return 8 + int.from_bytes(stream.read(8), "little")


def read_header(file: Path) -> Json:
    """What ``file`` says of its tensors: name → dtype, shape and data_offsets.

    Raises ModelError where it is no safetensors file, or ends before its header does.
    """
    with file.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if start.startswith(b"version "):
            raise ModelError(
                f"`{file}` is a Git LFS pointer, not the weights",
                hint="fetch it with `git lfs pull`",
            )
        if len(start) < 8 or not 2 <= length <= _LONGEST_HEADER:
            raise ModelError(f"broken checkpoint: `{file}` is not a safetensors file")
        header = stream.read(length)
    if len(header) < length:
        raise ModelError(f"broken checkpoint: `{file}` is cut short")
    try:
        content = json.loads(header)
    except ValueError as error:
        raise ModelError(f"broken checkpoint: `{file}` is not a safetensors file") from error
    if not isinstance(content, dict):
        raise ModelError(f"broken checkpoint: `{file}` is not a safetensors file")
    return content


def _check_whole(file: Path) -> None:
    try:
        header = read_header(file)
        start = data_start(file)
        ends = [
            int(tensor["data_offsets"][1])
            for name, tensor in header.items()
            if name != "__metadata__"
        ]
        size = file.stat().st_size
    except OSError as error:
        raise ModelError(f"cannot read `{file}`: {error.strerror or error}") from error
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"broken checkpoint: `{file}` is not a safetensors file") from error
    if not ends:
        raise ModelError(f"broken checkpoint: `{file}` holds no weights")
    if start + max(ends) > size:
        raise ModelError(
            f"broken checkpoint: `{file}` is cut short ({size:,} of {start + max(ends):,} bytes)"
        )


def named_weights(names: list[str]) -> str:
    """``weight `a` `` or ``each of `a`, `b`, `c` and 4 more weights``."""
    if len(names) == 1:
        return f"weight `{names[0]}`"
    listed = ", ".join(f"`{name}`" for name in names[:_NAMED_AT_MOST])
    rest = len(names) - _NAMED_AT_MOST
    return f"each of {listed}" + (f" and {rest} more weights" if rest > 0 else "")
