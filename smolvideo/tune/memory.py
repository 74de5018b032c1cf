"""Predicted memory and time of a run, before anything is downloaded or loaded.

    weights      the decoder's in its dtype; vision tower and connector only where they are trained
    trained      16 bytes a float32 parameter: weight, gradient and two moments of AdamW; 12 of them
                 beyond the weights themselves where the network itself is trained
    activations  layers x batch x tokens x hidden for a checkpointed network, and what one layer
                 keeps for its backward; of every layer without checkpointing
    logits       of tokens with targets alone: logits, their softmax and gradient

Loading is a peak of its own: transformers holds the whole network once, before the tower is
dropped. The encoding of frames comes before and frees its network. Counted with SmolVLM2-256M, the
prediction is within 15 % of measured peaks (tests/stress/tune_memory.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from smolvideo.cost.choose import free_memory_bytes
from smolvideo.errors import ModelError
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weights import expected_shapes
from smolvideo.tune.options import TuneOptions

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PROCESS_BYTES = 450_000_000
"""Python with torch, transformers and peft imported, as measured."""
STORED_BYTES = 2
"""A stored weight; where it is float32, it is mapped and not copied, or rounded to half of that."""
TOKENIZER_BYTES = 54_000_000
_TRAINED_BYTES = 16
_NF4_BYTES = 0.53
"""A weight in NF4 with double quantization: 4 bits, and 8 bits for 64 of them."""


@dataclass(frozen=True)
class TunePlan:
    """Predicted cost of a run. ``memory`` maps what holds it to bytes at the peak of training;
    ``load_bytes`` is the peak while loading. ``advice`` are sentences on what would fit."""

    model: str
    method: str
    memory: Mapping[str, int]
    load_bytes: int
    free_bytes: int
    steps: int
    batch_size: int
    tokens: int
    frames: int
    adapter_bytes: int
    disk_bytes: int
    trained_parameters: int
    seconds_per_step: float | None = None
    encode_seconds: float | None = None
    advice: tuple[str, ...] = field(default=())

    @property
    def peak_bytes(self) -> int:
        """Peak of the whole run."""
        return max(sum(self.memory.values()), self.load_bytes)

    @property
    def fits(self) -> bool:
        """Whether it fits the free memory of this machine."""
        return self.peak_bytes <= self.free_bytes

    def check(self) -> None:
        """Raise ModelError where the run does not fit this machine."""
        if not self.fits:
            raise ModelError(
                f"`{self.method}` of `{self.model}` needs {self.peak_bytes / 1e9:.1f} GB of "
                f"memory, and {self.free_bytes / 1e9:.1f} GB are free",
                hint=self.advice[0] if self.advice else None,
            )


@dataclass(frozen=True)
class Workload:
    """What a run computes: samples, tokens and answer tokens of a typical one, frames of all."""

    samples: int
    tokens: int
    answer_tokens: int
    frames: int


def plan_memory(
    model: str,
    network: NetworkConfig,
    options: TuneOptions,
    work: Workload,
    *,
    dtype: str,
    is_nano: bool = False,
    free_bytes: int | None = None,
) -> TunePlan:
    """Predict the memory of a run of ``work`` with weights in ``dtype``; see the module.

    ``free_bytes`` None: of this machine.
    """
    free = free_memory_bytes() if free_bytes is None else free_bytes
    memory, load = _memory(network, options, work, dtype, is_nano=is_nano)
    trained = trained_parameters(network, options)
    plan = TunePlan(
        model=model,
        method=options.method,
        memory=memory,
        load_bytes=load,
        free_bytes=free,
        steps=options.total_steps(work.samples),
        batch_size=options.batch_size,
        tokens=work.tokens,
        frames=work.frames,
        adapter_bytes=0 if options.method == "full" else 4 * trained,
        disk_bytes=_disk_bytes(network, options, work, dtype) + 12 * trained,
        trained_parameters=trained,
    )
    if plan.fits:
        return plan
    return _with_advice(plan, network, options, work, dtype, is_nano=is_nano)


def _memory(
    network: NetworkConfig, options: TuneOptions, work: Workload, dtype: str, *, is_nano: bool
) -> tuple[dict[str, int], int]:
    """Bytes by what holds them at the peak of training, and the peak of loading."""
    size = 4 if options.method == "full" else DTYPE_BYTES[dtype]
    text = network.text
    parts = parameters_by_part(network)
    decoder = parts["decoder"] + (0 if network.tie_word_embeddings else parts["head"])
    layers = decoder_layer_weights(network)
    kept = decoder if not options.trains_eyes else sum(parts.values())
    weights = round(size * kept)
    if options.method == "qlora":
        weights = round(size * (kept - layers) + _NF4_BYTES * layers)
    trained = trained_parameters(network, options)
    own = 12 if options.method == "full" else _TRAINED_BYTES
    micro = min(options.micro_batch, options.batch_size)
    tokens, hidden = micro * work.tokens, text.hidden_size
    checkpointed = options.checkpointing or (options.checkpointing is None and not is_nano)
    layer = layer_bytes(network, options, size)
    number = text.num_hidden_layers
    activations = tokens * (number * hidden * size + layer if checkpointed else number * layer)
    logits = micro * work.answer_tokens * text.vocab_size * (3 * 4 + size)
    base = PROCESS_BYTES + TOKENIZER_BYTES * (not is_nano)
    memory = {
        "process": base,
        "weights": weights,
        "adapter and optimizer" if options.method != "full" else "gradients and optimizer": own
        * trained,
        "activations": activations,
        "logits": logits,
    }
    # While loading, the pages of the file are in memory, too, as they are stored.
    load = base + round((size + STORED_BYTES) * sum(parts.values()))
    return memory, load


def layer_bytes(network: NetworkConfig, options: TuneOptions, size: int) -> int:
    """Bytes that one decoder layer keeps for its backward, per token.

    Eight activations of the hidden width and four of the MLP's, in the dtype; with LoRA each of
    the seven linear layers keeps its input in float32, and with dropout the mask.
    """
    hidden, inner = network.text.hidden_size, network.text.intermediate_size
    plain = size * (8 * hidden + 4 * inner)
    if options.method == "full":
        return plain
    own = 4 if size < 4 or options.dropout else 0
    return plain + (own + (1 if options.dropout else 0)) * (6 * hidden + inner)


def parameters_by_part(network: NetworkConfig) -> dict[str, int]:
    """Parameters of ``vision``, ``connector``, ``decoder`` (embeddings included) and ``head``."""
    counts = dict.fromkeys(("vision", "connector", "decoder", "head"), 0)
    for name, shape in expected_shapes(network).items():
        part = "decoder" if name.startswith("model.text_model.") else "head"
        if name.startswith("model.vision_model."):
            part = "vision"
        elif name.startswith("model.connector."):
            part = "connector"
        counts[part] += math.prod(shape)
    return counts


def decoder_layer_weights(network: NetworkConfig) -> int:
    """Weights of the decoder's linear layers, which QLoRA quantizes."""
    return sum(
        math.prod(shape)
        for name, shape in expected_shapes(network).items()
        if name.startswith("model.text_model.layers.") and len(shape) == 2
    )


def trained_parameters(network: NetworkConfig, options: TuneOptions) -> int:
    """Parameters that a run trains; rows of the embedding are left out."""
    prefixes: dict[str, tuple[str, ...]] = {
        "decoder": ("model.text_model.layers.",),
        "connector": ("model.connector.",),
        "vision": ("model.vision_model.encoder.layers.",),
    }
    if options.method == "full":
        prefixes = {
            "decoder": ("model.text_model.", "lm_head."),
            "connector": ("model.connector.",),
            "vision": ("model.vision_model.",),
        }
    wanted = tuple(one for part in options.parts for one in prefixes.get(part, ()))
    total = 0
    for name, shape in expected_shapes(network).items():
        if not name.startswith(wanted):
            continue
        if options.method == "full":
            total += math.prod(shape)
        elif len(shape) == 2:
            total += options.rank * sum(shape)
    return total


def _disk_bytes(network: NetworkConfig, options: TuneOptions, work: Workload, dtype: str) -> int:
    if options.trains_eyes:
        return work.frames * 3 * network.vision.image_size**2
    row = network.tokens_per_image * network.text.hidden_size
    return work.frames * row * DTYPE_BYTES[dtype]


def _with_advice(
    plan: TunePlan,
    network: NetworkConfig,
    options: TuneOptions,
    work: Workload,
    dtype: str,
    *,
    is_nano: bool,
) -> TunePlan:
    """Name the first way that would fit, and what it needs."""
    ways = {
        "`--micro-batch 1`": replace(options, micro_batch=1),
        "`--micro-batch 1 --checkpointing`": replace(options, micro_batch=1, checkpointing=True),
        "`--method lora`": replace(options, method="lora", parts=("decoder",)),
        "`--method lora --micro-batch 1`": replace(
            options, method="lora", micro_batch=1, checkpointing=True, parts=("decoder",)
        ),
        "`--method qlora --micro-batch 1`": replace(
            options, method="qlora", micro_batch=1, checkpointing=True, parts=("decoder",)
        ),
    }
    sentences = []
    for words, way in ways.items():
        if way == options:
            continue
        memory, load = _memory(network, way, work, dtype, is_nano=is_nano)
        peak = max(sum(memory.values()), load)
        if peak <= plan.free_bytes:
            sentences.append(f"{words} needs {peak / 1e9:.1f} GB")
    if not sentences:
        sentences.append("no method fits: name a smaller model, or fewer frames (`--max-frames`)")
    return replace(plan, advice=tuple(sentences))
