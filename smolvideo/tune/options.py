"""Options of a tuning run: all that its result depends on, beside data and checkpoint."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

from smolvideo.errors import UsageError

Method = Literal["lora", "qlora", "full"]
METHODS: tuple[Method, ...] = get_args(Method)
Part = Literal["decoder", "rows", "connector", "vision"]
PARTS: tuple[Part, ...] = get_args(Part)


class NamedModel(Protocol):
    """What options are checked against before weights are there: a checkpoint, or its name."""

    @property
    def name(self) -> str: ...

    @property
    def is_nano(self) -> bool: ...


@dataclass(frozen=True)
class PlannedModel:
    """A registered model whose files may not be on this machine."""

    name: str
    is_nano: bool


FULL_RATE = 2e-5
LORA_RATE = 2e-4
NANO_RATE = 1e-3
"""Learning rates by default. nano is three hundred times smaller than what the others are for."""


@dataclass(frozen=True)
class TuneOptions:
    """Options of a run; raises UsageError for invalid ones.

    One step is ``batch_size`` samples, of which ``micro_batch`` are in memory at a time; the result
    does not depend on the latter. ``steps`` None: ``epochs`` times the training samples.
    ``learning_rate`` None is chosen by method and model; it rises over ``warmup`` of the steps and
    falls along a cosine to a tenth. ``rank``, ``alpha`` (None: twice the rank) and ``dropout`` are
    LoRA's (arXiv 2106.09685). ``parts`` are trained; ``rows`` of the embedding are those of answer
    tokens that the checkpoint was never trained on. ``held_out`` is the share of videos that are
    not trained on. Every ``eval_interval`` steps (0: ten times a run) they are scored.

    ``checkpointing`` computes activations twice instead of keeping them; None: but for nano.
    ``rehearse_share`` of each batch are lines of what the model could do before, whose loss also
    has ``base_weight`` times the divergence from the untuned model's next-token probabilities.
    Checkpoints are compared by quality on held-out clips and on held-out rehearsal, the latter with
    the weight ``rehearse_share``.
    """

    method: Method = "lora"
    steps: int | None = None
    epochs: float = 3.0
    batch_size: int = 8
    micro_batch: int = 4
    learning_rate: float | None = None
    warmup: float = 0.05
    weight_decay: float = 0.0
    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.05
    parts: tuple[Part, ...] = ("decoder",)
    held_out: float = 0.1
    eval_interval: int = 0
    rehearse_share: float = 0.5
    base_weight: float = 1.0
    checkpointing: bool | None = None
    max_frames: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {"batch-size": self.batch_size, "micro-batch": self.micro_batch}
        counts |= {"rank": self.rank, "max-frames": self.max_frames}
        counts |= {"steps": 1 if self.steps is None else self.steps}
        for name, count in counts.items():
            if not isinstance(count, int) or count < 1:
                raise UsageError(f"{name} must be a whole number above 0, not {count!r}")
        positive = {"epochs": self.epochs, "learning-rate": self.learning_rate, "alpha": self.alpha}
        for name, number in positive.items():
            if number is not None and not 0 < number < math.inf:
                raise UsageError(f"{name} must be above 0, not {number}")
        for name, share in {"warmup": self.warmup, "held-out": self.held_out}.items():
            if not 0 <= share < 1:
                raise UsageError(f"{name} is a share from 0 to below 1, not {share}")
        for name, share in {"dropout": self.dropout, "rehearse-share": self.rehearse_share}.items():
            if not 0 <= share < 1:
                raise UsageError(f"{name} is a share from 0 to below 1, not {share}")
        for name, number in {"weight-decay": self.weight_decay, "base": self.base_weight}.items():
            if not 0 <= number < math.inf:
                raise UsageError(f"{name} must be 0 or more, not {number}")
        if self.eval_interval < 0 or not 0 <= self.seed < 2**63:
            raise UsageError("eval-interval and seed must be 0 or more")
        if unknown := set(self.parts) - {*PARTS}:
            raise UsageError(f"unknown part `{min(unknown)}`", hint=f"of {', '.join(PARTS)}")
        if not self.parts:
            raise UsageError("no part of the network is trained", hint=f"of {', '.join(PARTS)}")

    @property
    def trains_eyes(self) -> bool:
        """Whether connector or vision tower are trained, so that features cannot be kept."""
        return bool({"connector", "vision"} & {*self.parts})

    @property
    def lora_alpha(self) -> float:
        return 2.0 * self.rank if self.alpha is None else self.alpha

    def rate(self, *, is_nano: bool) -> float:
        """The full learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        if self.method == "full":
            return FULL_RATE * (10 if is_nano else 1)
        return NANO_RATE if is_nano else LORA_RATE

    def total_steps(self, samples: int) -> int:
        """Steps of the whole run with that many training samples."""
        if self.steps is not None:
            return self.steps
        own = max(1, self.batch_size - self.rehearsed_per_step)
        return max(1, math.ceil(self.epochs * samples / own))

    @property
    def rehearsed_per_step(self) -> int:
        """Samples of each step that are rehearsal, if there is any."""
        return min(round(self.rehearse_share * self.batch_size), self.batch_size - 1)

    def interval(self, steps: int) -> int:
        """Steps between two evaluations."""
        return self.eval_interval or max(1, round(steps / 10))

    def rate_scale(self, step: int, steps: int) -> float:
        """Share of the full rate at ``step``, from 0: a linear rise, then a cosine to a tenth."""
        rise = max(1, round(self.warmup * steps))
        if step < rise:
            return (step + 1) / rise
        done = (step - rise) / max(1, steps - rise)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))

    def to_json(self) -> dict[str, Any]:
        """All options, for the card and the run's file."""
        return asdict(self) | {"parts": list(self.parts)}


def fingerprint(*facts: Any) -> str:
    """SHA-256 of JSON values: what a resumed run must have in common with the one before."""
    written = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(written.encode()).hexdigest()
