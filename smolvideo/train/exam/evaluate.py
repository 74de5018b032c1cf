"""Evaluation loop of nano: videos drawn by a seed are encoded, decoded, sampled and asked about."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

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
from smolvideo.train.exam import PARTS, ExamOptions, ExamPart
from smolvideo.train.exam.run import ExamAnswer, ExamReport, ExamRun, is_correct
from smolvideo.train.exam.videos import ExamVideo, RedrawnVideo, videos_of
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import FrameClock

GENERATION = GenerationOptions(max_new_tokens=48)

OnExamProgress = Callable[[int, int, int, int], None]
"""Called with videos done, total videos, right answers so far, and questions so far."""


def evaluate_exam(
    engine: Engine,
    options: ExamOptions,
    *,
    parts: Sequence[ExamPart] = PARTS,
    folder: Path | None = None,
    run: ExamRun | None = None,
    on_progress: OnExamProgress = lambda *_: None,
) -> ExamReport:
    """Answer all questions of ``parts`` about the videos of ``options`` with ``engine``.

    The videos are left in ``folder``, which must exist; without one they are deleted. Answers in
    ``run`` are reused, and new ones are synced to disk before the next video. Raises RecordError
    for ``run``, and whatever ``load_frames``, ``pack_prompt`` and the engine raise.
    """
    answers: list[ExamAnswer] = []
    with ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smolvideo-exam-")))
        writer = None if run is None else stack.enter_context(run.held())
        known = {} if run is None else run.answers()
        total = len(set(parts)) * options.videos
        for done, (part, video) in enumerate(_videos(parts, options), start=1):
            if (part, video.number) in known:
                answers += known[part, video.number]
            else:
                for answer in _asked(engine, part, video, folder or own):
                    if writer is not None:
                        writer.write(answer)
                    answers.append(answer)
            on_progress(done, total, sum(answer.right for answer in answers), len(answers))
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


def _videos(
    parts: Sequence[ExamPart], options: ExamOptions
) -> Iterator[tuple[ExamPart, ExamVideo | RedrawnVideo]]:
    """Yield each part's videos, part after part in the order of ``PARTS``."""
    for part in PARTS:
        if part in parts:
            for video in videos_of(part, options):
                yield part, video


def _asked(
    engine: Engine, part: ExamPart, video: ExamVideo | RedrawnVideo, folder: Path
) -> Iterator[ExamAnswer]:
    # The video, unless the folder has it.
    path = folder / video.name
    if not path.exists():
        with atomic_path(path) as beside:
            video.write(beside)
    # Sampled and transformed once for all questions.
    geometry, fit = frame_transform(engine.checkpoint)
    batch = load_frames(path, fit=fit, geometry=geometry)
    duration = video.seconds
    clock = FrameClock(tuple(seconds / duration for seconds in batch.pts_seconds), duration)
    step = float(max(np.diff(batch.pts_seconds), default=duration))
    asked = video.asked(part, clock)
    questions = [one.question for one in asked]
    # Two conditions: the frames, and uniform grey.
    seen = _answered(engine, batch, questions)
    grey = replace(batch, images=blank_images(batch.images))
    blind = _answered(engine, grey, questions)
    answered = zip(asked, seen, blind, strict=True)
    for place, (given, (one, option), (other, blind_option)) in enumerate(answered):
        question = given.question
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
            likeliest=option,
            blind_likeliest=blind_option,
            place=place,
            count=len(questions),
            part=part,
            intent=given.intent,
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
