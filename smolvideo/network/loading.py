"""Load a checkpoint's weights into a network for inference.

The network is built on the meta device first. Each tensor is read into memory of its own, converted
and assigned before the next is read, so a float32 checkpoint of 9 GB becomes a bfloat16 network of
4.5 GB with a peak little above 4.5 GB. A layer is packed as soon as its weights are there.
Quantized weights are made of each tensor as it is stored, so nothing is rounded twice. Reading
beats mapping here: pages of a mapped file stay in the process after their tensor was converted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor, nn

from smolvideo.errors import ModelError
from smolvideo.models.adapter import Adapter
from smolvideo.models.json_files import Json, read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weight_formats import int8_arithmetic_layers, quantized_formats
from smolvideo.models.weights import (
    WeightFiles,
    WeightHeader,
    check_tensors,
    expected_shapes,
    left_out,
    read_header,
)
from smolvideo.network.adapter_weights import check_base, merge_update
from smolvideo.network.attention import attention_backend
from smolvideo.network.compilation import CompiledInBackground
from smolvideo.network.cpu_decode import CpuDecoder, is_supported, unquantized_decode_build
from smolvideo.network.int8_arithmetic import compiled_row_passes
from smolvideo.network.linear import Linear, set_int8_arithmetic
from smolvideo.network.model import VISION, SmolVLM, prepare_for_inference
from smolvideo.network.quantized import Int4Weight, Int8Weight
from smolvideo.network.threads import one_torch_thread

_WEIGHT_FORMATS = {"int8": Int8Weight, "int4": Int4Weight}


def weight_formats(network: SmolVLM, quantize: str) -> dict[str, type[Int8Weight | Int4Weight]]:
    """Weight name → format that ``quantize`` gives it; other weights stay as they are."""
    formats = quantized_formats(network.config, quantize)
    return {name: _WEIGHT_FORMATS[kind] for name, kind in formats.items()}


def start_compiling(
    config: NetworkConfig, device: torch.device, dtype: torch.dtype, *, in_int8: bool = False
) -> tuple[CompiledInBackground[Any], ...]:
    """Compile, or load from disk, the kernels for such a network with weights that are not
    quantized; none where torch computes all of it. ``in_int8``: for int8 arithmetic, too."""
    if not is_supported(config.text, device, dtype):
        return ()
    kernels: list[CompiledInBackground[Any] | None] = [
        attention_backend(attending.head_dim, dtype, in_int16=in_int8)
        for attending in (config.vision, config.text)
    ]
    if in_int8:
        kernels.append(compiled_row_passes())
    build = unquantized_decode_build(dtype)
    decode = CompiledInBackground(lambda kept: build.compile(kept=kept))
    return *(kernel for kernel in kernels if kernel is not None), decode


_FUSED = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv_proj"),
    **dict.fromkeys(("gate_proj", "up_proj"), "gate_up_proj"),
}


def fused_name(weight: str) -> str:
    """Name of the linear layer that multiplies with a stored ``weight`` once layers are fused."""
    module, _, last = weight.removesuffix(".weight").rpartition(".")
    return f"{module}.{_FUSED.get(last, last)}"


STORED_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""safetensors' names of the dtypes in which checkpoints of this family are stored."""


def load_network(
    folder: Path,
    weights: WeightFiles,
    *,
    device: torch.device,
    dtype: torch.dtype,
    quantize: str = "none",
    arithmetic: str = "float",
    float_layers: Iterable[str] = (),
    adapter: Adapter | None = None,
) -> SmolVLM:
    """Load the checkpoint in ``folder`` to ``device``, ready for inference.

    ``quantize`` is the format of weights in ``quantized_formats``. ``arithmetic``: ``float``;
    ``int8`` for many rows of activations in ``int8_arithmetic_layers`` but ``float_layers``; or
    ``both``, in floating point until ``set_int8_arithmetic`` and ``drop_unused_weights`` choose.
    ``adapter`` is merged into the stored weights first. Raises ModelError naming what is missing,
    left over, of another shape or unreadable.
    """
    # check names and shapes before reading any weight
    config = NetworkConfig.from_json(read_json(folder / "config.json"))
    headers = {file: read_header(file) for file in weights.files}
    check_tensors(folder, config, headers, dtypes=tuple(STORED_DTYPES))
    if adapter is not None:
        check_base(weights, adapter)
    with torch.device("meta"):
        network = SmolVLM(config)
    compiled = is_supported(config.text, device, dtype)
    int8_layers = _int8_layers(network, arithmetic, frozenset(float_layers))
    if quantize == "none":
        start_compiling(config, device, dtype, in_int8=bool(int8_layers))  # while weights are read
    tensors = _read(headers, skip=left_out(config))
    if adapter is not None:
        tensors = ((name, merge_update(name, tensor, adapter)) for name, tensor in tensors)
    _convert_weights(
        network,
        tensors,
        _Conversion(
            device, dtype, weight_formats(network, quantize), int8_layers, arithmetic, compiled
        ),
    )
    network.tie_weights()
    prepare_for_inference(network, compiled=compiled)
    if compiled:
        network.cpu_decoder = CpuDecoder(network.model.text_model, network.lm_head)
    if arithmetic == "both":
        set_int8_arithmetic(network, ())
    return network.eval()


class _Conversion(NamedTuple):
    """How stored weights become those of inference, see ``load_network``: ``formats`` of quantized
    weights by name, and ``int8_layers``, weight names that get an int8 product."""

    device: torch.device
    dtype: torch.dtype
    formats: Mapping[str, type[Int8Weight | Int4Weight]]
    int8_layers: frozenset[str]
    arithmetic: str
    compiled: bool


@one_torch_thread()
def _convert_weights(
    network: SmolVLM, tensors: Iterable[tuple[str, Tensor]], how: _Conversion
) -> None:
    """Convert and assign ``tensors`` one by one; fuse and pack each module once it is complete."""
    missing = Counter(map(_module_of, expected_shapes(network.config)))
    # Names, not layers: a reference to a layer that is fused would keep its weights in memory
    # twice.
    for name, tensor in tensors:
        module, _, parameter = name.rpartition(".")
        place = network.get_submodule(module)
        if how.arithmetic == "int8" and name in how.int8_layers and VISION in name:
            place.weight = None  # type: ignore[assignment]  # no product of few rows
        elif name in how.formats:
            assert isinstance(place, Linear)
            place.quantize(tensor.to(how.device), how.dtype, how.formats[name])
        else:
            value = tensor.to(device=how.device, dtype=how.dtype)
            setattr(place, parameter, nn.Parameter(value, requires_grad=False))
        if name in how.int8_layers:
            assert isinstance(place, Linear)
            place.add_int8_product(tensor)
        missing[_module_of(name)] -= 1
        if _module_of(name) and not missing[_module_of(name)]:
            # Now, not at the end: memory that packing releases is reused by the next tensors.
            part = network.get_submodule(_module_of(name))
            prepare_for_inference(part, compiled=how.compiled, dtype=how.dtype)


def _int8_layers(network: SmolVLM, arithmetic: str, kept: frozenset[str]) -> frozenset[str]:
    """Weight names that get an int8 product: none for ``float``."""
    if arithmetic == "float":
        return frozenset()
    names = int8_arithmetic_layers(network.config)
    return frozenset(name for name in names if fused_name(name) not in kept)


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
