"""Evaluation loop of nano: videos drawn by a seed are encoded, decoded, sampled and asked about."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np

from smolvideo.engines import (
    Engine,
    GenerationOptions,
    Session,
    SessionEngine,
    settled_arithmetic,
)
from smolvideo.evals.item import LETTERS
from smolvideo.files import atomic_path
from smolvideo.frames import FrameBatch, blank_images
from smolvideo.pipeline import load_frames
from smolvideo.prompt import Message, Prompt, frame_transform, pack_prompt
from smolvideo.train.exam import ExamOptions
from smolvideo.train.exam.run import ExamAnswer, ExamReport, ExamRun, is_correct
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


GENERATION = GenerationOptions(max_new_tokens=48)

OnExamProgress = Callable[[int, int, int, int], None]
"""Called with videos done, total videos, right answers so far, and questions so far."""


def evaluate_exam(
    engine: Engine,
    options: ExamOptions,
    *,
    folder: Path | None = None,
    run: ExamRun | None = None,
    on_progress: OnExamProgress = lambda *_: None,
) -> ExamReport:
    """Answer all questions about the videos of ``options`` with ``engine``.

    The videos are left in ``folder``, which must exist; without one they are deleted. Answers in
    ``run`` are reused, and new ones are synced to disk before the next video. Raises RecordError
    for ``run``, and whatever ``load_frames``, ``pack_prompt`` and the engine raise.
    """
    answers: list[ExamAnswer] = []
    with ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smolvideo-exam-")))
        writer = None if run is None else stack.enter_context(run.held())
        known = {} if run is None else run.answers()
        for video in sample_exam_videos(options):
            if video.number in known:
                answers += known[video.number]
            else:
                for answer in _asked(engine, video, folder or own):
                    if writer is not None:
                        writer.write(answer)
                    answers.append(answer)
            right = sum(answer.right for answer in answers)
            on_progress(video.number + 1, options.videos, right, len(answers))
    setting = {
        "model": engine.checkpoint.name,
        "engine": engine.name,
        "device": engine.device,
        "dtype": engine.dtype,
        "quantize": engine.quantize,
        "arithmetic": settled_arithmetic(engine),
        "videos": options.videos,
        "seed": options.seed,
    }
    return ExamReport(setting, tuple(answers))


def _asked(engine: Engine, video: ExamVideo, folder: Path) -> Iterator[ExamAnswer]:
    # The video, unless the folder has it.
    path = folder / f"world{video.number:04d}.mp4"
    if not path.exists():
        with atomic_path(path) as beside:
            write_video(video.scene, video.film, beside)
    # Sampled and transformed once for all questions.
    geometry, fit = frame_transform(engine.checkpoint)
    batch = load_frames(path, fit=fit, geometry=geometry)
    duration = video.film.seconds
    clock = FrameClock(tuple(seconds / duration for seconds in batch.pts_seconds), duration)
    step = float(max(np.diff(batch.pts_seconds), default=duration))
    opened, choices = video.questions(clock)
    questions = [*opened, *choices]
    # Two conditions: the frames, and uniform grey.
    seen = _answered(engine, batch, questions)
    grey = replace(batch, images=blank_images(batch.images))
    blind = _answered(engine, grey, questions)
    answered = zip(questions, seen, blind, strict=True)
    for place, (question, (one, likeliest), (other, guessed)) in enumerate(answered):
        yield ExamAnswer(
            video=video.number,
            side=video.side,
            novel_wording=video.novel_wording,
            type=question.type,
            question=question.text,
            answer=question.answer,
            seen=one,
            blind=other,
            right=is_correct(question, one, duration=duration, step=step),
            blind_right=is_correct(question, other, duration=duration, step=step),
            likeliest=likeliest,
            blind_likeliest=guessed,
            place=place,
            count=len(questions),
        )


def _answered(
    engine: Engine, batch: FrameBatch, questions: Sequence[Question]
) -> list[tuple[str, str | None]]:
    """Answer all questions about the same frames. The second value, for questions with options, is
    the letter of the option with the most likely words; None if the engine gives no likelihoods."""

    def packed(asked: Iterable[Question]) -> list[Prompt]:
        return [pack_prompt(conversation(batch, one), engine.checkpoint) for one in asked]

    prompts = packed(questions)
    if not isinstance(engine, SessionEngine):
        return [(engine.stream(prompt, GENERATION).result().text, None) for prompt in prompts]
    with_options = [question for question in questions if question.open_form]
    prompts += packed(question.open_form for question in with_options if question.open_form)
    # Reuse the first prompt's image array, so that the session need not compare pixels.
    prompts = [replace(prompt, images=prompts[0].images) for prompt in prompts]
    session = engine.open_session()
    answers = session.answer_batch(prompts[: len(questions)], GENERATION)
    scored = zip(with_options, prompts[len(questions) :], strict=True)
    likeliest = {
        id(question): _most_likely_option(session, question, prompt) for question, prompt in scored
    }
    return [
        (answer.text, likeliest.get(id(question)))
        for question, answer in zip(questions, answers, strict=True)
    ]


def _most_likely_option(session: Session, question: Question, prompt: Prompt) -> str:
    scores = session.score(prompt, question.options)
    return LETTERS[max(range(len(scores)), key=scores.__getitem__)]


def conversation(batch: FrameBatch, question: Question) -> list[Message]:
    """Return the conversation that ends in the question; with options there is no text before the
    frames, as in CinePile's own prompt."""
    said = () if question.subtitles is None else (f"{question.subtitles}\n\n",)
    instruction = "" if question.type == "choice" else None
    turns = [text for turn in question.history for text in (turn.text, turn.response)]
    turns.append(question.text)
    first = Message("user", (batch, *said, turns[0]), preamble=instruction)
    roles = ("user", "assistant")
    later = [Message(roles[n % 2], (text,)) for n, text in enumerate(turns)][1:]  # type: ignore[arg-type]
    return [first, *later]
