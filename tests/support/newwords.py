"""Clips of a world that has a shape and a colour nano was never trained on: diamonds, and pink."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np

from smolvideo.train.world import scene_sampler
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import ask_about
from smolvideo.train.world.render import CORNERS, RGB, EncodingOptions, write_video
from smolvideo.train.world.scene import COLOURS, SHAPES, Scene
from smolvideo.train.world.scene_sampler import sample_scene

SHAPE, COLOUR = "diamond", "pink"
NEW = (SHAPE, COLOUR)
_CORNERS = np.array([(0, -1), (0.7, 0), (0, 1), (-0.7, 0)], np.float32)
_RGB = (250, 150, 190)


@contextmanager
def new_world() -> Iterator[None]:
    """Context in which scenes with the new words can be rendered."""
    with mock.patch.dict(CORNERS, {SHAPE: _CORNERS}), mock.patch.dict(RGB, {COLOUR: _RGB}):
        yield


def sample_new_scene(random: Random) -> Scene:
    """A scene with at least one object that is a diamond or pink."""
    with (
        mock.patch.object(scene_sampler, "SHAPES", (*SHAPES, SHAPE, SHAPE)),
        mock.patch.object(scene_sampler, "COLOURS", (*COLOURS, COLOUR, COLOUR)),
    ):
        while True:
            scene = sample_scene(random, side="trained")
            looks = {(thing.shape, thing.colour) for thing in scene.things}
            said = [word for look in looks for word in look]
            if any(word in NEW for word in said) and len(set(said)) == len(said):
                return scene


def questions_about(scene: Scene, random: Random, count: int) -> list[Question]:
    """Up to ``count`` questions, those with a new word in the answer first."""
    every = [one for one in ask_about(scene, random) if not (one.subtitles or one.history)]
    random.shuffle(every)
    unique = {one.text: one for one in every}
    ordered = sorted(unique.values(), key=lambda one: not any(word in one.answer for word in NEW))
    return ordered[:count]


def write_clips(
    folder: Path, *, clips: int, seed: int = 0, questions: int = 4, size: int = 96
) -> Path:
    """Render ``clips`` videos and write their questions to ``data.jsonl``; return that file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = list(_lines(folder, clips, seed, questions, size))
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def _lines(
    folder: Path, clips: int, seed: int, questions: int, size: int
) -> Iterator[dict[str, str]]:
    with new_world():
        for number in range(clips):
            random = Random(f"{seed}/{number}")
            scene = sample_new_scene(random)
            name = f"clip{number:03d}.mp4"
            width = 2 * round(size * scene.aspect / 2)
            write_video(scene, EncodingOptions(width, size, fps=6, seconds=3.0), folder / name)
            for question in questions_about(scene, random, questions):
                is_new = any(word in question.answer for word in NEW)
                yield {
                    "video": name,
                    "question": question.text,
                    "answer": question.answer,
                    "kind": "new" if is_new else "old",
                }


def write_pairs(folder: Path, *, clips: int, seed: int = 0, size: int = 96) -> Path:
    """Render clips of nano's own world, with pairs that prefer an answer in one word."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(clips):
        random = Random(f"pairs/{seed}/{number}")
        scene = sample_scene(random, side="trained")
        name = f"clip{number:03d}.mp4"
        width = 2 * round(size * scene.aspect / 2)
        write_video(scene, EncodingOptions(width, size, fps=6, seconds=3.0), folder / name)
        asked = {one.text: one for one in ask_about(scene, random)}
        for question in asked.values():
            answer = question.answer.split()
            plain = not (question.subtitles or question.history)
            if plain and len(answer) == 3 and answer[0] == "a":  # a red circle
                lines.append(
                    {
                        "video": name,
                        "question": question.text,
                        "chosen": answer[-1],
                        "rejected": question.answer,
                    }
                )
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file
