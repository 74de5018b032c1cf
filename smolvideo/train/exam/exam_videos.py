"""Videos and questions of nano's evaluation, determined by its seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from smolvideo.train.exam.options import ExamOptions
from smolvideo.train.world.multiple_choice import WITHOUT_CHOICE, with_options
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import FrameClock, ask_about, sample_by_type
from smolvideo.train.world.scene import Scene
from smolvideo.train.world.scene_sampler import Split, sample_scene
from smolvideo.train.world.video import EncodingOptions

OPEN_QUESTIONS = 10
"""Open questions per video, if the scene has that many."""
CHOICE_QUESTIONS = 3
SHORT_SIDES = (144, 180, 240, 360)
FRAME_RATES = (6.0, 10.0, 12.5, 15.0, 24.0)
LENGTHS = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 30.0)


@dataclass(frozen=True)
class ExamVideo:
    """One video. ``novel_wording``: its questions have wordings that are held out of training."""

    number: int
    side: Split
    scene: Scene
    film: EncodingOptions
    novel_wording: bool
    seed: str

    def questions(self, clock: FrameClock) -> tuple[list[Question], list[Question]]:
        """Return open questions and questions with options; ``clock`` holds the sampled frames."""
        random = Random(f"{self.seed}/questions")
        every = ask_about(self.scene, random, clock, novel_wording=self.novel_wording)
        fit = [question for question in every if question.type not in WITHOUT_CHOICE]
        choices = [
            with_options(question, self.scene, random, clock, "official")
            for question in sample_by_type(random, fit, CHOICE_QUESTIONS)
        ]
        return sample_by_type(random, every, OPEN_QUESTIONS), choices


def draw_exam_videos(options: ExamOptions) -> Iterator[ExamVideo]:
    """Yield the videos: half of combinations known from training, half of held-out ones."""
    for number in range(options.videos):
        seed = f"{options.seed}/{number}"
        random = Random(seed)
        side: Split = "novel" if number % 2 else "fresh"
        scene = sample_scene(random, side=side)
        yield ExamVideo(number, side, scene, _film(random, scene), number % 4 >= 2, seed)


def _film(random: Random, scene: Scene) -> EncodingOptions:
    """Sample size, rate and length; some videos are rotated or have a variable frame rate."""
    short = random.choice(SHORT_SIDES)
    along = 2 * round(short * max(scene.aspect, 1 / scene.aspect) / 2)
    width, height = (along, short) if scene.aspect >= 1 else (short, along)
    seconds = random.choice(LENGTHS)
    return EncodingOptions(
        width,
        height,
        # Long videos change slowly: five frames a second lose nothing.
        fps=5.0 if seconds > 12 else random.choice(FRAME_RATES),
        seconds=seconds,
        rotation=random.choice((0, 0, 0, 0, 90, 270)),
        variable_rate=random.random() < 0.15,
    )
