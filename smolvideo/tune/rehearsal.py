"""Rehearsal: what the model can do already, mixed into each batch against forgetting.

``self``   answers of the untuned model itself to general questions about the same clips, for the
           published checkpoints, whose training data is not at hand
``world``  nano's own drawn world: all kinds of questions, with options, too
a file     lines like those of the data

Neither held-out loss nor exact match of the tuned task shows what a model forgets: a tenth of the
rehearsal is held out as well and scored by kind.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from torch import Tensor

from smolvideo.engines import GenerationOptions, NativeEngine
from smolvideo.errors import SmolVideoError, UsageError
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import pack_prompt
from smolvideo.train.question_batches import make_video_batch
from smolvideo.train.schedule import CHOICE_FORMS, QuestionMix
from smolvideo.train.world.scene_sampler import Split
from smolvideo.tune.items import Items, TuneItem, read_items, split_items
from smolvideo.tune.lines import DataLine, Fault
from smolvideo.tune.options import NamedModel
from smolvideo.tune.samples import IGNORED, Role, SampleWriter, media_of, messages_of

SELF, WORLD = "self", "world"
HELD_OUT = 0.1

GENERAL_QUESTIONS = (
    "Describe what you see.",
    "What is in the background?",
    "What happens?",
    "How many people are there?",
    "What colours stand out?",
    "Is there any text?",
)
MAX_CLIPS = 200
"""Clips that ``self`` asks about."""
QUESTIONS_PER_CLIP = 3
MAX_ANSWER_TOKENS = 96

WORLD_VIDEOS = 240
WORLD_HELD_OUT_VIDEOS = 32
VIDEOS_PER_BATCH = 4
WORLD_FRAMES = (1, 4, 6, 8, 10, 12, 16)
WORLD_MIX = QuestionMix(
    questions=12,
    choices=3,
    hard_type_probability=0.4,
    single_frame_questions=2,
    follow_up_probability=0.15,
)


@dataclass(frozen=True)
class Rehearsal:
    """What ``--rehearse`` names: ``self``, ``world`` or a file that was read already."""

    choice: str
    items: Items | None = None

    @property
    def facts(self) -> str:
        """Part of the fingerprint of a run."""
        return self.choice if self.items is None else self.items.sha256


def open_rehearsal(
    choice: str | None, checkpoint: NamedModel, *, media: Path | None, allow_outside: bool
) -> Rehearsal | None:
    """Read what ``choice`` names; None for none. Raises UsageError and RecordError."""
    if choice is None or choice == "none":
        return None
    if choice == WORLD and not checkpoint.is_nano:
        raise UsageError(
            f"the drawn world is what nano learned, and not `{checkpoint.name}`",
            hint="`--rehearse self` takes the model's own answers about the same clips",
        )
    if choice in (SELF, WORLD):
        return Rehearsal(choice)
    return Rehearsal(choice, read_items(Path(choice), media=media, allow_outside=allow_outside))


def add_rehearsal(
    rehearsal: Rehearsal,
    writer: SampleWriter,
    engine: NativeEngine,
    train: Sequence[TuneItem],
    seed: int,
    *,
    max_frames: int,
    on_progress: OnProgress = no_progress,
) -> list[Fault]:
    """Add the samples of ``rehearsal``, a tenth of them held out by video; return the faults of
    lines that cannot be used."""
    held: Role = "rehearse_held_out"
    if rehearsal.choice == WORLD:
        _add_world(writer, engine, "rehearse", "trained", WORLD_VIDEOS, seed, on_progress)
        _add_world(writer, engine, held, "fresh", WORLD_HELD_OUT_VIDEOS, seed, on_progress)
        return []
    items: Sequence[TuneItem]
    if rehearsal.items is not None:
        items = rehearsal.items.items
    else:
        items = list(_own_answers(train, engine, max_frames, seed, on_progress))
    trained, kept_back = split_items(items, HELD_OUT, seed)
    faults = writer.add_items(trained, "rehearse", on_progress=on_progress)
    return faults + writer.add_items(kept_back, held, on_progress=on_progress)


def _own_answers(
    train: Sequence[TuneItem],
    engine: NativeEngine,
    max_frames: int,
    seed: int,
    on_progress: OnProgress,
) -> Iterator[TuneItem]:
    """Yield general questions about the training clips with the untuned model's greedy answers."""
    clips = {item.key: item for item in train if item.media}
    ranked = sorted(clips.values(), key=lambda item: _rank(seed, item))[:MAX_CLIPS]
    for done, item in enumerate(ranked):
        on_progress(Progress("generate", done, len(ranked), label=SELF))
        random = Random(f"{seed}/{item.key}")
        questions = random.sample(GENERAL_QUESTIONS, QUESTIONS_PER_CLIP)
        try:
            content, _ = media_of(item, engine.checkpoint, max_frames)
        except SmolVideoError:
            continue  # reported as a fault of the data
        asked = [
            replace(item, line=DataLine(item.line.number, (), question, "", kind=question))
            for question in questions
        ]
        prompts = [pack_prompt(messages_of(one, content), engine.checkpoint) for one in asked]
        answers = engine.answer_batch(prompts, GenerationOptions(max_new_tokens=MAX_ANSWER_TOKENS))
        for one, answer in zip(asked, answers, strict=True):
            # An answer that was cut off would teach to break off.
            if answer.text.strip() and answer.stop_reason == "end":
                yield replace(one, line=replace(one.line, answer=answer.text))


def _rank(seed: int, item: TuneItem) -> bytes:
    return hashlib.sha256(f"{seed}/rehearse/{item.key}".encode()).digest()


def _add_world(
    writer: SampleWriter,
    engine: NativeEngine,
    role: Role,
    side: Split,
    videos: int,
    seed: int,
    on_progress: OnProgress,
) -> None:
    """Add questions about scenes of nano's world, in the layout and with the questions that it
    was trained on."""
    for done in range(0, videos, VIDEOS_PER_BATCH):
        on_progress(Progress("encode", done, videos, label=WORLD))
        random = Random(f"{seed}/{role}/{done}")
        batch = make_video_batch(
            random,
            videos=min(VIDEOS_PER_BATCH, videos - done),
            frames=random.choice(WORLD_FRAMES),
            asking=replace(WORLD_MIX, prompt_name=random.choice(CHOICE_FORMS)),
            network=engine.network.config,
            tokenizer=engine.checkpoint.tokenizer,
            side=side,
        )
        images = (batch.pixels * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1)
        writer.add_packed(_unpacked(batch), np.ascontiguousarray(images.numpy()), role)


def _unpacked(
    batch: Any,
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], Sequence[int], str]]:
    """Yield each question of packed rows as a sample of its own, after the frames of its row."""
    rows = batch.rows
    for row, questions in enumerate(rows.questions):
        segments = rows.segment_ids[row]
        for number, question in enumerate(questions, start=1):
            mine = (segments == 0) | (segments == number)
            targets = _listed(rows.targets[row][mine])
            if any(target != IGNORED for target in targets):
                token_ids = _listed(rows.token_ids[row][mine])
                yield token_ids, targets, _listed(batch.frames[row]), question.type


def _listed(values: Tensor) -> tuple[int, ...]:
    return tuple(values.tolist())
