"""Videos of nano's evaluation: each part's scenes, encodings and questions, drawn by a seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from smolvideo.train.exam import ExamOptions, ExamPart
from smolvideo.train.exam.second_renderer import Drawing, sample_style
from smolvideo.train.exam.unanswerable import ask_unanswerable
from smolvideo.train.exam.wordings import ask_in_new_wordings
from smolvideo.train.world.multiple_choice import WITHOUT_CHOICE, with_options
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import FrameClock, ask_about, sample_by_type
from smolvideo.train.world.render import EncodingOptions, write_video
from smolvideo.train.world.scene import Scene
from smolvideo.train.world.scene_sampler import Split, sample_scene

OPEN_QUESTIONS = 10
"""Open questions per video, if the scene has that many."""
CHOICE_QUESTIONS = 3
SHORT_SIDES = (144, 180, 240, 360)
FRAME_RATES = (6.0, 10.0, 12.5, 15.0, 24.0)
LENGTHS = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 30.0)


@dataclass(frozen=True)
class AskedQuestion:
    """A question; ``intent``: what a question in a new wording asks for."""

    question: Question
    intent: str | None = None


@dataclass(frozen=True)
class ExamVideo:
    """One video. ``novel_wording``: its questions have wordings that are held out of training."""

    number: int
    side: Split
    scene: Scene
    film: EncodingOptions
    novel_wording: bool
    seed: str

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"world{self.number:04d}.mp4"

    @property
    def seconds(self) -> float:
        """Duration of the file."""
        return self.film.seconds

    def write(self, path: Path) -> None:
        """Draw and encode it."""
        write_video(self.scene, self.film, path)

    def asked(self, part: ExamPart, clock: FrameClock) -> list[AskedQuestion]:
        """Return the questions of a part, in order."""
        random = Random(f"{self.seed}/{part}")
        if part == "wordings":
            filled = ask_in_new_wordings(self.scene, random, clock)
            return [AskedQuestion(question, intent) for intent, question in filled]
        if part == "unanswerable":
            return [AskedQuestion(question) for question in ask_unanswerable(random)]
        opened, choices = self.questions(clock)
        return [AskedQuestion(question) for question in (*opened, *choices)]

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


def sample_exam_videos(options: ExamOptions) -> Iterator[ExamVideo]:
    """Yield the videos: half of combinations known from training, half of held-out ones."""
    for number in range(options.videos):
        seed = f"{options.seed}/{number}"
        random = Random(seed)
        side: Split = "novel" if number % 2 else "fresh"
        scene = sample_scene(random, side=side)
        yield ExamVideo(
            number, side, scene, _encoding_options(random, scene), number % 4 >= 2, seed
        )


def _encoding_options(random: Random, scene: Scene) -> EncodingOptions:
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


@dataclass(frozen=True)
class RedrawnVideo:
    """A video of the second renderer, asked about in the wordings of the training."""

    number: int
    side: Split
    scene: Scene
    drawing: Drawing
    seed: str
    novel_wording: bool = False

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"redrawn{self.number:04d}.mp4"

    @property
    def seconds(self) -> float:
        """Duration of the file."""
        return self.drawing.style.seconds

    def write(self, path: Path) -> None:
        """Draw and encode it."""
        self.drawing.write(path)

    def asked(self, part: ExamPart, clock: FrameClock) -> list[AskedQuestion]:
        """Return the open questions."""
        random = Random(f"{self.seed}/questions")
        every = ask_about(self.scene, random, clock)
        return [AskedQuestion(one) for one in sample_by_type(random, every, OPEN_QUESTIONS)]


def sample_redrawn_videos(options: ExamOptions) -> Iterator[RedrawnVideo]:
    """Yield videos of the second renderer, of other scenes than those of the first."""
    for number in range(options.videos):
        seed = f"{options.seed}/{number}/renderer"
        random = Random(seed)
        side: Split = "novel" if number % 2 else "fresh"
        scene = sample_scene(random, side=side)
        yield RedrawnVideo(
            number, side, scene, Drawing(scene, sample_style(random, scene, seed)), seed
        )


def videos_of(part: ExamPart, options: ExamOptions) -> Iterator[ExamVideo] | Iterator[RedrawnVideo]:
    """Yield the videos of a part."""
    if part == "renderer":
        return sample_redrawn_videos(options)
    return sample_exam_videos(options)
