"""Sample files of the project: videos with questions, and a small benchmark of generated videos.

Every scene is held out of training (``Scene.held_out``), so right answers about them come from
perception, not from memory. ``smolvideo train samples DIR`` renders them all again. In the
hard split of the benchmark the wrong options come, as far as possible, from things that the same
video shows.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from smolvideo.train.world.multiple_choice import options_for
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import FrameClock, ask_about, describe
from smolvideo.train.world.render import EncodingOptions, frame_times, write_video
from smolvideo.train.world.scene import Caption, Scene, SceneObject
from smolvideo.train.world.scene_sampler import sample_scene

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


@dataclass(frozen=True)
class Sample:
    """One sample video and its optional subtitles (SubRip text)."""

    name: str
    scene: Scene
    encoding: EncodingOptions
    subtitles: str | None = None


def _still(shape: str, colour: str, x: float, y: float, radius: float) -> SceneObject:
    return SceneObject(shape, colour, x, y, radius, x, y)


def _first(thing: SceneObject, until: float) -> SceneObject:
    return replace(thing, disappears_at=until)


def _then(thing: SceneObject, since: float) -> SceneObject:
    return replace(thing, appears_at=since)


SAMPLES = (
    Sample(
        "circle_right",
        Scene(
            "brown",
            (SceneObject("circle", "purple", 0.18, 0.5, 0.20, end_x=0.82, end_y=0.5),),
            aspect=4 / 3,
        ),
        EncodingOptions(320, 240, fps=15, seconds=6),
    ),
    Sample(
        "cross_and_circle",
        Scene(
            "brown",
            (
                _still("cross", "green", 0.80, 0.31, 0.18),
                _still("circle", "yellow", 0.29, 0.50, 0.20),
            ),
            aspect=16 / 9,
        ),
        EncodingOptions(640, 360, fps=30, seconds=4),
    ),
    Sample(
        "triangle_down",
        Scene(
            "grey",
            (
                _still("square", "purple", 0.72, 0.77, 0.20),
                _still("star", "blue", 0.78, 0.22, 0.18),
                SceneObject("triangle", "orange", 0.22, 0.20, 0.17, end_x=0.22, end_y=0.76),
            ),
            aspect=1.0,
        ),
        EncodingOptions(480, 480, fps=24, seconds=8),
    ),
    Sample(
        "square_then_circle",
        Scene(
            "grey",
            (
                _first(_still("square", "purple", 0.58, 0.41, 0.18), until=0.45),
                _then(_still("circle", "orange", 0.42, 0.60, 0.20), since=0.45),
            ),
            aspect=16 / 9,
        ),
        EncodingOptions(426, 240, fps=25, seconds=10),
    ),
    Sample(
        "star_up_rotated",
        Scene(
            "black",
            (SceneObject("star", "red", 0.47, 0.86, 0.19, end_x=0.47, end_y=0.14),),
            aspect=9 / 16,
        ),
        EncodingOptions(360, 640, fps=30, seconds=5, rotation=90),
    ),
    Sample(
        "square_up_uneven_rate",
        Scene(
            "white",
            (
                _still("circle", "red", 0.78, 0.55, 0.18),
                SceneObject("square", "yellow", 0.34, 0.78, 0.18, end_x=0.34, end_y=0.24),
            ),
            aspect=4 / 3,
        ),
        EncodingOptions(640, 480, fps=20, seconds=7, variable_rate=True),
    ),
    Sample(
        "triangle_then_cross_subtitled",
        Scene(
            "black",
            (
                _first(_still("triangle", "green", 0.38, 0.68, 0.19), until=0.55),
                _then(_still("cross", "yellow", 0.70, 0.50, 0.19), since=0.55),
            ),
            aspect=16 / 9,
        ),
        EncodingOptions(1280, 720, fps=30, seconds=9),
        subtitles=(
            "1\n00:00:00,500 --> 00:00:04,500\nA triangle waits in the dark.\n\n"
            "2\n00:00:05,000 --> 00:00:08,500\n<i>Then a cross takes its turn.</i>\n"
        ),
    ),
    Sample(
        "three_still_portrait",
        Scene(
            "brown",
            (
                _still("cross", "blue", 0.30, 0.47, 0.18),
                _still("circle", "red", 0.72, 0.22, 0.18),
                _still("star", "green", 0.71, 0.76, 0.19),
            ),
            aspect=3 / 4,
        ),
        EncodingOptions(240, 320, fps=12, seconds=3),
    ),
    Sample(
        "circle_appears",
        Scene(
            "white",
            (
                _then(_still("circle", "red", 0.26, 0.55, 0.19), since=0.45),
                _still("square", "orange", 0.76, 0.30, 0.20),
            ),
            aspect=16 / 9,
        ),
        EncodingOptions(640, 360, fps=25, seconds=12),
    ),
    Sample(
        "circle_turns_green",
        Scene(
            "black",
            (
                replace(
                    _still("circle", "red", 0.30, 0.62, 0.21), recolours_at=0.55, new_colour="green"
                ),
                _still("cross", "blue", 0.76, 0.24, 0.13),
            ),
            aspect=4 / 3,
        ),
        EncodingOptions(320, 240, fps=15, seconds=8),
    ),
    Sample(
        "number_42",
        Scene(
            "black",
            (SceneObject("square", "red", 0.82, 0.26, 0.18, end_x=0.18, end_y=0.26),),
            aspect=4 / 3,
            caption=Caption("42", "white", 0.52, 0.74, 0.34),
        ),
        EncodingOptions(480, 360, fps=24, seconds=6),
    ),
    Sample(
        "three_shots",
        Scene(
            "white",
            (
                _first(_still("circle", "red", 0.25, 0.50, 0.20), until=0.30),
                _first(_then(_still("star", "blue", 0.72, 0.28, 0.19), since=0.30), until=0.65),
                _then(_still("cross", "green", 0.50, 0.76, 0.18), since=0.65),
            ),
            aspect=16 / 9,
            cuts=((0.30, "black"), (0.65, "brown")),
        ),
        EncodingOptions(426, 240, fps=25, seconds=12),
    ),
)

QUESTION_SEED = 7


def sample_questions(sample: Sample) -> list[Question]:
    """Return the questions about a sample; the wordings are the same every time."""
    seconds = sample.encoding.seconds
    clock = FrameClock(tuple(time / seconds for time in frame_times(sample.encoding)), seconds)
    random = Random(f"{QUESTION_SEED}/{sample.name}")
    # The lines of questions.jsonl have no fields for subtitles and earlier turns.
    return [q for q in ask_about(sample.scene, random, clock) if not (q.subtitles or q.history)]


def write_samples(folder: Path) -> None:
    """Write every sample with its subtitles, and ``questions.jsonl``, into ``folder``.

    The multiple-choice benchmark goes into the subfolder ``benchmark``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for sample in SAMPLES:
        video = folder / f"{sample.name}.mp4"
        write_video(sample.scene, sample.encoding, video)
        if sample.subtitles is not None:
            video.with_suffix(".srt").write_text(sample.subtitles, encoding="utf-8", newline="\n")
        for question in sample_questions(sample):
            asked = {"video": video.name, "type": question.type}
            line = {**asked, "question": question.text, "answer": question.answer}
            lines.append(json.dumps(line) + "\n")
    (folder / "questions.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    write_benchmark(folder / "benchmark")
