"""Training schedule: stages, learning rates, batch sizes, question mix, progress; no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from smolvideo.evals.protocol import format_question
from smolvideo.evals.protocol.prompts import PromptName


@dataclass(frozen=True)
class QuestionMix:
    """Up to ``questions`` about each video, and up to ``single_frame_questions`` more.

    Of ``questions``, ``choices`` have options, in the prompt ``prompt_name``, and
    ``text_exercises`` need no video. ``hard_type_probability`` is the probability that one of the
    hard types is taken before the others, for each of them. A single-frame question asks what one
    moment shows, or which moment shows something. ``yes_no_questions`` more are about single facts,
    true or false. ``follow_up_probability`` is the probability that
    a question comes later in a conversation, after others about the same video.
    """

    questions: int
    choices: int = 0
    text_exercises: int = 0
    prompt_name: PromptName = "plain"
    hard_type_probability: float = 0.0
    single_frame_questions: int = 0
    yes_no_questions: int = 0
    follow_up_probability: float = 0.0

    @property
    def instruction(self) -> str:
        """The text before the frames, for questions with options in this prompt."""
        asked = format_question(self.prompt_name, "cinepile", "", (), None)
        return asked.instruction or "" if self.choices else ""


TrainStage = Literal["see", "read", "answer"]
"""``see``: vision tower and connector on labelled images. ``read``: the same, mostly on images with
text, which is the slowest to learn. ``answer``: connector and decoder on videos with questions; the
tower is frozen."""

STAGE_ENDS: dict[TrainStage, float] = {"see": 0.0541, "read": 0.0719, "answer": 1.0}
"""The stages in their order, and the share of the time at which each ends."""
TEXT_IMAGE_SHARE = 0.75
"""Share of the images with text in the stage ``read``."""
DECAY_SHARES: dict[TrainStage, float] = {"see": 0.35, "read": 0.35, "answer": 0.5}
"""Share of a stage over which its learning rate falls linearly to its minimum."""
CHOICE_FORMS: tuple[PromptName, ...] = ("plain", "smolvlm", "official")
FIRST_SHARE = 0.19
"""Share of the stage ``answer`` in which videos have few frames, and most questions are about one
moment or ask for it: a model must tell the frames apart before it can learn times and orders."""
WARM_UP_STEPS = 40
CONTINUED_RATE = 0.5
"""Share of the learning rates for a training that begins with trained weights."""
TEXT_STEP_INTERVAL = 3
"""Steps from one text-only step to the next; these are the cheapest."""
DRILL_ROWS_PER_STEP, DRILLS_PER_ROW = 8, 4
ATTENTION_LOSS_WEIGHT = 0.15
"""Weight of the supervised-attention loss relative to the language-model loss."""
VIDEOS_PER_STEP = 2, 6
"""Minimum and maximum videos per step; in between, ``TrainOptions.frames_per_step`` decides."""
EARLY_MIX = QuestionMix(
    questions=7, text_exercises=3, hard_type_probability=0.3, single_frame_questions=6
)
LATE_MIX = QuestionMix(
    questions=8,
    choices=3,
    text_exercises=1,
    hard_type_probability=0.4,
    single_frame_questions=3,
    yes_no_questions=3,
    follow_up_probability=0.25,
)
"""Options put distance between a question and its answer, and the answer's words are found among
the options before they are found in the video: learning that takes many such questions."""


@dataclass(frozen=True)
class TrainOptions:
    """``minutes`` of wall time over all runs; ``processes`` None: one per available core.

    nano is evaluated every ``examine_minutes``, and at the end on ``examine_videos`` videos, three
    times as many, in equal parts for each number of frames in ``examine_frames``. In every process
    a vision step has ``pictures_per_step`` images, and an answer step has videos of about
    ``frames_per_step`` frames in total.

    ``start`` names a checkpoint whose weights the training begins with: all of it is then the
    second half of the stage ``answer``, in which the vision tower is trained, too.
    """

    minutes: float = 342.0
    processes: int | None = None
    seed: int = 0
    examine_minutes: float = 10.0
    examine_videos: int = 96
    examine_frames: tuple[int, ...] = (6, 10, 16, 50)
    save_minutes: float = 2.0
    pictures_per_step: int = 128
    frames_per_step: int = 64
    start: str | None = None

    @property
    def seconds(self) -> float:
        return self.minutes * 60


@dataclass
class TrainState:
    """Progress of a training, saved with the weights so that it can be resumed.

    ``elapsed``: seconds over all runs; ``step``: steps within the stage; ``steps_before``: steps of
    the earlier stages; ``curve``: all progress events; ``best``: the highest evaluation score so
    far.
    """

    stage: TrainStage = "see"
    elapsed: float = 0.0
    step: int = 0
    steps_before: dict[TrainStage, int] = field(default_factory=dict)
    best: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)

    def progress(self, options: TrainOptions) -> float:
        """Share of the whole training that is done."""
        return self.elapsed / options.seconds

    def current_stage(self, options: TrainOptions) -> TrainStage:
        """Stage for the elapsed share of the time."""
        if options.start is not None:
            return "answer"
        share = self.progress(options)
        return next((stage for stage, end in STAGE_ENDS.items() if share < end), "answer")

    def begin(self, stage: TrainStage) -> None:
        """Start a stage at step 0."""
        self.steps_before[self.stage] = self.step
        self.stage, self.step = stage, 0

    def stage_share(self, options: TrainOptions) -> float:
        """Share of the current stage that is done."""
        if options.start is not None:
            return (1 + self.progress(options)) / 2
        begin = max((end for end in STAGE_ENDS.values() if end < STAGE_ENDS[self.stage]), default=0)
        return (self.progress(options) - begin) / (STAGE_ENDS[self.stage] - begin)

    def lr_scale(self, options: TrainOptions) -> float:
        """Share of the full learning rates: warm-up, constant, then linear decay in each stage."""
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        fall = min(1.0, max(0.02, (1 - self.stage_share(options)) / DECAY_SHARES[self.stage]))
        return warm * fall * (1.0 if options.start is None else CONTINUED_RATE)

    # The methods below return the same in every process, so that no process waits for another.

    def videos(self, options: TrainOptions) -> int:
        """Videos of this step in every process."""
        least, most = VIDEOS_PER_STEP
        return max(least, min(most, options.frames_per_step // self.frames(options)))

    def is_text_step(self, options: TrainOptions) -> bool:
        """Whether this step trains on text exercises alone."""
        later = self.stage == "answer" and self.stage_share(options) >= FIRST_SHARE
        return later and self.step % TEXT_STEP_INTERVAL == TEXT_STEP_INTERVAL - 1

    def question_mix(self, options: TrainOptions) -> QuestionMix:
        """Question mix for every video of this step."""
        if self.stage_share(options) < FIRST_SHARE:
            return EARLY_MIX
        form = Random(f"{options.seed}/{self.step}/form").choice(CHOICE_FORMS)
        return replace(LATE_MIX, prompt_name=form)

    def frames(self, options: TrainOptions) -> int:
        """Frames of the videos of this step: few at first, up to fifty later on."""
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
    """Progress event: stage, elapsed and total seconds, loss; accuracies after an evaluation."""

    stage: TrainStage
    seconds: float
    total_seconds: float
    step: int
    loss: float
    scores: dict[str, float] = field(default_factory=dict)


OnTrainProgress = Callable[[TrainProgress], None]
