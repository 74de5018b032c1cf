"""Load a checkpoint's weights into the network, tensor by tensor, in the dtype of inference.

The network is built on the meta device first. Each tensor is read into memory of its own, converted
and assigned before the next is read, so a float32 checkpoint of 9 GB becomes a bfloat16 network of
4.5 GB with a peak little above 4.5 GB. A layer is packed as soon as its weights are there.
Quantized weights are made of each tensor as it is stored, so nothing is rounded twice. Reading
beats mapping here: pages of a mapped file stay in the process after their tensor was converted.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from smolvideo.errors import ModelError
from smolvideo.models.json_files import Json, read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.tensors import check_tensors, expected_shapes, left_out
from smolvideo.models.weights import WeightFiles, WeightHeader, read_header
from smolvideo.network.attention_backend import attention_backend
from smolvideo.network.cpu_decode import CpuDecoder, is_supported
from smolvideo.network.linear import Linear
from smolvideo.network.model import SmolVLM, prepare_for_inference, weight_formats

STORED_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""safetensors' names of the dtypes in which checkpoints of this family are stored."""


def load_network(
    folder: Path,
    weights: WeightFiles,
    *,
    device: torch.device,
    dtype: torch.dtype,
    quantize: str = "none",
) -> SmolVLM:
    """Load the checkpoint in ``folder`` to ``device``, ready for inference.

    ``quantize`` is the format of weights in ``quantizable_layers``. Raises ModelError naming what
    is missing, left over, of another shape or unreadable.
    """
    # check names and shapes before reading any weight
    config = NetworkConfig.from_json(read_json(folder / "config.json"))
    headers = {file: read_header(file) for file in weights.files}
    check_tensors(folder, config, headers, dtypes=tuple(STORED_DTYPES))
    with torch.device("meta"):
        network = SmolVLM(config)
    compiled = is_supported(config.text, device, dtype)
    if compiled:  # compiles while weights are read
        for attending in (config.vision, config.text):
            attention_backend(attending.head_dim, dtype)
    missing = Counter(map(_module_of, expected_shapes(config)))
    # Names, not layers: a reference to a layer that is fused would keep its weights in memory
    # twice.
    kinds = weight_formats(network, quantize)
    # convert and assign tensor by tensor
    for name, tensor in _read(headers, skip=left_out(config)):
        module, _, parameter = name.rpartition(".")
        place = network.get_submodule(module)
        if name in kinds:
            assert isinstance(place, Linear)
            place.quantize(tensor.to(device), dtype, kinds[name])
        else:
            value = tensor.to(device=device, dtype=dtype)
            setattr(place, parameter, nn.Parameter(value, requires_grad=False))
        missing[_module_of(name)] -= 1
        if _module_of(name) and not missing[_module_of(name)]:
            # Now, not at the end: memory that packing releases is reused by the next tensors.
            part = network.get_submodule(_module_of(name))
            prepare_for_inference(part, compiled=compiled)
    network.tie_weights()
    prepare_for_inference(network, compiled=compiled)
    if compiled:
        network.cpu_decoder = CpuDecoder(network.model.text_model, network.lm_head)
    return network.eval()


def _module_of(name: str) -> str:
    """Name of the module that multiplies with a tensor: ``x.mlp`` for ``x.mlp.up_proj.weight``."""
    return name.rpartition(".")[0].rpartition(".")[0]


def _read(
    headers: dict[Path, WeightHeader], *, skip: tuple[str, ...]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of all files in file order, each read when it is requested."""
    for file, header in headers.items():
        in_file_order = sorted(header.tensors.items(), key=lambda item: item[1]["data_offsets"])
        try:
            with file.open("rb") as stream:
                for name, tensor_header in in_file_order:
                    if not name.endswith(skip):
                        yield name, _read_tensor(stream, header.data_start, tensor_header)
        except (OSError, EOFError) as error:
            raise ModelError(f"broken checkpoint: cannot read `{file}`: {error}") from error


def _read_tensor(stream: BinaryIO, start: int, tensor_header: Json) -> Tensor:
    tensor = torch.empty(tensor_header["shape"], dtype=STORED_DTYPES[tensor_header["dtype"]])
    stream.seek(start + tensor_header["data_offsets"][0])
    if tensor_header["data_offsets"][1] - tensor_header["data_offsets"][0] != tensor.nbytes:
        raise EOFError("a tensor's data has not the length of its shape")
    into = memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # an array is a buffer
    while into:
        count = stream.readinto(into)  # type: ignore[attr-defined]  # a buffered file has it
        if not count:
            raise EOFError("it is cut short")
        into = into[count:]
    return tensor
