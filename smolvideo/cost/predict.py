"""Predicted seconds and memory of an answer: operations over rates, corrected by past answers.

    encode      images / threads, rounded up, times operations of an image over a thread's rate
    prefill     operations of the tokens over the rate of all threads
    generate    bytes of the weights and of the KV cache over the rate of reading, for each token;
                where torch computes it, the calls of each layer and of the head, too
    load        bytes of the stored and of the loaded weights over the rate of copying
    start       CPU time of a process until torch and the kernels are imported, as measured
    compile     the kernels of a dtype and weight format, unless an answer had them already
    decode, preprocess   those of a few frames of the video itself, where they were measured

Each but the last is multiplied by the median of measured over predicted seconds of the latest
answers of the same model on this machine, and of 1: one answer on a busy machine shifts it little,
and none among several others. The cache folder has one JSON line per answer, of the latest only.
Frames are decoded while weights are loaded, so the first token waits for the longer of the two.
Kernels are compiled on one core meanwhile: that delays it by the share of the cores which it takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from math import prod
from types import MappingProxyType

from smolvideo.cost.operations import (
    DTYPE_BYTES,
    NumberFormat,
    StageWork,
    decode_bytes,
    encode_work,
    kv_bytes,
    largest_tensor,
    parameter_count,
    prefill_work,
    weight_bytes,
)
from smolvideo.cost.rates import RateRequest, Rates, corrections, has_answered, kept_rates
from smolvideo.engines.devices import TINY_PARAMETERS
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.registry import ModelSpec
from smolvideo.models.weight_formats import int8_arithmetic_layers
from smolvideo.models.weights import expected_shapes

ONCE = ("start", "compile", "load")
"""Stages of the first answer of a process."""

NOTHING_MEASURED: Mapping[str, float] = MappingProxyType({})

TEXT_TOKENS = 64
"""Tokens of a prompt beside its frames, where the tokenizer that counts them is not here: the
template and a question of a dozen words."""

_TOKENIZER_BYTES_PER_TOKEN = 1_100
"""Memory of a tokenizer per entry of its vocabulary, as measured with 49,280 of them: 54 MB."""
_KERNEL_BYTES = 48_000_000
"""Machine code and compiler state of the decode kernel, as measured."""
_COMPILE_STARTS = 8
"""Seconds to compile the kernels of a weight format, in those of a start: 20 and 2.5, as measured;
both are the work of one core, on code rather than on numbers."""
_INT8_QUANTIZE_BYTES = 12
"""Bytes that are copied in the time in which a weight is quantized to int8, as measured."""
_FREED_TENSORS = 2
"""Largest tensors that the allocator keeps after they were converted, as measured: prompts use
that memory again."""
_KEPT_COPIES = 3
"""Copies of activations of a prompt's whole length that are alive together: embeddings, those with
image features in their places, and the features."""
_LIVE_ACTIVATIONS = 4
"""Activations of a chunk or of a frame that are alive together, in widths of the MLP: of the
residual, the norm, the fused projections and what the activation function made of them."""
_PREFILL_CHUNK = 6 << 20
"""Activations of a chunk between two products (``network.decoder``)."""
_ATTENTION_BYTES = 8 << 20
"""Scores and probabilities of a block of queries (``network.attention``), per thread."""
_FRAME_COPIES = 2
"""Frames of a prompt are held twice: as decoded and as packed."""


@dataclass(frozen=True)
class ModelCost:
    """A model as far as its cost depends on it. ``stored_bytes`` are those of its weight files."""

    name: str
    network: NetworkConfig
    stored_bytes: int
    quantize: str = "none"

    @classmethod
    def of_spec(cls, spec: ModelSpec, *, quantize: str = "none") -> "ModelCost | None":
        """The cost of a published checkpoint, here or not; None for the bundled one."""
        if spec.network is None or spec.download_bytes is None:
            return None
        return cls(spec.name, spec.network, spec.download_bytes, quantize)

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint, *, quantize: str = "none") -> "ModelCost":
        """The cost of a checkpoint on this machine, whose weights may be missing."""
        network = NetworkConfig.from_json(read_json(checkpoint.folder / "config.json"))
        stored = sum(file.stat().st_size for file in checkpoint.folder.glob("*.safetensors"))
        if not stored:
            stored = parameter_count(network) * DTYPE_BYTES.get(checkpoint.stored_dtype or "", 4)
        return cls(checkpoint.name, network, stored, quantize)

    @property
    def is_tiny(self) -> bool:
        """Whether ``--dtype auto`` is float32 on every machine."""
        return parameter_count(self.network) < TINY_PARAMETERS


@dataclass(frozen=True)
class PromptSize:
    """A prompt to predict for: ``frames`` are images of the vision tower, tiles included, of which
    ``from_cache`` need no encoding; ``tokens`` with the text; at most ``new_tokens`` follow."""

    frames: int
    tokens: int
    new_tokens: int = 0
    from_cache: int = 0


@dataclass(frozen=True)
class Prediction:
    """Predicted cost of one answer. ``seconds`` by stage (``load``, ``decode`` and ``preprocess``
    where they were measured, ``encode``, ``prefill``), ``seconds_per_token`` after the first;
    ``corrected_by`` is the number of past answers that the prediction was corrected by."""

    model: str
    prompt: PromptSize
    seconds: Mapping[str, float]
    seconds_per_token: float
    memory_bytes: int
    weight_bytes: int
    corrected_by: int = 0
    memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def first_token(self) -> float:
        """Seconds from the start to the first token."""
        frames = self.seconds.get("decode", 0.0) + self.seconds.get("preprocess", 0.0)
        before = max(self.seconds.get("load", 0.0), frames)
        once = self.seconds.get("start", 0.0) + self.seconds.get("compile", 0.0)
        return once + before + self.seconds["encode"] + self.seconds["prefill"]

    @property
    def without_load(self) -> float:
        """Seconds of the longest answer where the weights are loaded already."""
        once = sum(self.seconds.get(stage, 0.0) for stage in ONCE)
        return sum(self.seconds.values()) - once + self.generate

    @property
    def generate(self) -> float:
        """Seconds for the longest answer, after its first token."""
        return max(0, self.prompt.new_tokens - 1) * self.seconds_per_token


def predict(
    model: ModelCost,
    prompt: PromptSize,
    rates: Rates,
    *,
    measured: Mapping[str, float] = NOTHING_MEASURED,
) -> Prediction:
    """Predict the cost of an answer of ``model`` to ``prompt``, corrected by past answers.

    ``measured`` are seconds of ``decode`` and ``preprocess``, by the frames themselves.
    """
    ratios = corrections(model.name, model.quantize, rates)
    raw = predict_uncorrected(model, prompt, rates)
    seconds = {stage: value * ratios.of(stage) for stage, value in raw.seconds.items()}
    seconds.update(measured)
    if rates.start_seconds:
        seconds["start"] = rates.start_seconds
        if uses_kernels(model, rates) and not has_answered(model.quantize, rates):
            seconds["compile"] = _COMPILE_STARTS * rates.start_seconds / rates.threads
    return Prediction(
        model=model.name,
        prompt=prompt,
        seconds=seconds,
        seconds_per_token=raw.seconds_per_token * ratios.of("token"),
        memory_bytes=round(raw.memory_bytes * ratios.of("memory")),
        weight_bytes=raw.weight_bytes,
        corrected_by=ratios.answers,
        memory=raw.memory,
    )


def predict_uncorrected(model: ModelCost, prompt: PromptSize, rates: Rates) -> Prediction:
    """Predict by operations and rates alone."""
    network, numbers = model.network, _numbers(model, rates)
    weights = weight_bytes(network, numbers)
    frame = encode_work(network, numbers)
    waves = -(-(prompt.frames - prompt.from_cache) // rates.threads)
    in_encode = _seconds(frame, rates.encode_products, rates.encode_attention, rates)
    read = prefill_work(network, prompt.tokens, numbers)
    halfway = prompt.tokens + prompt.new_tokens // 2
    memory = memory_parts(model, prompt, rates)
    in_torch = 0 if uses_kernels(model, rates) else network.text.num_hidden_layers + 1
    calls = in_torch * rates.layer_seconds
    return Prediction(
        model=model.name,
        prompt=prompt,
        seconds={
            # read from the file, converted, packed: each fills fresh memory
            "load": (model.stored_bytes + 2 * weights + _int8_load_bytes(network, numbers))
            / rates.copy,
            "encode": waves * rates.threads * in_encode,
            "prefill": _seconds(read, rates.prefill_products, rates.prefill_attention, rates),
        },
        seconds_per_token=decode_bytes(network, halfway, numbers) / rates.read + calls,
        memory_bytes=sum(memory.values()),
        weight_bytes=weights,
        memory=memory,
    )


def _numbers(model: ModelCost, rates: Rates) -> NumberFormat:
    """Number format that ``model`` has here; tiny models compute in floating point."""
    arithmetic = "float" if model.is_tiny else rates.arithmetic
    return NumberFormat(rates.dtype, model.quantize, arithmetic)


def _int8_load_bytes(network: NetworkConfig, numbers: NumberFormat) -> int:
    """Bytes that the quantization of weights for int8 arithmetic takes as long as to copy."""
    if numbers.arithmetic != "int8":
        return 0
    names, shapes = int8_arithmetic_layers(network), expected_shapes(network)
    return _INT8_QUANTIZE_BYTES * sum(prod(shapes[name]) for name in names)


def uses_kernels(model: ModelCost, rates: Rates) -> bool:
    """Whether compiled kernels decode tokens of ``model``, rather than torch."""
    return rates.device == "cpu" and not model.is_tiny and find_spec("numba") is not None


def memory_parts(model: ModelCost, prompt: PromptSize, rates: Rates) -> dict[str, int]:
    """Bytes at the peak, by what they hold; a GPU holds weights and working memory alone."""
    network, numbers = model.network, _numbers(model, rates)
    text, on_cpu = network.text, rates.device == "cpu"
    weights = weight_bytes(network, numbers)
    working = _working_bytes(network, prompt, numbers, rates.threads)
    on_gpu = {"weights": weights, "working": working}
    if not on_cpu:
        return on_gpu
    return {
        "process": rates.process_bytes
        + text.vocab_size * _TOKENIZER_BYTES_PER_TOKEN
        + (0 if model.is_tiny else _KERNEL_BYTES),
        "weights": weights,
        "working": max(working, _freed_bytes(model, numbers)),
        "frames": _FRAME_COPIES * prompt.frames * 3 * network.vision.image_size**2,
    }


def _working_bytes(
    network: NetworkConfig, prompt: PromptSize, numbers: NumberFormat, threads: int
) -> int:
    """Bytes of the KV cache and of activations at the peak of encode and prefill."""
    vision, text = network.vision, network.text
    patches = vision.patches_per_side**2
    in_encode = patches * (2 * vision.hidden_size + vision.intermediate_size) * threads
    chunk = min(prompt.tokens, _PREFILL_CHUNK // (2 * text.intermediate_size))
    in_prefill = chunk * _LIVE_ACTIVATIONS * text.intermediate_size
    kept = _KEPT_COPIES * prompt.tokens * text.hidden_size
    return (
        kv_bytes(network, prompt.tokens + prompt.new_tokens, numbers)
        + numbers.bytes * (kept + max(in_encode, in_prefill))
        + _ATTENTION_BYTES * threads
    )


def _freed_bytes(model: ModelCost, numbers: NumberFormat) -> int:
    """Bytes that stay with the allocator after weights were converted to another dtype."""
    per_weight = model.stored_bytes / parameter_count(model.network)
    if round(per_weight) == numbers.bytes and model.quantize == "none":
        return 0
    return round(_FREED_TENSORS * per_weight * largest_tensor(model.network))


def predict_first_token(
    spec: ModelSpec,
    frames: int,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    text_tokens: int = TEXT_TOKENS,
) -> Prediction | None:
    """Predict an answer of the published ``spec`` about ``frames`` frames, by kept rates alone.

    Takes milliseconds and imports no torch. None where this machine was not measured yet
    (``rates_for`` does that), and for the bundled model. ``first_token`` of the result are the
    seconds, ``memory_bytes`` the peak.
    """
    model, rates = (
        ModelCost.of_spec(spec, quantize=quantize),
        kept_rates(RateRequest(device, dtype)),
    )
    if model is None or rates is None:
        return None
    found = predict(model, fitting_prompt(spec, frames, text_tokens=text_tokens), rates)
    # Kernels are compiled once: a choice of models must not depend on whether they are.
    lasting = {stage: value for stage, value in found.seconds.items() if stage != "compile"}
    return replace(found, seconds=lasting)


def fitting_prompt(
    spec: ModelSpec, frames: int, *, text_tokens: int = TEXT_TOKENS, new_tokens: int = 0
) -> PromptSize:
    """The prompt of ``frames`` frames for ``spec``, fewer where they do not fit its context."""
    assert spec.tokens_per_frame is not None
    assert spec.context_tokens is not None
    room = spec.context_tokens - text_tokens - new_tokens
    fitting = max(1, min(frames, room // spec.tokens_per_frame)) if frames else 0
    return PromptSize(fitting, fitting * spec.tokens_per_frame + text_tokens, new_tokens)


def _seconds(work: StageWork, products: float, attention: float, rates: Rates) -> float:
    return (
        work.product_flops / products
        + work.attention_flops / attention
        + work.moved_bytes / rates.copy
    )
