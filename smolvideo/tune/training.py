"""The training loop: order, learning rate and dropout are functions of (seed, step) alone.

So a run that was killed repeats no random choice and goes on to the same bits from its last state:
adapter, AdamW and the curve. States, ``best`` and ``last`` are written by rename.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo.errors import ModelError, RecordError, SmolVideoError
from smolvideo.sanitize import display_path
from smolvideo.train.data_parallel import load_state, save_state
from smolvideo.tune.network import TuningNetwork
from smolvideo.tune.options import TuneOptions
from smolvideo.tune.samples import Sample, SampleSet
from smolvideo.tune.scores import ALL, MAX_SCORED, Score, score_samples

SAVE_SECONDS = 60.0
MAX_GRADIENT = 1.0
STATE_FILE = "state.pt"


@dataclass(frozen=True)
class TuneProgress:
    """After a step: ``loss`` of its own samples, and after an evaluation the scores by name."""

    step: int
    steps: int
    loss: float
    seconds_left: float | None
    scores: Mapping[str, float] = field(default_factory=dict)


OnTuneProgress = Callable[[TuneProgress], None]
WriteOutput = Callable[[Path], None]
"""Writes what the network holds now into a folder."""


@dataclass
class Course:
    """Progress of a run, saved with the weights. ``curve`` has one point per step (``step``,
    ``loss``, ``rehearse``, ``rate``); ``evaluations`` the scores before training and at intervals,
    by role and kind; ``seconds`` are of training alone, over all runs."""

    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)


class Training:
    """A run in ``folder``; ``facts`` is the fingerprint of all that its result depends on."""

    def __init__(
        self,
        folder: Path,
        network: TuningNetwork,
        samples: SampleSet,
        options: TuneOptions,
        *,
        facts: str,
        write: WriteOutput,
        on_progress: OnTuneProgress = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.network, self.options = folder, network, options
        self.facts, self.write, self.on_progress, self.clock = facts, write, on_progress, clock
        self.own, self.rehearsal = samples.of("train"), samples.of("rehearse")
        self.scored: dict[str, list[Sample]] = {
            "held-out": limit_scored(samples.of("held_out"), options.seed),
            "rehearsal": limit_scored(samples.of("rehearse_held_out"), options.seed),
        }
        self.grey_row = samples.grey_row
        self.steps = options.total_steps(len(self.own))
        self.rate = options.rate(is_nano=network.checkpoint.is_nano)
        self.optimizer = torch.optim.AdamW(
            list(network.trainable.values()), lr=self.rate, weight_decay=options.weight_decay
        )
        self.course = Course()

    def run(self) -> Course:
        """Train to the end; return the course. Raises ModelError where the loss is not finite."""
        if (self.folder / STATE_FILE).exists():
            self._resume()
        course, interval = self.course, self.options.interval(self.steps)
        if not course.evaluations:
            self._evaluate()
        saved = started = self.clock()
        before, first = course.seconds, course.step
        while course.step < self.steps:
            loss = self.step()
            now = self.clock()
            course.seconds = before + now - started
            scores: dict[str, float] = {}
            if course.step % interval == 0 or course.step == self.steps:
                scores = self._evaluate()
                self.save()
                saved = now
            elif now - saved > SAVE_SECONDS:
                self.save()
                saved = now
            each = (now - started) / (course.step - first)
            left = each * (self.steps - course.step)
            self.on_progress(TuneProgress(course.step, self.steps, loss, left, scores))
        return course

    def step(self) -> float:
        """Run one step; return the mean loss of its own samples' tokens."""
        course, options = self.course, self.options
        torch.manual_seed(step_seed(options.seed, course.step))
        rehearsed = options.rehearsed_per_step if self.rehearsal else 0
        own = batch_of(self.own, options.batch_size - rehearsed, course.step, options.seed)
        old = batch_of(self.rehearsal, rehearsed, course.step, options.seed + 1)
        share = options.rehearse_share if old else 0.0
        self.network.train(training=True)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._own_loss(own, 1.0 - share)
        old_loss = self._accumulate(old, share, base_weight=options.base_weight) if old else None
        if not math.isfinite(loss) or not (old_loss is None or math.isfinite(old_loss)):
            raise ModelError(
                f"the loss of step {course.step + 1} is not finite",
                hint="a lower `--learning-rate` goes on from the same data in another `--out`",
            )
        nn.utils.clip_grad_norm_(list(self.network.trainable.values()), MAX_GRADIENT)
        rate = self.rate * options.rate_scale(course.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        course.step += 1
        point = {"step": course.step, "loss": loss, "rate": rate}
        course.curve.append(point if old_loss is None else {**point, "rehearse": old_loss})
        return loss

    def _own_loss(self, samples: Sequence[Sample], weight: float) -> float:
        """Add the gradients of ``weight`` times the loss of own samples; return that loss."""
        return self._accumulate(samples, weight, base_weight=0.0)

    def _accumulate(self, samples: Sequence[Sample], weight: float, *, base_weight: float) -> float:
        """Add the gradients of ``weight`` times the mean loss of all tokens; return that mean."""
        tokens = sum(sample.num_targets for sample in samples)
        total = 0.0
        for chunk in micro_batches(samples, self.options.micro_batch):
            logits, targets, _ = self.network.logits(chunk)
            loss = F.cross_entropy(logits, targets, reduction="sum")
            total += float(loss.detach())
            if base_weight and self.network.adapts:
                loss = loss + base_weight * self._divergence(chunk, logits)
            (loss * (weight / tokens)).backward()
        return total / tokens

    def _divergence(self, samples: Sequence[Sample], logits: Tensor) -> Tensor:
        """Sum over tokens of KL(base ‖ tuned): the untuned model's own probabilities are kept, not
        only its most likely token."""
        with torch.no_grad(), self.network.base():
            base = self.network.logits(samples)[0].log_softmax(-1)
        return F.kl_div(logits.log_softmax(-1), base, reduction="sum", log_target=True)

    def _evaluate(self) -> dict[str, float]:
        """Score the held-out samples, write ``last``, and ``best`` if they are; return the scores
        for display."""
        found = {name: score_samples(self.network, some) for name, some in self.scored.items()}
        found["grey frames"] = score_samples(
            self.network, self.scored["held-out"], grey_row=self.grey_row
        )
        course = self.course
        plain = {
            name: {k: asdict(one) for k, one in kinds.items()} for name, kinds in found.items()
        }
        course.evaluations.append({"step": course.step, "scores": plain})
        if course.step:
            quality = weighted_quality(found, self.options.rehearse_share)
            if quality > course.best:
                course.best, course.best_step = quality, course.step
                self.write(self.folder / "best")
            self.write(self.folder / "last")
        return display_scores(found)

    def save(self) -> None:
        """Save all that resuming needs. Raises RecordError where the disk refuses."""
        trainable = self.network.trainable.items()
        state = {
            "facts": self.facts,
            "weights": {name: parameter.detach() for name, parameter in trainable},
            "optimizer": self.optimizer.state_dict(),
            "course": asdict(self.course),
        }
        save_state(state, self.folder / STATE_FILE)

    @torch.no_grad()
    def _resume(self) -> None:
        file = self.folder / STATE_FILE
        state = load_state(file)
        try:
            if state["facts"] != self.facts:
                raise ValueError("it is of another run")
            for name, parameter in self.network.trainable.items():
                parameter.copy_(state["weights"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.course = Course(**state["course"])
        except SmolVideoError:
            raise
        except Exception as error:  # other shapes, keys or types raise errors of many kinds
            raise RecordError(
                f"{display_path(file)} does not fit this run: {error}",
                hint="delete it, or name another `--out`",
            ) from error


def weighted_quality(scores: Mapping[str, Mapping[str, Score]], rehearse_share: float) -> float:
    """The one metric by which checkpoints are compared: quality on held-out videos and on held-out
    rehearsal, the latter a mean over kinds with the weight ``rehearse_share``."""
    new = scores["held-out"].get(ALL)
    kinds = [score.quality for kind, score in scores["rehearsal"].items() if kind != ALL]
    if not kinds and ALL in scores["rehearsal"]:
        kinds = [scores["rehearsal"][ALL].quality]
    if not kinds:
        return 0.0 if new is None else new.quality
    old = sum(kinds) / len(kinds)
    return old if new is None else (1 - rehearse_share) * new.quality + rehearse_share * old


def display_scores(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, float]:
    """Exact match by role, and the held-out loss."""
    shown = {name: kinds[ALL].exact for name, kinds in scores.items() if ALL in kinds}
    if ALL in scores["held-out"]:
        shown["held-out loss"] = scores["held-out"][ALL].loss
    return shown


def batch_of(samples: Sequence[Sample], count: int, step: int, seed: int) -> list[Sample]:
    """The ``count`` samples of a step: each epoch goes through all of them in an order of its
    own."""
    if not samples or not count:
        return []
    chosen = []
    orders: dict[int, list[int]] = {}
    for position in range(step * count, (step + 1) * count):
        epoch, place = divmod(position, len(samples))
        if epoch not in orders:
            orders[epoch] = list(range(len(samples)))
            Random(f"{seed}/{epoch}").shuffle(orders[epoch])
        chosen.append(samples[orders[epoch][place]])
    return chosen


def micro_batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Samples of about one length together, so that little is padded; longest first."""
    ordered = sorted(samples, key=lambda sample: -len(sample.token_ids))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def step_seed(seed: int, step: int) -> int:
    """Seed of torch for the dropout of one step."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=8).digest()) >> 1


def limit_scored(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Return at most ``MAX_SCORED`` samples, the same ones in every evaluation."""
    return batch_of(samples, min(len(samples), MAX_SCORED), 0, seed)
