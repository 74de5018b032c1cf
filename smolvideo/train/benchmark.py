"""A small multiple-choice benchmark in CinePile's schema, over generated videos.

Every scene is held out of training, like the scenes of the samples. In the hard split the wrong
options come, as far as possible, from things that the same video shows.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from smolvideo.train.world.multiple_choice import options_for
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import ask_about, describe
from smolvideo.train.world.scene import Scene
from smolvideo.train.world.scene_sampler import sample_scene
from smolvideo.train.world.video import EncodingOptions, write_video

VIDEOS = 28
SEED = 2

CATEGORY_OF = {
    "colour": "Character and\nRelationship Dynamics",
    "shape": "Character and\nRelationship Dynamics",
    "describe": "Narrative and\nPlot Analysis",
    "background": "Setting and\nTechnical Analysis",
    "count": "Setting and\nTechnical Analysis",
    "order": "Temporal",
    "direction": "Temporal",
    "motion": "Temporal",
    "place": "Setting and\nTechnical Analysis",
    "text": "Narrative and\nPlot Analysis",
    "mover": "Theme Exploration",
}
"""CinePile's category for each type of question; the line breaks are CinePile's."""

_SUBTITLES = (
    ("Look at this.", "Somebody has thought about it."),
    ("It was quiet that day.", "Then it began."),
    ("I have seen this before.", "No, never like this."),
    ("Wait for it.", "There it is."),
    ("Nobody said a word.", "What would there be to say?"),
)
"""Dialogue that fits any video: the answers are in the images alone."""


@dataclass(frozen=True)
class DrawnClip:
    """One video of the benchmark."""

    video_id: str
    scene: Scene
    film: EncodingOptions


def drawn_clips() -> list[DrawnClip]:
    """Sample the videos from a seed of their own; no two show the same scene."""
    random, seen, clips = Random(SEED), set[str](), list[DrawnClip]()
    while len(clips) < VIDEOS:
        scene = sample_scene(random, side="fresh")
        if scene.scene_key() in seen:
            continue
        seen.add(scene.scene_key())
        height = 144
        width = 2 * round(height * scene.aspect / 2)
        if scene.aspect < 1:
            width, height = 144, 2 * round(144 / scene.aspect / 2)
        film = EncodingOptions(width, height, fps=12, seconds=random.choice((4.0, 5.0, 6.0)))
        clips.append(DrawnClip(f"drawn{len(clips):03d}", scene, film))
    return clips


def write_benchmark(folder: Path) -> None:
    """Write ``cinepile.json`` and its videos into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for clip in drawn_clips():
        write_video(clip.scene, clip.film, folder / f"{clip.video_id}.mp4")
        rows += clip_rows(clip)
    lines = ",\n".join(json.dumps(row) for row in rows)
    (folder / "cinepile.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")


def clip_rows(clip: DrawnClip) -> list[dict[str, Any]]:
    """Return the rows about one video, with the columns of CinePile 3.0."""
    random = Random(f"{SEED}/{clip.video_id}")
    subtitles = random.choice(_SUBTITLES)
    return [
        _row(clip, question, subtitles, random)
        for question in _once_each(ask_about(clip.scene, random))
        if question.type in CATEGORY_OF
    ]


def _once_each(questions: Sequence[Question]) -> Iterator[Question]:
    """Drop questions with a repeated text: an order's two colours can be asked twice."""
    seen: set[str] = set()
    for question in questions:
        if question.text not in seen:
            seen.add(question.text)
            yield question


def _row(
    clip: DrawnClip, question: Question, subtitles: Sequence[str], random: Random
) -> dict[str, Any]:
    hard = random.random() < 0.5
    choices = options_for(question, clip.scene, random, hard=hard)
    position = choices.index(question.answer)
    return {
        "movie_name": f"Drawn World {clip.video_id}",
        "year": 2026,
        "genre": ["Animation"],
        "yt_clip_title": clip.video_id,
        # A reserved host that never resolves: the videos are next to this file.
        "yt_clip_link": f"https://drawn.invalid/watch?v={clip.video_id}",
        "movie_scene": describe(clip.scene),
        "subtitles": "\n".join(f"<subtitle> {line}" for line in subtitles),
        "question": question.text,
        "choices": choices,
        "answer_key": question.answer,
        "answer_key_position": position,
        "question_category": CATEGORY_OF[question.type],
        "hard_split": str(hard),
        "visual_reliance": "True",
        "videoID": clip.video_id,
    }
