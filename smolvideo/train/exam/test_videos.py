"""Which videos an exam shows and what it asks, frozen by its seed."""

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
"""Asked about a video that allows so many."""
CHOICE_QUESTIONS = 3
SHORT_SIDES = (144, 180, 240, 360)
FRAME_RATES = (6.0, 10.0, 12.5, 15.0, 24.0)
LENGTHS = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 30.0)


@dataclass(frozen=True)
class ExamVideo:
    """One video. ``novel_wording``: it is asked about in words that training never heard."""

    number: int
    side: Split
    scene: Scene
    film: EncodingOptions
    novel_wording: bool
    seed: str

    def questions(self, clock: FrameClock) -> tuple[list[Question], list[Question]]:
        """The open ones and those with options; ``clock`` tells which frames were looked at."""
        random = Random(f"{self.seed}/questions")
        every = ask_about(self.scene, random, clock, novel_wording=self.novel_wording)
        fit = [question for question in every if question.type not in WITHOUT_CHOICE]
        choices = [
            with_options(question, self.scene, random, clock, "official")
            for question in sample_by_type(random, fit, CHOICE_QUESTIONS)
        ]
        return sample_by_type(random, every, OPEN_QUESTIONS), choices


def draw_exam_videos(options: ExamOptions) -> Iterator[ExamVideo]:
    """Half of the videos of combinations that training shows in other scenes, half of others."""
    for number in range(options.videos):
        seed = f"{options.seed}/{number}"
        random = Random(seed)
        side: Split = "novel" if number % 2 else "fresh"
        scene = sample_scene(random, side=side)
        yield ExamVideo(number, side, scene, _film(random, scene), number % 4 >= 2, seed)


def _film(random: Random, scene: Scene) -> EncodingOptions:
    """Any size, rate and length, as films come; now and then turned, or at uneven times."""
    short = random.choice(SHORT_SIDES)
    along = 2 * round(short * max(scene.aspect, 1 / scene.aspect) / 2)
    width, height = (along, short) if scene.aspect >= 1 else (short, along)
    seconds = random.choice(LENGTHS)
    return EncodingOptions(
        width,
        height,
        # Nothing happens in a long film that five pictures a second would not show.
        fps=5.0 if seconds > 12 else random.choice(FRAME_RATES),
        seconds=seconds,
        rotation=random.choice((0, 0, 0, 0, 90, 270)),
        variable_rate=random.random() < 0.15,
    )
