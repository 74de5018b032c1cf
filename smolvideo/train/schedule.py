"""The course of a training: its stages, its rates, its news; no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from smolvideo.evals.protocol.prompts import PromptName
from smolvideo.train.question_mix import QuestionMix

TrainStage = Literal["see", "read", "answer"]
"""``see``: vision tower and connector on labelled pictures. ``read``: the same, mostly on pictures
with something written, which takes longest to see. ``answer``: connector and decoder on videos with
questions, the tower frozen."""

STAGE_ENDS: dict[TrainStage, float] = {"see": 0.0541, "read": 0.0719, "answer": 1.0}
"""The stages in their order, and at which share of the time each ends."""
TEXT_IMAGE_SHARE = 0.75
"""Share of the pictures of the stage ``read`` with something written."""
DECAY_SHARES: dict[TrainStage, float] = {"see": 0.35, "read": 0.35, "answer": 0.5}
"""Share of a stage in which its learning rate falls to zero, in a straight line."""
CHOICE_FORMS: tuple[PromptName, ...] = ("plain", "smolvlm", "official")
FIRST_SHARE = 0.19
"""Share of the stage ``answer`` in which videos are of few frames, and most questions about one
moment or for it: only who keeps the frames apart learns times and orders later."""
WARM_UP_STEPS = 40
TEXT_STEP_INTERVAL = 3
"""Steps from one of exercises alone to the next: these are the cheapest."""
DRILL_ROWS_PER_STEP, DRILLS_PER_ROW = 8, 4
ATTENTION_LOSS_WEIGHT = 0.15
"""What looking elsewhere than shown counts, against a wrong word."""
VIDEOS_PER_STEP = 3, 16
"""At least, and at most, whatever ``TrainOptions.frames_per_step`` allows."""
EARLY_MIX = QuestionMix(
    questions=7, text_exercises=3, hard_type_probability=0.3, single_frame_questions=6
)
LATE_MIX = QuestionMix(
    questions=8,
    choices=3,
    text_exercises=1,
    hard_type_probability=0.4,
    single_frame_questions=3,
    follow_up_probability=0.25,
)
"""With options in between, a question is far from where it is answered, and what is said comes from
them before it comes from the video: that takes many of them."""


@dataclass(frozen=True)
class TrainOptions:
    """``minutes`` of wall time over all runs; ``processes`` None: one per core that may be used.

    ``examine_minutes`` apart nano is examined on the way, at the end on ``examine_videos`` videos,
    thrice as many, in equal parts of each number of frames in ``examine_frames``. A step of seeing
    has ``pictures_per_step`` pictures, one of answering videos of about ``frames_per_step`` frames
    together, in every process.
    """

    minutes: float = 342.0
    processes: int | None = None
    seed: int = 0
    examine_minutes: float = 10.0
    examine_videos: int = 96
    examine_frames: tuple[int, ...] = (6, 10, 16, 50)
    save_minutes: float = 2.0
    pictures_per_step: int = 128
    frames_per_step: int = 160

    @property
    def seconds(self) -> float:
        return self.minutes * 60


@dataclass
class TrainState:
    """Where a training stands: what is saved beside the weights so that it can go on.

    ``elapsed`` seconds of all runs; ``step`` within the stage; ``steps_before`` of the stages
    before; ``curve`` all news so far; ``best`` the highest mark of an examination on the way.
    """

    stage: TrainStage = "see"
    elapsed: float = 0.0
    step: int = 0
    steps_before: dict[TrainStage, int] = field(default_factory=dict)
    best: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)

    def progress(self, options: TrainOptions) -> float:
        """How much of the whole course is done."""
        return self.elapsed / options.seconds

    def current_stage(self, options: TrainOptions) -> TrainStage:
        """The stage that this share of the time is for."""
        share = self.progress(options)
        return next((stage for stage, end in STAGE_ENDS.items() if share < end), "answer")

    def begin(self, stage: TrainStage) -> None:
        """The next stage, from its first step."""
        self.steps_before[self.stage] = self.step
        self.stage, self.step = stage, 0

    def stage_share(self, options: TrainOptions) -> float:
        """How much of its stage is done."""
        begin = max((end for end in STAGE_ENDS.values() if end < STAGE_ENDS[self.stage]), default=0)
        return (self.progress(options) - begin) / (STAGE_ENDS[self.stage] - begin)

    def lr_scale(self, options: TrainOptions) -> float:
        """Share of the full learning rates: warm-up, level, and a straight fall in each stage."""
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        fall = min(1.0, max(0.02, (1 - self.stage_share(options)) / DECAY_SHARES[self.stage]))
        return warm * fall

    # What follows is the same in every process, so that none waits long for another.

    def videos(self, options: TrainOptions) -> int:
        """How many videos this step has in every process."""
        least, most = VIDEOS_PER_STEP
        return max(least, min(most, options.frames_per_step // self.frames(options)))

    def is_text_step(self, options: TrainOptions) -> bool:
        """Whether this step is of exercises in text alone."""
        later = self.stage == "answer" and self.stage_share(options) >= FIRST_SHARE
        return later and self.step % TEXT_STEP_INTERVAL == TEXT_STEP_INTERVAL - 1

    def question_mix(self, options: TrainOptions) -> QuestionMix:
        """What is asked about every video of this step."""
        if self.stage_share(options) < FIRST_SHARE:
            return EARLY_MIX
        form = Random(f"{options.seed}/{self.step}/form").choice(CHOICE_FORMS)
        return replace(LATE_MIX, prompt_name=form)

    def frames(self, options: TrainOptions) -> int:
        """How many frames the videos of this step have: few at first, up to fifty later on."""
        random = Random(f"{options.seed}/{self.step}")
        share = self.stage_share(options)
        if share < FIRST_SHARE:
            return random.choice((2, 3, 3, 4, 4, 5, 6, 8))
        if share > 0.35 and random.random() < 0.25:
            return random.choice((24, 32, 40, 50, 50, 50))
        if share > 0.22 and random.random() < 0.3:
            return random.choice((12, 16, 20, 24))
        return random.choice((1, 4, 5, 6, 8, 8, 10, 12))


@dataclass(frozen=True)
class TrainProgress:
    """News: the stage, seconds done and given, the loss, and accuracies when examined."""

    stage: TrainStage
    seconds: float
    total_seconds: float
    step: int
    loss: float
    scores: dict[str, float] = field(default_factory=dict)


OnTrainProgress = Callable[[TrainProgress], None]
