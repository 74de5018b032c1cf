"""The recipe of nano: first see, then answer. Everything is drawn while it trains.

Stage ``see`` teaches the vision tower and the connector on labelled pictures; stage ``answer``
freezes the tower and teaches connector and decoder on videos with questions, from a few frames to
fifty. The stages are shares of the time given, so that five minutes and an hour run the same
course.

Several processes of one thread each average their gradients: on shared machines this outruns one
process of several threads, whose threads wait for each other at every product.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo import __version__
from smolvideo.errors import ModelError, UsageError
from smolvideo.train.architecture import NANO, save_checkpoint
from smolvideo.train.batches import draw_asked_videos, draw_labelled_pictures
from smolvideo.train.examine import examine
from smolvideo.train.optimizer import MasterOptimizer
from smolvideo.train.seeing import Student, seeing_accuracy
from smolvideo.train.tokenizer import special_id, train_tokenizer
from smolvideo.train.world.questions import corpus

SEE_SHARE = 0.2
"""Share of the time for the first stage."""
DECAY_SHARE = 0.35
"""Share of a stage in which its learning rate falls to zero, in a straight line."""
WARM_UP_STEPS = 40
PICTURES_PER_STEP = 128
FRAMES_PER_STEP = 160
QUESTIONS_PER_VIDEO = 8


@dataclass(frozen=True)
class TrainOptions:
    """``minutes`` of wall time over all runs; ``processes`` None: one per core that may be used."""

    minutes: float = 60.0
    processes: int | None = None
    seed: int = 0
    examine_minutes: float = 5.0
    save_minutes: float = 2.0


@dataclass
class Course:
    """Where a training stands: what is saved beside the weights so that it can go on."""

    stage: str = "see"
    elapsed: float = 0.0
    step: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainProgress:
    """News: the stage, seconds done and given, the loss, and accuracies when examined."""

    stage: str
    seconds: float
    total_seconds: float
    step: int
    loss: float
    scores: dict[str, float] = field(default_factory=dict)


OnTrainProgress = Callable[[TrainProgress], None]


class Trainer:
    """One process of the training; rank 0 reports, examines and saves."""

    def __init__(
        self,
        folder: Path,
        options: TrainOptions,
        rank: int,
        ranks: int,
        on_progress: OnTrainProgress,
    ) -> None:
        self.folder, self.options, self.rank, self.ranks = folder, options, rank, ranks
        self.on_progress = on_progress
        torch.manual_seed(options.seed)
        self.tokenizer = train_tokenizer(corpus())
        self.image_token_id = special_id(self.tokenizer, "<image>")
        self.student = Student(NANO)
        initialise(self.student.network)
        self.course = Course()
        self.optimizer = self._optimizer_of(self.course.stage)
        if (folder / "state.pt").exists():
            self._resume()
        # Every process and every step draws scenes of its own, the same ones after a resumption.
        self.started = time.monotonic() - self.course.elapsed
        self.saved = self.examined = self.course.elapsed

    @property
    def total_seconds(self) -> float:
        return self.options.minutes * 60

    def run(self) -> None:
        """Train to the end of the time, then write the checkpoint into ``folder / "nano"``."""
        losses: list[float] = []
        while (share := self.course.elapsed / self.total_seconds) < 1:
            if self.course.stage == "see" and share >= SEE_SHARE:
                self._start_answering()
            random = Random(
                f"{self.options.seed}/{self.course.stage}/{self.course.step}/{self.rank}"
            )
            loss = self._see(random) if self.course.stage == "see" else self._answer(random, share)
            losses.append(self._step(loss, share))
            if self.rank == 0:
                losses = self._report(losses)
        if self.rank == 0:
            self._save(finished=True)

    def _see(self, random: Random) -> Tensor:
        student = self.optimizer.running
        labels = draw_labelled_pictures(random, PICTURES_PER_STEP, NANO)
        patches = student.network.model.vision_model(labels.pixels.bfloat16())
        return student.heads.loss(patches, student.network.model.connector(patches), labels)

    def _answer(self, random: Random, share: float) -> Tensor:
        network = self.optimizer.running.network
        frames = frames_of_step(Random(f"{self.options.seed}/{self.course.step}"), share)
        batch = draw_asked_videos(
            random,
            videos=max(3, min(32, FRAMES_PER_STEP // frames)),
            frames=frames,
            questions=QUESTIONS_PER_VIDEO,
            network=NANO,
            tokenizer=self.tokenizer,
        )
        with torch.no_grad():
            patches = network.model.vision_model(batch.pixels.bfloat16())
        features = network.model.connector(patches)[batch.frames].flatten(0, 2)
        vectors = network.embed(batch.token_ids, features, self.image_token_id)
        hidden = network.model.text_model(vectors, batch.positions, batch.mask(torch.bfloat16))
        asked = batch.targets >= 0
        return F.cross_entropy(network.lm_head(hidden[asked]).float(), batch.targets[asked])

    def _step(self, loss: Tensor, share: float) -> float:
        """One step of all processes together; the mean of their clocks is the time."""
        loss.backward()
        gradients = self.optimizer.gradients()
        elapsed = time.monotonic() - self.started
        news = torch.tensor([loss.item(), elapsed])
        if self.ranks > 1:
            flat = torch.cat([news, *(gradient.flatten() for gradient in gradients)])
            distributed.all_reduce(flat)
            flat /= self.ranks
            news, rest = flat[:2], flat[2:]
            sizes = [gradient.numel() for gradient in gradients]
            gradients = [
                part.view_as(gradient)
                for part, gradient in zip(rest.split(sizes), gradients, strict=True)
            ]
        self.optimizer.step(gradients, self._rate(share))
        self.course.step += 1
        self.course.elapsed = news[1].item()
        return news[0].item()

    def _rate(self, share: float) -> float:
        """Warm-up, level, and a straight fall over the last ``DECAY_SHARE`` of each stage."""
        begin, end = (0.0, SEE_SHARE) if self.course.stage == "see" else (SEE_SHARE, 1.0)
        done = (share - begin) / (end - begin)
        warm = min(1.0, (self.course.step + 1) / WARM_UP_STEPS)
        return warm * min(1.0, max(0.02, (1 - done) / DECAY_SHARE))

    def _start_answering(self) -> None:
        self.course.steps["see"] = self.course.step
        self.course.stage, self.course.step = "answer", 0
        self.optimizer = self._optimizer_of("answer")

    def _optimizer_of(self, stage: str) -> MasterOptimizer[Student]:
        """A fresh optimizer for a stage: all that sees, or all that answers from what is seen."""
        self.student.network.model.vision_model.requires_grad_(stage == "see")
        self.student.heads.requires_grad_(stage == "see")
        return MasterOptimizer(self.student)

    def _report(self, losses: list[float]) -> list[float]:
        elapsed = self.course.elapsed
        due = elapsed - self.examined > self.options.examine_minutes * 60
        if len(losses) < 20 and not due:
            return losses
        scores: dict[str, float] = {}
        if due:
            self.examined = elapsed
            scores = self._scores()
        loss = sum(losses) / len(losses)
        course = self.course
        news = TrainProgress(
            course.stage, elapsed, self.total_seconds, course.step, round(loss, 4), scores
        )
        course.curve.append({k: v for k, v in asdict(news).items() if k != "total_seconds"})
        self.on_progress(news)
        if elapsed - self.saved > self.options.save_minutes * 60:
            self.saved = elapsed
            self._save(finished=False)
        return []

    def _scores(self) -> dict[str, float]:
        if self.course.stage == "see":
            return seeing_accuracy(self.student, draw_labelled_pictures(Random(1), 256, NANO))
        return examine(self.student.network, self.tokenizer, seed=1)

    def _save(self, *, finished: bool) -> None:
        """Everything that going on needs, written beside and renamed; at the end the checkpoint."""
        state = {
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "course": asdict(self.course),
            "options": asdict(self.options),
        }
        beside = self.folder / "state.pt.part"
        torch.save(state, beside)
        beside.replace(self.folder / "state.pt")
        curve = "".join(json.dumps(point) + "\n" for point in self.course.curve)
        (self.folder / "curve.jsonl").write_text(curve, encoding="utf-8")
        if finished:
            save_checkpoint(
                self.folder / "nano", self.student.network, self.tokenizer, self._facts()
            )

    def _facts(self) -> dict[str, Any]:
        return {
            "command": f"smolvideo train nano --minutes {self.options.minutes:g} "
            f"--seed {self.options.seed}",
            "processes": self.ranks,
            "minutes": round(self.course.elapsed / 60, 1),
            "steps": {**self.course.steps, self.course.stage: self.course.step},
            "versions": {"smolvideo": __version__, "torch": torch.__version__},
            "held_out": examine(self.student.network, self.tokenizer, seed=2, videos=256),
            "held_out_grey": examine(
                self.student.network, self.tokenizer, seed=2, videos=64, grey=True
            ),
        }

    def _resume(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        seed = state["options"]["seed"]
        if seed != self.options.seed:
            raise UsageError(
                f"`{self.folder}` holds a training with --seed {seed}",
                hint=f"give --seed {seed} to go on with it, or another --out",
            )
        self.course = Course(**state["course"])
        self.optimizer = self._optimizer_of(self.course.stage)
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])


def initialise(model: nn.Module) -> None:
    """Small random matrices; those that write into the residual stream smaller still."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        if "patch_embedding" in name or ("proj.weight" in name and "modality" in name):
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        else:
            residual = any(end in name for end in ("o_proj", "out_proj", "down_proj", "fc2"))
            nn.init.normal_(parameter, std=0.006 if residual else 0.02)


def frames_of_step(random: Random, share: float) -> int:
    """How many frames the videos of a step have: few at first, up to fifty in the second half."""
    if share > 0.5 and random.random() < 0.25:
        return random.choice((24, 32, 40, 50, 50, 50))
    if share > 0.35 and random.random() < 0.3:
        return random.choice((12, 16, 20, 24))
    return random.choice((1, 4, 5, 6, 8, 8, 10, 12))


def train_nano(folder: Path, options: TrainOptions, on_progress: OnTrainProgress) -> Path:
    """Train nano, or go on where ``folder`` stopped; returns the folder of the checkpoint.

    Raises UsageError for options that do not fit what ``folder`` holds, ModelError when a process
    of the training fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ranks = options.processes or len(os.sched_getaffinity(0))
    if ranks == 1:
        torch.set_num_threads(1)
        Trainer(folder, options, 0, 1, on_progress).run()
    else:
        _train_in_processes(folder, options, ranks, on_progress)
    return folder / "nano"


def _train_in_processes(
    folder: Path, options: TrainOptions, ranks: int, on_progress: OnTrainProgress
) -> None:
    """Rank 0 here, the others beside; they meet through a file in the folder."""
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)
    others = [
        torch.multiprocessing.get_context("spawn").Process(
            target=_one_process, args=(folder, options, rank, ranks), daemon=True
        )
        for rank in range(1, ranks)
    ]
    for process in others:
        process.start()
    try:
        _one_process(folder, options, 0, ranks, on_progress)
    except RuntimeError as error:
        raise ModelError(
            "a process of the training stopped", hint="run the command again to go on"
        ) from error
    finally:
        for process in others:
            process.join(timeout=10)
            process.kill()
        meeting.unlink(missing_ok=True)


def _one_process(
    folder: Path,
    options: TrainOptions,
    rank: int,
    ranks: int,
    on_progress: OnTrainProgress | None = None,
) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{(folder / 'meeting').resolve()}", rank=rank, world_size=ranks
    )
    try:
        Trainer(folder, options, rank, ranks, on_progress or (lambda _: None)).run()
    finally:
        distributed.destroy_process_group()
