"""What a step of answering is given: drawn videos with questions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from smolvideo.frames import Images, format_timestamp
from smolvideo.network import NetworkConfig
from smolvideo.train.asking import Asking
from smolvideo.train.packing import (
    AskedRows,
    frames_shown,
    pack_questions,
    stack_rows,
)
from smolvideo.train.pictures import spoil, to_pixels
from smolvideo.train.world.choices import WITHOUT_CHOICE, with_options
from smolvideo.train.world.draw import draw_moments
from smolvideo.train.world.drills import drills
from smolvideo.train.world.glimpses import findings, glimpses
from smolvideo.train.world.lots import Side, draw_scene
from smolvideo.train.world.question import Question, carelessly
from smolvideo.train.world.questions import Clock, ask_about, spread
from smolvideo.train.world.scene import Scene

ANSWERED_BEFORE = 0.3
"""Share of the questions with options that follow the same question without: then the options need
only be read, not the video."""
EVENTFUL = 0.3
"""Share of the videos in which something surely happens at a moment; in some of the others, too."""
SLOW_TYPES = ("describe", "direction", "moment", "motion", "mover", "order", "time")
"""What takes longest to learn: each needs several frames, or several facts at once."""
GREY = 128


@dataclass(frozen=True)
class AskedVideos:
    """Drawn videos of equally many frames with their questions.

    ``pixels`` ``[U, 3, S, S]``: every different picture once; ``frames`` ``[B, F]`` indexes it.
    """

    pixels: Tensor
    frames: Tensor
    rows: AskedRows


@dataclass(frozen=True)
class _Video:
    """A scene, the shares of its duration that are looked at, and when they are; a single picture
    has no clock."""

    scene: Scene
    shares: list[float]
    clock: Clock | None

    @property
    def stamps(self) -> list[str]:
        if self.clock is None:
            return []
        return [format_timestamp(share * self.clock.seconds) for share in self.shares]


def draw_asked_videos(
    random: Random,
    *,
    videos: int,
    frames: int,
    asking: Asking,
    network: NetworkConfig,
    tokenizer: Tokenizer,
    side: Side = "trained",
    grey: bool = False,
) -> AskedVideos:
    """``videos`` random videos of ``frames`` frames, drawn, with their questions.

    ``grey`` replaces every picture by even grey: what can be answered then was not seen.
    """
    noise = np.random.default_rng(random.getrandbits(32))
    size = network.vision.image_size
    pixels: list[Images] = []
    frame_rows, rows, asked = [], [], []
    for video in _videos(random, videos, frames, side):
        pictures, shown = draw_moments(video.scene, video.shares, size, size)
        spoilt = spoil(pictures, noise)
        frame_rows.append(np.array(shown) + sum(len(part) for part in pixels))
        pixels.append(np.full_like(spoilt, GREY) if grey else spoilt)
        asked.append(_questions(video, random, asking))
        front = frames_shown(video.stamps, network.tokens_per_image, tokenizer, asking.instruction)
        rows.append(pack_questions(front, asked[-1], tokenizer))
    return AskedVideos(
        pixels=to_pixels(np.concatenate(pixels)),
        frames=torch.from_numpy(np.stack(frame_rows)),
        rows=stack_rows(rows, asked),
    )


def _videos(random: Random, count: int, frames: int, side: Side) -> Iterator[_Video]:
    for _ in range(count):
        shares = _moments(random, frames)
        scene = _shown_scene(random, shares, side)
        # From three seconds to ten minutes, short ones as often as long ones.
        clock = Clock(tuple(shares), 3 * 200 ** random.random()) if frames > 1 else None
        yield _Video(scene, shares, clock)


def _moments(random: Random, frames: int) -> list[float]:
    """Evenly spaced shares of the duration, from the first frame to the last."""
    if frames == 1:
        return [random.random()]
    end = 1 - random.uniform(0, 0.5) / frames
    return [end * place / (frames - 1) for place in range(frames)]


def _shown_scene(random: Random, shares: list[float], side: Side) -> Scene:
    """A scene of which these moments show everything."""
    still = len(shares) == 1
    eventful = not still and random.random() < EVENTFUL
    while True:
        scene = draw_scene(random, side=side, still=still)
        if eventful and not (scene.in_sequence or scene.event):
            continue
        if all(any(thing.centre_at(s) for s in shares) for thing in scene.things):
            return scene


def _questions(video: _Video, random: Random, asking: Asking) -> list[Question]:
    """Questions of many types, those with options now and then after the same one without."""
    scene, clock = video.scene, video.clock
    every = ask_about(scene, random, clock)
    slow = [name for name in SLOW_TYPES if random.random() < asking.favoured]
    opened = spread(random, every, asking.questions - asking.choices - asking.drills, first=slow)
    if clock is not None:
        others = [question for question in every if question not in opened]
        opened += _glimpses(scene, others, random, clock, asking.glimpses)
    chosen = [carelessly(random, question) for question in opened]
    chosen = [
        _after_others(question, every, random)
        if asking.earlier and random.random() < asking.earlier
        else question
        for question in chosen
    ]
    fit = [question for question in every if question.type not in WITHOUT_CHOICE]
    for question in spread(random, fit, asking.choices):
        choice = with_options(carelessly(random, question), scene, random, clock, asking.form)
        if random.random() < ANSWERED_BEFORE:
            text = question.text if question.said is None else f"{question.said}\n\n{question.text}"
            choice = replace(choice, earlier=(Question(question.type, text, question.answer),))
        chosen.append(choice)
    return [*chosen, *islice(drills(random, clock, asking.form), asking.drills)]


def _after_others(question: Question, others: Sequence[Question], random: Random) -> Question:
    """The question later in a conversation: after one or two others, which it need not be about."""
    asked = question.text.lower().rstrip("?.")
    plain = [
        other
        for other in others
        if not (other.said or other.earlier) and other.text.lower().rstrip("?.") != asked
    ]
    turns = tuple(
        carelessly(random, other)
        for other in random.sample(plain, min(len(plain), random.choice((1, 1, 2))))
    )
    return replace(question, earlier=(*turns, *question.earlier))


def _glimpses(
    scene: Scene, asked: Sequence[Question], random: Random, clock: Clock, count: int
) -> list[Question]:
    """Up to ``count`` exercises: what a moment shows, which moment shows something, and further
    questions for a time."""
    looks = [*islice(glimpses(scene, random, clock), count)]
    looks += islice(findings(scene, random, clock), count)
    looks += [question for question in asked if question.type == "time"]
    return random.sample(looks, min(count, len(looks)))
