"""The SmolVLM network, named as in a published checkpoint, and the loading of its weights.

To load, the network is built on the meta device first. Each tensor is read into memory of its own,
converted and assigned before the next is read, so a float32 checkpoint of 9 GB becomes a bfloat16
network of 4.5 GB with a peak little above 4.5 GB. A layer is packed as soon as its weights are
there. Quantized weights are made of each tensor as it is stored, so nothing is rounded twice.
Reading beats mapping here: pages of a mapped file stay in the process after their tensor was
converted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
from smolvideo.network.decoder import Decoder, TextAttention, TextMLP
from smolvideo.network.int8_arithmetic import (
    compiled_row_passes,
    int8_weight_levels,
    row_passes,
)
from smolvideo.network.kv_cache import BatchedKVCache, BatchedPagedKVCache, KVCache
from smolvideo.network.linear import Linear, int8_linears, set_int8_arithmetic
from smolvideo.network.quantized import Int4Weight, Int8Weight
from smolvideo.network.threads import one_torch_thread
from smolvideo.network.vision import Connector, VisionAttention, VisionLayer, VisionTower


class SmolVLMModel(nn.Module):
    """Modules whose parameters are under ``model.`` in the checkpoints."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.vision_model = VisionTower(config.vision)
        self.connector = Connector(config)
        self.text_model = Decoder(config.text)


_HEAD_WEIGHTS_PER_CHUNK = 1 << 17
"""Weights of the head that are converted to float32 at a time: 0.5 MB stays in cache. Of 2^16 to
2^20 the fastest for one row, 14 ms for the 28 million of 256M on one core."""


class Head(Linear):
    """Hidden states ``[..., D]`` → logits ``[..., vocabulary]``, float32 in every weight format.

    bfloat16 has steps of an eighth between 16 and 32, where the largest logits are: of the weights
    of SmolLM2-135M, one token in twenty would tie with another for the most likely.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if isinstance(self.quantized_weight, Int8Weight):
            logits = self.quantized_weight.matmul(rows.float(), None)
        elif x.dtype is torch.float32:
            logits = F.linear(rows, self.weight).float()  # autocast rounds
        elif has_float32_product(x.device, x.dtype):
            logits = torch.mm(rows, self.weight.t(), out_dtype=torch.float32)
        else:
            exact, at_once = rows.float(), max(1, _HEAD_WEIGHTS_PER_CHUNK // x.shape[-1])
            parts = self.weight.split(at_once)
            logits = torch.cat([F.linear(exact, part.float()) for part in parts], dim=-1)
        return logits.view(*x.shape[:-1], -1)


@cache
def has_float32_product(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch multiplies matrices of ``dtype`` on ``device`` to float32, as with CUDA;
    no CPU does."""
    ones = torch.ones((2, 16), device=device, dtype=dtype)
    try:
        return bool((torch.mm(ones, ones.t(), out_dtype=torch.float32) == 16).all())
    except (RuntimeError, TypeError):  # this device has none; another torch
        return False


class SmolVLM(nn.Module):
    """Vision tower, connector, decoder and head; a tied head shares the embedding's weight.

    ``cpu_decoder`` decodes single tokens where it is faster than torch.
    """

    cpu_decoder: CpuDecoder | None = None

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.model = SmolVLMModel(config)
        self.lm_head = Head(config.text.hidden_size, config.text.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Share the embedding's weight with the head, if the configuration says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.text_model.embed_tokens.weight

    @property
    def attention_backend_name(self) -> str:
        """Name of the vision tower's attention backend; backends round differently."""
        layer = cast(VisionLayer, self.model.vision_model.encoder.layers[0])
        return layer.self_attn.attention_backend.name

    @property
    def encode_kernels(self) -> tuple[CompiledInBackground[Any], ...]:
        """Kernels that ``encode_images`` waits for."""
        layer = cast(VisionLayer, self.model.vision_model.encoder.layers[0])
        backend = layer.self_attn.backend
        kernel = None if backend is None else backend.compiled
        passes = compiled_row_passes() if layer.mlp.fc1.int8_product is not None else None
        return tuple(kernel for kernel in (kernel, passes) if kernel is not None)

    @property
    def decode_kernels(self) -> tuple[CompiledInBackground[Any], ...]:
        """Kernels that a decode step waits for."""
        return () if self.cpu_decoder is None else (self.cpu_decoder.kernel,)

    @property
    def vision_arithmetic(self) -> str:
        """Arithmetic of the vision tower's linear layers, and what decides its rounding."""
        parts = int8_linears(self).items()
        used = [name for name, part in parts if part.uses_int8 and _VISION in name]
        if not used:
            return "float"
        return f"int8 {row_passes().name} {int8_weight_levels()} {used}"

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Encode pixels ``[N, 3, S, S]`` in −1…1 to the decoder's image features ``[N, T, D]``."""
        return self.model.connector(self.model.vision_model(pixels))

    def embed_inputs(self, token_ids: Tensor, features: Tensor, image_token_id: int) -> Tensor:
        """Embed ids ``[B, L]`` → ``[B, L, D]``; image tokens take ``features`` ``[N, T, D]``."""
        vectors: Tensor = self.model.text_model.embed_tokens(token_ids)
        at_images = (token_ids == image_token_id).unsqueeze(-1)
        return vectors.masked_scatter(at_images, features.reshape(-1, features.shape[-1]))

    def embed_tokens(self, token_ids: Sequence[int]) -> Tensor:
        """Embeddings ``[1, L, D]``; of one token a view of the table, neither copied nor moved to
        the device."""
        embedding = self.model.text_model.embed_tokens
        if len(token_ids) == 1:
            return embedding.weight[token_ids[0]].view(1, 1, -1)
        vectors: Tensor = embedding(torch.tensor([[*token_ids]], device=embedding.weight.device))
        return vectors

    def new_cache(self, capacity: int) -> KVCache:
        """Allocate a KV cache for ``capacity`` tokens."""
        weight, paged = self.model.text_model.norm.weight, self.cpu_decoder is not None
        return KVCache.empty(
            self.config.text, capacity, device=weight.device, dtype=weight.dtype, paged=paged
        )

    def new_batch_cache(
        self, common: KVCache, sequences: int, capacity: int
    ) -> BatchedKVCache | BatchedPagedKVCache:
        """Allocate a KV cache for ``sequences`` after the shared prefix ``common``, ``capacity``
        tokens each."""
        kind = BatchedKVCache if self.cpu_decoder is None else BatchedPagedKVCache
        return kind(common, sequences, capacity)

    def prefill(self, vectors: Tensor, cache: KVCache, *, last: int = 1) -> Tensor:
        """Append ``vectors`` ``[1, L, D]`` to ``cache``; return the logits ``[last, vocabulary]``,
        float32.

        The head runs only over the ``last`` tokens.
        """
        if self.cpu_decoder is not None and vectors.shape[1] == 1:
            return self.cpu_decoder.decode(vectors[0], cache)
        hidden = self.model.text_model.prefill(vectors, cache, num_logits=last)
        logits: Tensor = self.lm_head(hidden)
        return logits[0]

    def decode_batch(self, vectors: Tensor, batch: BatchedKVCache | BatchedPagedKVCache) -> Tensor:
        """Append one token ``[B, D]`` to each sequence; return the logits ``[B, vocabulary]``,
        float32."""
        if isinstance(batch, BatchedPagedKVCache):
            assert self.cpu_decoder is not None
            return self.cpu_decoder.decode_batch(vectors, batch)
        hidden = self.model.text_model.decode_batch(vectors, batch)
        logits: Tensor = self.lm_head(hidden)
        return logits


def prepare_for_inference(
    part: nn.Module, *, compiled: bool = False, dtype: torch.dtype = torch.float32
) -> None:
    """Fuse and pack the linear layers of ``part`` itself; it cannot be trained afterwards.

    Its children need calls of their own: no more than one module is in memory twice. ``compiled``:
    compiled kernels do some of the work. Weights that a ``cpu_decoder`` reads, too, stay row-major:
    2,048 rows take 3 to 6 % longer with them.
    """
    if isinstance(part, VisionAttention | TextAttention | TextMLP):
        part.fuse_projections()
    if compiled and isinstance(part, VisionAttention):
        part.use_compiled_attention()
    if compiled and isinstance(part, TextAttention):
        part.use_compiled_attention(dtype)
    if isinstance(part, SmolVLM):
        return  # the head converts its weights, or has no GELU or addition to fuse
    for child in part.children():
        if isinstance(child, Linear):
            child.pack_for_onednn(in_rows=compiled and isinstance(part, TextAttention | TextMLP))


def weight_bytes(network: SmolVLM) -> int:
    """Memory of all weights, in whatever format, packed ones included."""
    total = sum(weight.nbytes for weight in network.parameters())
    for part in network.modules():
        if not isinstance(part, Linear):
            continue
        copies = part.packed, part.quantized_weight, part.int8_product
        total += sum(copy.nbytes for copy in copies if copy is not None)
        if part.int8_product is not None and part.int8_product.shares(part.quantized_weight):
            total -= part.int8_product.levels.nbytes
    return total


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


_VISION = ".vision_model."


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


@one_torch_thread()
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
    missing = Counter(map(_module_of, expected_shapes(config)))
    # Names, not layers: a reference to a layer that is fused would keep its weights in memory
    # twice.
    kinds = weight_formats(network, quantize)
    # convert and assign tensor by tensor
    for name, tensor in _read(headers, skip=left_out(config)):
        if adapter is not None:
            tensor = merge_update(name, tensor, adapter)
        module, _, parameter = name.rpartition(".")
        place = network.get_submodule(module)
        if arithmetic == "int8" and name in int8_layers and _VISION in name:
            place.weight = None  # type: ignore[assignment]  # no product of few rows
        elif name in kinds:
            assert isinstance(place, Linear)
            place.quantize(tensor.to(device), dtype, kinds[name])
        else:
            value = tensor.to(device=device, dtype=dtype)
            setattr(place, parameter, nn.Parameter(value, requires_grad=False))
        if name in int8_layers:
            assert isinstance(place, Linear)
            place.add_int8_product(tensor)
        missing[_module_of(name)] -= 1
        if _module_of(name) and not missing[_module_of(name)]:
            # Now, not at the end: memory that packing releases is reused by the next tensors.
            part = network.get_submodule(_module_of(name))
            prepare_for_inference(part, compiled=compiled, dtype=dtype)
    network.tie_weights()
    prepare_for_inference(network, compiled=compiled)
    if compiled:
        network.cpu_decoder = CpuDecoder(network.model.text_model, network.lm_head)
    if arithmetic == "both":
        set_int8_arithmetic(network, ())
    return network.eval()


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
