"""Batches of questions about rendered videos and of text exercises, and the accuracy on them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from smolvideo.formatting import format_timestamp
from smolvideo.frames import Images, blank_images
from smolvideo.network import NetworkConfig, SmolVLM
from smolvideo.train.nano_config import special_id
from smolvideo.train.packing import (
    PackedBatch,
    collate,
    pack_questions,
    split_into_rows,
    text_prefix,
    video_prefix,
)
from smolvideo.train.schedule import CHOICE_FORMS, DRILLS_PER_ROW, QuestionMix
from smolvideo.train.vision_pretraining import add_codec_noise, normalize_images
from smolvideo.train.world.grammar import load_grammar
from smolvideo.train.world.looks import Look, sample_training_look
from smolvideo.train.world.multiple_choice import WITHOUT_CHOICE, with_options
from smolvideo.train.world.question import Question, informal
from smolvideo.train.world.questions import FrameClock, ask_about, sample_by_type
from smolvideo.train.world.render import render_times
from smolvideo.train.world.scene import Scene
from smolvideo.train.world.scene_sampler import Split, sample_scene
from smolvideo.train.world.training_questions import (
    questions_at_time,
    questions_for_time,
    text_exercises,
)
from smolvideo.train.world.worded_questions import ask_in_words

FOLLOW_UP_PROBABILITY = 0.3
"""Probability that a question with options follows the same question without: the answer is then
in the conversation, and only the options need to be matched."""
MIN_ROW_TOKENS = 160
"""Tokens of questions in a row; as many as its frames have, where these are more."""
GRAMMAR_PROBABILITY = 0.75
"""Probability that the questions about a video are in the words of the grammar; the others are the
sentences of ``question.TEMPLATES``."""
EVENT_PROBABILITY = 0.3
"""Probability that a video is sampled to have an event; other videos may have one, too."""
HARD_TYPES = ("describe", "direction", "moment", "motion", "mover", "order", "time")
"""The slowest types to learn: each needs several frames, or several facts together."""


@dataclass(frozen=True)
class VideoBatch:
    """Rendered videos of equally many frames with their questions.

    ``pixels`` ``[U, 3, S, S]``: each distinct image once; ``frames`` ``[B, F]`` indexes it, a row
    for each row of questions; a video may have several.
    """

    pixels: Tensor
    frames: Tensor
    rows: PackedBatch


@dataclass(frozen=True)
class _Video:
    """A scene, its sampled frames as shares of the duration, their clock, and how it is drawn; a
    single image has no clock."""

    scene: Scene
    shares: list[float]
    clock: FrameClock | None
    look: Look

    @property
    def stamps(self) -> list[str]:
        if self.clock is None:
            return []
        return [format_timestamp(share * self.clock.seconds) for share in self.shares]


def make_video_batch(
    random: Random,
    *,
    videos: int,
    frames: int,
    asking: QuestionMix,
    network: NetworkConfig,
    tokenizer: Tokenizer,
    side: Split = "trained",
    grey: bool = False,
) -> VideoBatch:
    """Render ``videos`` random videos of ``frames`` frames, with their questions.

    ``grey`` replaces every image by uniform grey, to measure what is answered without seeing.
    """
    noise = np.random.default_rng(random.getrandbits(32))
    size = network.vision.image_size
    pixels: list[Images] = []
    frame_rows, rows, asked = [], [], []
    for video in _videos(random, videos, frames, side):
        pictures, shown = render_times(video.scene, video.shares, size, size, video.look)
        spoilt = add_codec_noise(pictures, noise)
        places = np.array(shown) + sum(len(part) for part in pixels)
        pixels.append(blank_images(spoilt) if grey else spoilt)
        front = video_prefix(video.stamps, network.tokens_per_image, tokenizer, asking.instruction)
        limit = max(MIN_ROW_TOKENS, len(front.token_ids))
        for row in split_into_rows(
            front, _questions(video, random, asking), tokenizer, limit=limit
        ):
            frame_rows.append(places)
            asked.append(row)
            rows.append(pack_questions(front, row, tokenizer))
    return VideoBatch(
        pixels=normalize_images(np.concatenate(pixels)),
        frames=torch.from_numpy(np.stack(frame_rows)),
        rows=collate(rows, asked),
    )


def _videos(random: Random, count: int, frames: int, side: Split) -> Iterator[_Video]:
    for _ in range(count):
        shares = _moments(random, frames)
        scene = _shown_scene(random, shares, side)
        # Durations from three seconds to ten minutes, log-uniform.
        clock = FrameClock(tuple(shares), 3 * 200 ** random.random()) if frames > 1 else None
        yield _Video(scene, shares, clock, sample_training_look(random, len(scene.things)))


def _moments(random: Random, frames: int) -> list[float]:
    """Return evenly spaced shares of the duration, from the first frame to the last."""
    if frames == 1:
        return [random.random()]
    end = 1 - random.uniform(0, 0.5) / frames
    return [end * place / (frames - 1) for place in range(frames)]


def _shown_scene(random: Random, shares: list[float], side: Split) -> Scene:
    """Sample a scene of which every object is visible in at least one of the frames."""
    still = len(shares) == 1
    eventful = not still and random.random() < EVENT_PROBABILITY
    while True:
        scene = sample_scene(random, side=side, still=still)
        if eventful and not (scene.in_sequence or scene.event):
            continue
        if all(any(thing.centre_at(s) for s in shares) for thing in scene.things):
            return scene


def _questions(video: _Video, random: Random, asking: QuestionMix) -> list[Question]:
    """Choose questions of many types; ones with options sometimes follow the same one without."""
    scene, clock = video.scene, video.clock
    # Open questions, hard types first.
    in_words = random.random() < GRAMMAR_PROBABILITY
    every = (
        ask_in_words(scene, random, clock, load_grammar())
        if in_words
        else ask_about(scene, random, clock)
    )
    slow = [name for name in HARD_TYPES if random.random() < asking.hard_type_probability]
    opened = sample_by_type(
        random, every, asking.questions - asking.choices - asking.text_exercises, first=slow
    )
    # Yes-no questions about further facts.
    if in_words:
        facts = [one for one in every if one.type == "yes-no" and one not in opened]
        opened += random.sample(facts, min(asking.yes_no_questions, len(facts)))
    # Questions about one moment.
    if clock is not None:
        others = [question for question in every if question not in opened]
        opened += _single_frame_questions(
            scene, others, random, clock, asking.single_frame_questions
        )
    chosen = [informal(random, question) for question in opened]
    # Some of them continue a conversation.
    chosen = [
        _after_others(question, every, random)
        if asking.follow_up_probability and random.random() < asking.follow_up_probability
        else question
        for question in chosen
    ]
    # Questions with options.
    fit = [question for question in every if question.type not in WITHOUT_CHOICE]
    for question in sample_by_type(random, fit, asking.choices):
        choice = with_options(informal(random, question), scene, random, clock, asking.prompt_name)
        if random.random() < FOLLOW_UP_PROBABILITY:
            text = (
                question.text
                if question.subtitles is None
                else f"{question.subtitles}\n\n{question.text}"
            )
            choice = replace(choice, history=(Question(question.type, text, question.answer),))
        chosen.append(choice)
    return [
        *chosen,
        *islice(text_exercises(random, clock, asking.prompt_name), asking.text_exercises),
    ]


def _after_others(question: Question, others: Sequence[Question], random: Random) -> Question:
    """Put one or two other questions before this one as a conversation, related or not."""
    asked = question.text.lower().rstrip("?.")
    plain = [
        other
        for other in others
        if not (other.subtitles or other.history) and other.text.lower().rstrip("?.") != asked
    ]
    turns = tuple(
        informal(random, other)
        for other in random.sample(plain, min(len(plain), random.choice((1, 1, 2))))
    )
    return replace(question, history=(*turns, *question.history))


def _single_frame_questions(
    scene: Scene, asked: Sequence[Question], random: Random, clock: FrameClock, count: int
) -> list[Question]:
    """Up to ``count`` single-frame questions: what a moment shows, which moment shows something,
    and further questions for a time."""
    looks = [*islice(questions_at_time(scene, random, clock), count)]
    looks += islice(questions_for_time(scene, random, clock), count)
    looks += [question for question in asked if question.type == "time"]
    return random.sample(looks, min(count, len(looks)))


def make_text_batch(random: Random, rows: int, tokenizer: Tokenizer) -> PackedBatch:
    """Make ``rows`` rows of ``DRILLS_PER_ROW`` exercises each, without a video."""
    form = random.choice(CHOICE_FORMS)
    asked = [list(islice(text_exercises(random, None, form), DRILLS_PER_ROW)) for _ in range(rows)]
    front = text_prefix(tokenizer)
    return collate([pack_questions(front, row, tokenizer) for row in asked], asked)


ASKING = QuestionMix(questions=16, choices=3, prompt_name="official")
"""Questions about each video of an evaluation."""
VIDEOS_AT_A_TIME = 8
CHOICE_WEIGHT = 3
"""Weight of multiple choice in ``selection_score``; an open type has weight 1."""


def selection_score(scores: dict[str, float]) -> float:
    """Return the score by which checkpoints are selected: the mean over the types of question,
    however often each was asked, with weight ``CHOICE_WEIGHT`` for multiple choice."""
    weights = {name: CHOICE_WEIGHT if name == "choice" else 1 for name in scores if name != "all"}
    return sum(weights[name] * scores[name] for name in weights) / sum(weights.values())


@torch.no_grad()
def evaluate(
    model: SmolVLM,
    tokenizer: Tokenizer,
    *,
    seed: int,
    videos: int = 96,
    frame_counts: tuple[int, ...] = (6, 10, 16, 50),
    side: Split = "fresh",
    grey: bool = False,
) -> dict[str, float]:
    """Return exact-match accuracy per question type, and ``all``, over videos of one split.

    An answer counts if each of its tokens, the end included, is the argmax given the right tokens
    before it (teacher forcing): greedy decoding then generates exactly this answer.
    """
    random = Random(seed)
    each = max(1, videos // len(frame_counts))
    image_token_id = special_id(tokenizer, "<image>")
    dtype = next(model.parameters()).dtype
    tally = _Tally()
    for frames in frame_counts:
        for _ in range(max(1, each // VIDEOS_AT_A_TIME)):
            batch = make_video_batch(
                random,
                videos=min(each, VIDEOS_AT_A_TIME),
                frames=frames,
                asking=ASKING,
                network=model.config,
                tokenizer=tokenizer,
                side=side,
                grey=grey,
            )
            features = model.encode_images(batch.pixels.to(dtype))[batch.frames].flatten(0, 2)
            vectors = model.embed_inputs(batch.rows.token_ids, features, image_token_id)
            tally.count(batch.rows, _predicted(model, vectors, batch.rows))
    return tally.shares()


def _predicted(model: SmolVLM, vectors: Tensor, rows: PackedBatch) -> Tensor:
    """Argmax of the next token after every token: ``[B, L]``."""
    hidden = model.model.text_model(vectors, rows.positions, rows.mask(vectors.dtype))
    return model.lm_head(hidden).argmax(-1)


class _Tally:
    """Counts of questions and of right answers, by type."""

    def __init__(self) -> None:
        self._right: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    def count(self, rows: PackedBatch, predicted: Tensor) -> None:
        wrong = (predicted != rows.targets) & (rows.targets >= 0)
        for row, questions in enumerate(rows.questions):
            for number, question in enumerate(questions, start=1):
                missed = bool(wrong[row][rows.segment_ids[row] == number].any())
                for group in (question.type, "all"):
                    self._asked[group] += 1
                    self._right[group] += not missed

    def shares(self) -> dict[str, float]:
        return {group: self._right[group] / self._asked[group] for group in sorted(self._asked)}
