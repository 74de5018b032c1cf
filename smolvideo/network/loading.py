"""A checkpoint's weights into the network: tensor by tensor, in the dtype it will run in.

The network is built without memory first. Each tensor is read into memory of its own, converted,
and put in its place before the next is read, so a float32 checkpoint of 9 GB becomes a bfloat16
network of 4.5 GB through a little more than 4.5 GB; and what a layer multiplies with is laid out
for it as soon as it is there. Quantised weights are made of each tensor as it is stored, so nothing
is rounded twice. Reading beats mapping here: pages of a mapped file stay with the process after
their tensor was converted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from smolvideo.errors import ModelError
from smolvideo.models.files import Json, read_json
from smolvideo.models.weights import (
    COMPUTED_WEIGHTS,
    WeightFiles,
    WeightHeader,
    named_weights,
    read_header,
)
from smolvideo.network.config import NetworkConfig
from smolvideo.network.linear import Linear
from smolvideo.network.model import SmolVLM, kinds_of_weights, prepare_for_inference
from smolvideo.network.row_attention import prepared
from smolvideo.network.token_step import TokenStep, suits

STORED_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""The names that safetensors has for the dtypes that checkpoints of this family come in."""


def load_network(
    folder: Path,
    weights: WeightFiles,
    *,
    device: torch.device,
    dtype: torch.dtype,
    quantise: str = "none",
) -> SmolVLM:
    """The network of the checkpoint in ``folder``, ready for inference on ``device``.

    ``quantise``: what becomes of weights that are ``quantisable``. Raises ModelError naming what is
    missing, left over, of another shape or unreadable.
    """
    config = NetworkConfig.from_json(read_json(folder / "config.json"))
    with torch.device("meta"):
        network = SmolVLM(config)
    headers = {file: read_header(file) for file in weights.files}
    _check_once(folder, headers, skip=_skipped(config))
    _check_complete(folder, network, headers.values())
    compiled = suits(config.text, device, dtype)
    if compiled:  # while weights are read
        for attending in (config.vision, config.text):
            prepared(attending.head_dim, dtype)
    missing = Counter(_owner(name) for name in expected_shapes(network))
    # Names, not the maps: whoever holds those that are joined holds their weights twice.
    kinds = kinds_of_weights(network, quantise)
    for name, tensor in _read(headers, skip=_skipped(config)):
        module, _, parameter = name.rpartition(".")
        place = network.get_submodule(module)
        if name in kinds:
            assert isinstance(place, Linear)
            place.quantise(tensor.to(device), dtype, kinds[name])
        else:
            value = tensor.to(device=device, dtype=dtype)
            setattr(place, parameter, nn.Parameter(value, requires_grad=False))
        missing[_owner(name)] -= 1
        if _owner(name) and not missing[_owner(name)]:
            # Now, not at the end: the memory of what was packed serves the next to be read.
            part = network.get_submodule(_owner(name))
            prepare_for_inference(part, compiled=compiled)
    network.tie()
    prepare_for_inference(network, compiled=compiled)
    if compiled:
        network.token_step = TokenStep(network.model.text_model, network.lm_head)
    return network.eval()


def _owner(name: str) -> str:
    """The module that multiplies with a tensor: of ``x.mlp.up_proj.weight``, ``x.mlp``."""
    return name.rpartition(".")[0].rpartition(".")[0]


def expected_shapes(network: SmolVLM) -> dict[str, list[int]]:
    """Name → shape of each tensor that a checkpoint of ``network`` stores."""
    skipped = _skipped(network.config)
    return {
        name: list(parameter.shape)
        for name, parameter in network.named_parameters(remove_duplicate=False)
        if not name.endswith(skipped)
    }


def _skipped(config: NetworkConfig) -> tuple[str, ...]:
    return (*COMPUTED_WEIGHTS, "lm_head.weight") if config.tie_word_embeddings else COMPUTED_WEIGHTS


def _check_once(folder: Path, headers: dict[Path, WeightHeader], *, skip: tuple[str, ...]) -> None:
    """No weight in two of the files: they may differ, and either may be the one that is meant."""
    held: dict[str, Path] = {}
    for file, header in headers.items():
        for name in header.tensors:
            if not name.endswith(skip) and name in held:
                raise ModelError(
                    f"broken checkpoint `{folder}`: {named_weights([name])} is in both "
                    f"`{held[name].name}` and `{file.name}`"
                )
            held[name] = file


def _check_complete(folder: Path, network: SmolVLM, headers: Iterable[WeightHeader]) -> None:
    """Every weight of the network from the files, and no weight in the files without a place."""
    expected = expected_shapes(network)
    stored = {name: told for header in headers for name, told in header.tensors.items()}
    skipped = _skipped(network.config)
    faults = {
        "is missing": [name for name in expected if name not in stored],
        "has another shape than config.json says": [
            name for name, shape in expected.items() if stored.get(name, {}).get("shape") != shape
        ],
        "does not belong to this network": [
            name for name in stored if name not in expected and not name.endswith(skipped)
        ],
        "is stored in a format this engine does not read": [
            name for name in expected if stored.get(name, {}).get("dtype") not in STORED_DTYPES
        ],
    }
    missing = set(faults["is missing"])
    told = "; ".join(
        f"{named_weights(names)} {fault}"
        for fault, all_names in faults.items()
        if (names := sorted(n for n in all_names if fault == "is missing" or n not in missing))
    )
    if told:
        raise ModelError(f"broken checkpoint `{folder}`: {told}")


def _read(
    headers: dict[Path, WeightHeader], *, skip: tuple[str, ...]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of all files in the order they stand there, each read when it is asked for."""
    for file, header in headers.items():
        in_file_order = sorted(header.tensors.items(), key=lambda item: item[1]["data_offsets"])
        try:
            with file.open("rb") as stream:
                for name, told in in_file_order:
                    if not name.endswith(skip):
                        yield name, _read_tensor(stream, header.data_start, told)
        except (OSError, EOFError) as error:
            raise ModelError(f"broken checkpoint: cannot read `{file}`: {error}") from error


def _read_tensor(stream: BinaryIO, start: int, told: Json) -> Tensor:
    tensor = torch.empty(told["shape"], dtype=STORED_DTYPES[told["dtype"]])
    stream.seek(start + told["data_offsets"][0])
    if told["data_offsets"][1] - told["data_offsets"][0] != tensor.nbytes:
        raise EOFError("a tensor's data has not the length of its shape")
    into = memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # an array is a buffer
    while into:
        count = stream.readinto(into)  # type: ignore[attr-defined]  # a buffered file has it
        if not count:
            raise EOFError("it is cut short")
        into = into[count:]
    return tensor
