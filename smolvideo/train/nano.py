"""Trainer of nano: stages ``see``, ``read`` and ``answer`` on scenes rendered during training.

The stages are shares of the time budget, so five minutes and an hour run the same schedule; an
interrupted training resumes from its last saved state.
"""

import copy
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo.errors import RecordError, SmolVideoError, UsageError
from smolvideo.network import SmolVLM
from smolvideo.records import write_text_atomic
from smolvideo.sanitize import display_path
from smolvideo.train.attention_supervision import forward_supervised
from smolvideo.train.data_parallel import (
    MasterOptimizer,
    all_reduce_mean,
    load_state,
    processes_that_fit,
    save_state,
    spawn,
)
from smolvideo.train.nano_config import (
    NANO,
    init_weights,
    known_words,
    load_start,
    open_start,
    save_checkpoint,
    special_id,
    start_tokenizer,
)
from smolvideo.train.packing import PackedBatch
from smolvideo.train.question_batches import (
    evaluate,
    make_text_batch,
    make_video_batch,
    selection_score,
)
from smolvideo.train.schedule import (
    ATTENTION_LOSS_WEIGHT,
    DRILL_ROWS_PER_STEP,
    TEXT_IMAGE_SHARE,
    OnTrainProgress,
    TrainOptions,
    TrainProgress,
    TrainStage,
    TrainState,
)
from smolvideo.train.vision_pretraining import (
    TrainableNano,
    center_connector,
    dense_label_accuracy,
    make_labelled_images,
)
from smolvideo.version import __version__

LOG_INTERVAL_STEPS = 20
Clock = Callable[[], float]
"""Seconds from an arbitrary origin; picklable, because each process has one."""


def train_nano(
    folder: Path,
    options: TrainOptions,
    on_progress: OnTrainProgress,
    *,
    clock: Clock = time.monotonic,
) -> Path:
    """Train nano, or resume the training in ``folder``; return the folder of the checkpoint.

    The stages are shares of the time that ``clock`` returns, which is called once a step.

    Raises UsageError for options that contradict the state in ``folder`` or exceed the machine,
    ModelError if a process of the training dies, RecordError if states cannot be written or read.
    """
    ranks = processes_that_fit(options.processes)
    if options.start is not None:
        open_start(options.start)  # before a folder is made
    folder.mkdir(parents=True, exist_ok=True)
    spawn(partial(_train, folder, options, _Rank0Only(on_progress), clock), ranks)
    return folder / "nano"


class Trainer:
    """One process of the training; rank 0 reports, evaluates and saves."""

    def __init__(
        self,
        folder: Path,
        options: TrainOptions,
        rank: int,
        ranks: int,
        on_progress: OnTrainProgress,
        clock: Clock = time.monotonic,
    ) -> None:
        self.folder, self.options, self.rank, self.ranks = folder, options, rank, ranks
        self.clock, self.on_progress = clock, on_progress
        torch.manual_seed(options.seed)
        self.tokenizer = self._tokenizer()
        self.image_token_id = special_id(self.tokenizer, "<image>")
        self.trainable = TrainableNano(NANO)
        self.course = TrainState("see" if options.start is None else "answer")
        if options.start is None:
            init_weights(self.trainable.network)
        else:
            load_start(options.start, self.trainable.network)
        self.optimizer = self._optimizer()
        if (folder / "state.pt").exists():
            self._resume()
        self.started = self.clock() - self.course.elapsed
        self.saved = self.examined = self.course.elapsed

    def _tokenizer(self) -> Tokenizer:
        """Load the saved run's tokenizer, or train one for a new run."""
        file = self.folder / "tokenizer.json"
        if (self.folder / "state.pt").exists():
            with _as_record_error(file):
                return Tokenizer.from_str(file.read_text(encoding="utf-8"))
        tokenizer = start_tokenizer(self.options.start)
        if self.rank == 0:
            write_text_atomic(file, tokenizer.to_str(pretty=True), overwrite=True)
        return tokenizer

    def run(self) -> None:
        """Train until the time is used up, then write the checkpoint to ``folder / "nano"``."""
        losses: list[float] = []
        while self.course.progress(self.options) < 1:
            if (due := self.course.current_stage(self.options)) != self.course.stage:
                self._begin(due)
            drills = self.course.is_text_step(self.options)
            loss = self.step()
            if not drills:  # their losses are on another scale
                losses.append(loss)
            if self.rank == 0 and losses and self._should_log(len(losses)):
                self._report(sum(losses) / len(losses))
                losses = []
        if self.rank == 0:
            self._save()
            self._take_best()
            self._save_checkpoint()

    def step(self) -> float:
        """Run one step of all processes: return their mean loss, set ``elapsed`` to their mean."""
        course = self.course
        # Every process and step samples scenes from its own seed: a resumed run repeats them.
        loss = self._loss(Random(f"{self.options.seed}/{course.stage}/{course.step}/{self.rank}"))
        loss.backward()
        clock = torch.tensor([loss.item(), self.clock() - self.started])
        clock, *gradients = all_reduce_mean([clock, *self.optimizer.gradients()], self.ranks)
        self.optimizer.step(gradients, course.lr_scale(self.options))
        course.step += 1
        course.elapsed = clock[1].item()
        return clock[0].item()

    def _loss(self, random: Random) -> Tensor:
        if self.course.stage != "answer":
            return self._see_loss(random)
        if self.course.is_text_step(self.options):
            return self._text_exercise_loss(random)
        return self._answer_loss(random)

    def _see_loss(self, random: Random) -> Tensor:
        student = self.optimizer.working_copy
        written = TEXT_IMAGE_SHARE if self.course.stage == "read" else 0.0
        pictures = self.options.pictures_per_step
        labels = make_labelled_images(random, pictures, NANO, written=written)
        patches = student.network.model.vision_model(labels.pixels.to(self.optimizer.dtype))
        return student.heads.loss(patches, student.network.model.connector(patches), labels)

    def _text_exercise_loss(self, random: Random) -> Tensor:
        student = self.optimizer.working_copy
        rows = make_text_batch(random, DRILL_ROWS_PER_STEP, self.tokenizer)
        vectors = student.network.model.text_model.embed_tokens(rows.token_ids)
        return _rows_loss(student, vectors, rows)

    def _answer_loss(self, random: Random) -> Tensor:
        student, course, options = self.optimizer.working_copy, self.course, self.options
        network = student.network
        batch = make_video_batch(
            random,
            videos=course.videos(options),
            frames=course.frames(options),
            asking=course.question_mix(options),
            network=NANO,
            tokenizer=self.tokenizer,
        )
        with torch.set_grad_enabled(options.start is not None):
            patches = network.model.vision_model(batch.pixels.to(self.optimizer.dtype))
        features = network.model.connector(patches)[batch.frames].flatten(0, 2)
        vectors = network.embed_inputs(batch.rows.token_ids, features, self.image_token_id)
        return _rows_loss(student, vectors, batch.rows)

    def _begin(self, stage: TrainStage) -> None:
        self.course.begin(stage)
        if stage == "answer":
            seed, pictures = Random(self.options.seed), self.options.pictures_per_step
            center_connector(
                self.trainable.network, make_labelled_images(seed, pictures, NANO).pixels
            )
        self.optimizer = self._optimizer()
        if self.rank == 0:
            self._save()

    def _optimizer(self) -> MasterOptimizer[TrainableNano]:
        """Create the optimizer of the stage; freeze the parameters that it does not train."""
        network, seeing = self.trainable.network, self.course.stage != "answer"
        eyes: list[nn.Module] = [self.trainable.heads, network.model.vision_model]
        words: list[nn.Module] = [
            network.model.text_model,
            network.lm_head,
            self.trainable.letter_probe,
        ]
        for part in (*eyes, *words):
            part.requires_grad_(seeing == (part in eyes))
        network.model.vision_model.requires_grad_(seeing or self.options.start is not None)
        return MasterOptimizer(self.trainable)

    def _should_log(self, steps: int) -> bool:
        return steps >= LOG_INTERVAL_STEPS or self._should_evaluate()

    def _should_evaluate(self) -> bool:
        return self.course.elapsed - self.examined > self.options.examine_minutes * 60

    def _report(self, loss: float) -> None:
        course = self.course
        scores: dict[str, float] = {}
        if self._should_evaluate():
            self.examined = course.elapsed
            scores = self._scores()
            if course.stage == "answer":
                self._save_if_best(scores)
        progress = TrainProgress(
            course.stage,
            round(course.elapsed, 1),
            self.options.seconds,
            course.step,
            round(loss, 4),
            {name: round(share, 4) for name, share in scores.items()},
        )
        course.curve.append({k: v for k, v in asdict(progress).items() if k != "total_seconds"})
        self.on_progress(progress)
        if course.elapsed - self.saved > self.options.save_minutes * 60:
            self._save()

    def _scores(self) -> dict[str, float]:
        if self.course.stage == "answer":
            running = self.optimizer.working_copy.network
            return self._evaluate(running, seed=1, videos=self.options.examine_videos // 3)
        return dense_label_accuracy(self.trainable, make_labelled_images(Random(1), 256, NANO))

    def _save_if_best(self, scores: dict[str, float]) -> None:
        if selection_score(scores) > self.course.best:
            self.course.best = selection_score(scores)
            save_state(self.trainable.network.state_dict(), self.folder / "best.pt")

    def _take_best(self) -> None:
        """Load the best weights if an earlier evaluation scored higher than the last weights."""
        if selection_score(self._scores()) < self.course.best:
            best = load_state(self.folder / "best.pt")
            with _as_record_error(self.folder / "best.pt"):
                self.trainable.network.load_state_dict(best)

    def _final_accuracy(self, network: SmolVLM, *, grey: bool) -> dict[str, float]:
        count = self.options.examine_videos // (4 if grey else 1)
        scores = self._evaluate(network, seed=2, videos=count, grey=grey)
        return {name: round(share, 4) for name, share in scores.items()}

    def _evaluate(
        self, network: SmolVLM, *, seed: int, videos: int, grey: bool = False
    ) -> dict[str, float]:
        frames = self.options.examine_frames
        return evaluate(
            network, self.tokenizer, seed=seed, videos=videos, frame_counts=frames, grey=grey
        )

    def _save_checkpoint(self) -> None:
        """Write the checkpoint to a temporary folder, then replace the old one with it."""
        target = self.folder / "nano"
        beside = self.folder / f".nano.{secrets.token_hex(4)}.part"
        try:
            save_checkpoint(beside, self.trainable.network, self.tokenizer, self._metadata())
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            beside.replace(target)
        except SafetensorError as error:
            raise RecordError(f"cannot write {display_path(target)}: {error}") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _save(self) -> None:
        """Save everything that resuming needs: write temporary files and rename them."""
        self.saved = self.course.elapsed
        state = {
            "student": self.trainable.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "course": asdict(self.course),
            "seed": self.options.seed,
        }
        save_state(state, self.folder / "state.pt")
        curve = "".join(json.dumps(point) + "\n" for point in self.course.curve)
        write_text_atomic(self.folder / "curve.jsonl", curve, overwrite=True)

    def _resume(self) -> None:
        state = load_state(self.folder / "state.pt")
        with _as_record_error(self.folder / "state.pt"):
            if state["seed"] != self.options.seed:
                raise UsageError(
                    f"`{self.folder}` holds a training with `--seed {state['seed']}`",
                    hint=f"give `--seed {state['seed']}` to resume it, or another `--out`",
                )
            self.course = TrainState(**state["course"])
            self.trainable.load_state_dict(state["student"])
            self.optimizer = self._optimizer()
            self.optimizer.load_state_dict(state["optimizer"])

    def _metadata(self) -> dict[str, Any]:
        """Return how the weights were trained, and their accuracy as shipped, in bfloat16."""
        options, shipped = self.options, copy.deepcopy(self.trainable.network).bfloat16().float()
        start = "" if options.start is None else f" --from {options.start}"
        return {
            "command": f"smolvideo train nano --minutes {options.minutes:g} "
            f"--seed {options.seed}{start}",
            "processes": self.ranks,
            "steps": {**self.course.steps_before, self.course.stage: self.course.step},
            "versions": {"smolvideo": __version__, "torch": torch.__version__},
            "held_out": self._final_accuracy(shipped, grey=False),
            "held_out_grey": self._final_accuracy(shipped, grey=True),
            "words": known_words(),
        }


def _rows_loss(student: TrainableNano, vectors: Tensor, rows: PackedBatch) -> Tensor:
    """Weighted mean cross entropy of all answer tokens, plus the supervised-attention loss times
    ``ATTENTION_LOSS_WEIGHT``."""
    network = student.network
    hidden, astray = forward_supervised(
        network.model.text_model, student.letter_probe, vectors, rows
    )
    # Targets below 0 are not part of an answer.
    asked = rows.targets >= 0
    logits = network.lm_head(hidden[asked]).float()
    losses = F.cross_entropy(logits, rows.targets[asked], reduction="none")
    weights = rows.weights[asked]
    return (losses * weights).sum() / weights.sum() + ATTENTION_LOSS_WEIGHT * astray


@contextmanager
def _as_record_error(path: Path) -> Iterator[None]:
    """Turn any error from a state with unexpected contents into one RecordError."""
    try:
        yield
    except SmolVideoError:
        raise
    except Exception as error:  # other shapes, keys or types raise errors of many kinds
        raise RecordError(
            f"{display_path(path)} does not fit this training",
            hint="delete it and the states beside it, or name another `--out`",
        ) from error


class _Rank0Only:
    """A callback that works in this process only: pickled copies do nothing."""

    def __init__(self, on_progress: OnTrainProgress | None) -> None:
        self._on_progress = on_progress

    def __call__(self, progress: TrainProgress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)

    def __reduce__(self) -> tuple[type["_Rank0Only"], tuple[None]]:
        return _Rank0Only, (None,)


def _train(
    folder: Path,
    options: TrainOptions,
    on_progress: OnTrainProgress,
    clock: Clock,
    rank: int,
    ranks: int,
) -> None:
    Trainer(folder, options, rank, ranks, on_progress, clock).run()
