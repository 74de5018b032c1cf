"""Predicted seconds and memory of an answer: operations over rates, corrected by past answers.

    encode      images / threads, rounded up, times operations of an image over a thread's rate
    prefill     operations of the tokens over the rate of all threads
    generate    bytes of the weights and of the KV cache over the rate of reading, for each token
    load        bytes of the stored and of the loaded weights over the rate of copying
    decode, preprocess   those of a few frames of the video itself, where they were measured

Each but the last is multiplied by the median of measured over predicted seconds of the latest
answers of the same model on this machine, and of 1: one answer on a busy machine shifts it little,
and none among several others. The cache folder has one JSON line per answer, of the latest only.
Frames are decoded while weights are loaded, so the first token waits for the longer of the two.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

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
from smolvideo.cost.rates import RateRequest, Rates, cost_folder, kept_rates
from smolvideo.engines.devices import TINY_PARAMETERS
from smolvideo.errors import SourceError
from smolvideo.files import make_folders, write_atomic
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.registry import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path


_MAX_ANSWERS = 200
_LATEST = 9
_MAX_FILE_BYTES = 1 << 20
_BOUNDS = (0.1, 10.0)
"""Ratios beyond are of a machine that did something else."""
_MIN_SECONDS = 0.05
"""Shorter stages say little of the rates."""


@dataclass(frozen=True)
class Corrections:
    """Stage → measured over predicted; 1 where no past answer is known. ``answers`` of them were
    used."""

    ratios: Mapping[str, float] = field(default_factory=dict)
    answers: int = 0

    def of(self, stage: str) -> float:
        """Factor for a predicted value of ``stage``."""
        return self.ratios.get(stage, 1.0)


def corrections(model: str, quantize: str, rates: Rates) -> Corrections:
    """Return the corrections by the latest answers of ``model`` that ``rates`` predicted."""
    key = _key(model, quantize, rates)
    latest = [entry for entry in _entries(_file()) if entry["key"] == key][-_LATEST:]
    ratios: dict[str, list[float]] = {}
    for entry in latest:
        for stage, ratio in entry["ratios"].items():
            ratios.setdefault(stage, []).append(ratio)
    return Corrections(
        {stage: median([1.0, *known]) for stage, known in ratios.items()}, len(latest)
    )


def remember(
    model: str,
    quantize: str,
    rates: Rates,
    *,
    predicted: Mapping[str, float],
    measured: Mapping[str, float],
) -> None:
    """Add an answer: uncorrected predictions and measurements of the same stages, in seconds (bytes
    of ``memory``).

    Stages of a few milliseconds are left out. Where the folder is not writable nothing is kept.
    """
    ratios = {
        stage: min(max(seconds / predicted[stage], _BOUNDS[0]), _BOUNDS[1])
        for stage, seconds in measured.items()
        if predicted.get(stage, 0) > 0 and (seconds >= _MIN_SECONDS or stage == "token")
    }
    file = _file()
    if not ratios or file is None:
        return
    entries = [*_entries(file), {"key": _key(model, quantize, rates), "ratios": ratios}]
    lines = "".join(json.dumps(entry) + "\n" for entry in entries[-_MAX_ANSWERS:])
    with suppress(OSError):
        make_folders(file.parent)
        write_atomic(file, lines, sync=False)


def _key(model: str, quantize: str, rates: Rates) -> str:
    return f"{model} {quantize} {rates.identity}"


def _file() -> "Path | None":
    with suppress(SourceError):
        return cost_folder() / "past.jsonl"
    return None


def _entries(file: "Path | None") -> Iterator[dict[str, Any]]:
    """Well-formed lines of the file; others are skipped."""
    if file is None:
        return
    try:
        with file.open("rb") as stream:
            lines = stream.read(_MAX_FILE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if _is_well_formed(entry):
                yield entry


def _is_well_formed(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
        return False
    ratios = entry.get("ratios")
    return isinstance(ratios, dict) and all(
        isinstance(ratio, int | float)
        and not isinstance(ratio, bool)
        and math.isfinite(ratio)
        and _BOUNDS[0] <= ratio <= _BOUNDS[1]
        for ratio in ratios.values()
    )


NOTHING_MEASURED: Mapping[str, float] = MappingProxyType({})

TEXT_TOKENS = 64
"""Tokens of a prompt beside its frames, where the tokenizer that counts them is not here: the
template and a question of a dozen words."""

_TOKENIZER_BYTES_PER_TOKEN = 1_100
"""Memory of a tokenizer per entry of its vocabulary, as measured with 49,280 of them: 54 MB."""
_KERNEL_BYTES = 48_000_000
"""Machine code and compiler state of the decode kernel, as measured."""
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
        return before + self.seconds["encode"] + self.seconds["prefill"]

    @property
    def without_load(self) -> float:
        """Seconds of the longest answer where the weights are loaded already."""
        return sum(self.seconds.values()) - self.seconds.get("load", 0.0) + self.generate

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
    network, numbers = model.network, NumberFormat(rates.dtype, model.quantize)
    weights = weight_bytes(network, numbers)
    frame = encode_work(network, numbers)
    waves = -(-(prompt.frames - prompt.from_cache) // rates.threads)
    in_encode = _seconds(frame, rates.encode_products, rates.encode_attention, rates)
    read = prefill_work(network, prompt.tokens, numbers)
    halfway = prompt.tokens + prompt.new_tokens // 2
    memory = memory_parts(model, prompt, rates)
    return Prediction(
        model=model.name,
        prompt=prompt,
        seconds={
            # read from the file, converted, packed: each fills fresh memory
            "load": (model.stored_bytes + 2 * weights) / rates.copy,
            "encode": waves * rates.threads * in_encode,
            "prefill": _seconds(read, rates.prefill_products, rates.prefill_attention, rates),
        },
        seconds_per_token=decode_bytes(network, halfway, numbers) / rates.read,
        memory_bytes=sum(memory.values()),
        weight_bytes=weights,
        memory=memory,
    )


def memory_parts(model: ModelCost, prompt: PromptSize, rates: Rates) -> dict[str, int]:
    """Bytes at the peak, by what they hold; a GPU holds weights and working memory alone."""
    network, numbers = model.network, NumberFormat(rates.dtype, model.quantize)
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
    return predict(model, fitting_prompt(spec, frames, text_tokens=text_tokens), rates)


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
