"""The course of a training: its stages, its rates, its news; no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

Stage = Literal["see", "answer"]
"""``see``: vision tower and connector on labelled pictures. ``answer``: connector and decoder on
videos with questions, the tower frozen."""

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
    """``minutes`` of wall time over all runs; ``processes`` None: one per core that may be used.

    ``examine_minutes`` apart nano is examined on the way, at the end on ``examine_videos`` videos,
    thrice as many.
    """

    minutes: float = 60.0
    processes: int | None = None
    seed: int = 0
    examine_minutes: float = 5.0
    examine_videos: int = 256
    save_minutes: float = 2.0

    @property
    def seconds(self) -> float:
        return self.minutes * 60


@dataclass
class Course:
    """Where a training stands: what is saved beside the weights so that it can go on.

    ``elapsed`` seconds of all runs; ``step`` within the stage; ``curve`` all news so far.
    """

    stage: Stage = "see"
    elapsed: float = 0.0
    step: int = 0
    see_steps: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)

    def share(self, options: TrainOptions) -> float:
        """How much of the whole course is done."""
        return self.elapsed / options.seconds

    def must_answer_now(self, options: TrainOptions) -> bool:
        return self.stage == "see" and self.share(options) >= SEE_SHARE

    def rate(self, options: TrainOptions) -> float:
        """Share of the full learning rates: warm-up, level, and a straight fall in each stage."""
        begin, end = (0.0, SEE_SHARE) if self.stage == "see" else (SEE_SHARE, 1.0)
        done = (self.share(options) - begin) / (end - begin)
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        return warm * min(1.0, max(0.02, (1 - done) / DECAY_SHARE))

    def frames(self, options: TrainOptions) -> int:
        """How many frames the videos of this step have: few at first, up to fifty later on.

        The same in every process, so that none waits long for another.
        """
        random = Random(f"{options.seed}/{self.step}")
        share = self.share(options)
        if share > 0.5 and random.random() < 0.25:
            return random.choice((24, 32, 40, 50, 50, 50))
        if share > 0.35 and random.random() < 0.3:
            return random.choice((12, 16, 20, 24))
        return random.choice((1, 4, 5, 6, 8, 8, 10, 12))


@dataclass(frozen=True)
class TrainProgress:
    """News: the stage, seconds done and given, the loss, and accuracies when examined."""

    stage: Stage
    seconds: float
    total_seconds: float
    step: int
    loss: float
    scores: dict[str, float] = field(default_factory=dict)


OnTrainProgress = Callable[[TrainProgress], None]
