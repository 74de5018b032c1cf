"""The drawn world: what is drawn is what the questions are about."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from conftest import ROOT

from smolvideo.readers import open_video
from smolvideo.train.samples import SAMPLES, sample_questions, write_samples
from smolvideo.train.world.draw import RGB, TINT, draw_frame, draw_moments
from smolvideo.train.world.questions import ask_about, describe, same_answer
from smolvideo.train.world.scene import Scene, Thing, draw_scene
from smolvideo.train.world.video import Film, frame_times, write_video


def circle(**changes: float) -> Thing:
    places = {"x": 0.25, "y": 0.5, "radius": 0.2, "end_x": 0.75, "end_y": 0.5, **changes}
    return Thing("circle", "red", **places)


def test_the_centre_of_a_thing_has_its_colour_and_the_corner_the_background() -> None:
    random = Random(0)
    for _ in range(200):
        scene = draw_scene(random)
        image = draw_frame(scene, share := random.random(), 160, 120)
        for thing in scene.things:
            if (centre := thing.centre_at(share)) is not None:
                x, y = int(centre[0] * 160), int(centre[1] * 120)
                assert np.abs(image[y, x].astype(int) - RGB[thing.colour]).max() <= TINT + 1
        assert np.abs(image[0, 0].astype(int) - RGB[scene.background]).max() <= TINT + 1


@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "star", "cross"])
def test_a_shape_stays_within_its_radius(shape: str) -> None:
    thing = Thing(shape, "red", 0.5, 0.5, 0.2, 0.5, 0.5)
    image = draw_frame(Scene("black", (thing,), aspect=1.0), 0.0, 200, 200).astype(int)
    red = np.argwhere(image[..., 0] > 120)
    assert len(red) > 500
    assert np.hypot(*(red - 100).T).max() <= 0.2 * 200 * 2**0.5


def test_motion_goes_where_its_direction_says() -> None:
    random = Random(1)
    seen: Counter[str] = Counter()
    while len(seen) < 4 or min(seen.values()) < 10:
        mover = draw_scene(random).mover
        if mover is None or mover.direction is None:
            continue
        seen[mover.direction] += 1
        (x0, y0), (x1, y1) = mover.centre_at(0.0) or (0, 0), mover.centre_at(1.0) or (0, 0)
        way = {"left": x0 - x1, "right": x1 - x0, "up": y0 - y1, "down": y1 - y0}[mover.direction]
        assert way >= 0.39


def test_things_never_touch_and_never_leave_the_frame() -> None:
    random = Random(2)
    for _ in range(100):
        scene = draw_scene(random)
        for share in (0.0, 0.3, 0.7, 1.0):
            centres = [(t, c) for t in scene.things if (c := t.centre_at(share)) is not None]
            assert centres, "something is always on screen"
            for thing, (x, y) in centres:
                across = thing.radius / max(scene.aspect, 1.0)
                down = thing.radius * min(scene.aspect, 1.0)
                assert across < x < 1 - across
                assert down < y < 1 - down


def test_equal_moments_are_drawn_once() -> None:
    still = Scene("grey", (circle(end_x=0.25),), aspect=1.0)
    pictures, shown = draw_moments(still, [0.0, 0.5, 1.0], 32, 32)
    assert (len(pictures), shown) == (1, [0, 0, 0])
    moving = Scene("grey", (circle(),), aspect=1.0)
    pictures, shown = draw_moments(moving, [0.0, 0.5, 1.0], 32, 32)
    assert (len(pictures), shown) == (3, [0, 1, 2])
    assert np.array_equal(pictures[1], draw_frame(moving, 0.5, 32, 32))


def test_questions_follow_from_the_scene() -> None:
    scene = Scene("white", (circle(), Thing("star", "blue", 0.8, 0.2, 0.15, 0.8, 0.2)), 1.0)
    answers: dict[str, set[str]] = {}
    for seed in range(60):
        for question in ask_about(scene, Random(seed)):
            answers.setdefault(question.type, set()).add(question.answer)
    assert answers == {
        "background": {"white"},
        "describe": {"A red circle moves right past a blue star on a white background."},
        "count": {"two"},
        "colour": {"red", "blue"},
        "shape": {"circle", "star"},
        "direction": {"right"},
        "mover": {"a red circle", "red", "circle"},
        "yes-no": {"yes", "no"},
    }


def test_no_question_has_two_answers() -> None:
    random = Random(3)
    for _ in range(300):
        scene = draw_scene(random)
        answer_of: dict[str, str] = {}
        for _ in range(4):
            for question in ask_about(scene, random):
                assert answer_of.setdefault(question.text, question.answer) == question.answer


def test_order_is_described_in_order() -> None:
    first, then = circle(end_x=0.25), Thing("star", "blue", 0.8, 0.2, 0.15, 0.8, 0.2, enters=0.5)
    scene = Scene("grey", (Thing(**{**vars(first), "leaves": 0.5}), then), 1.0)
    assert describe(scene) == "First a red circle, then a blue star, on a grey background."


@pytest.mark.parametrize(
    ("given", "right", "same"),
    [
        ("red", "red", True),
        (" Red.", "red", True),
        ("a red circle", "red", False),
        ("", "no", False),
    ],
)
def test_same_answer(given: str, right: str, same: bool) -> None:
    assert same_answer(given, right) is same


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_video_is_shown_as_it_was_drawn(tmp_path: Path, rotation: int) -> None:
    scene = Scene("white", (circle(y=0.3, end_y=0.3),), aspect=9 / 16)
    film = Film(144, 256, fps=10, seconds=1, rotation=rotation)
    write_video(scene, film, tmp_path / "film.mp4")
    with open_video(tmp_path / "film.mp4") as reader:
        (first,) = reader.frames_at([0.0])
    drawn = draw_frame(scene, 0.0, 144, 256).astype(int)
    assert first.image.shape == drawn.shape
    assert np.abs(first.image.astype(int) - drawn).mean() < 4


def test_uneven_times_are_the_times_of_the_file(tmp_path: Path) -> None:
    film = Film(64, 64, fps=10, seconds=2, variable_rate=True)
    write_video(Scene("white", (circle(),), aspect=1.0), film, tmp_path / "film.mp4")
    with open_video(tmp_path / "film.mp4") as reader:
        assert reader.frame_times() == pytest.approx(frame_times(film), abs=1e-3)


def test_scenes_of_the_samples_are_never_trained_on() -> None:
    samples = {sample.scene.signature() for sample in SAMPLES}
    assert all(sample.scene.held_out() for sample in SAMPLES)
    random = Random(4)
    trained = {draw_scene(random).signature() for _ in range(3000)}
    assert not trained & samples
    examined = [draw_scene(random, held_out=True) for _ in range(200)]
    assert all(scene.held_out() for scene in examined)


def test_committed_samples_are_what_the_command_draws(tmp_path: Path) -> None:
    write_samples(tmp_path)
    for sample in SAMPLES:
        name = f"{sample.name}.mp4"
        with open_video(ROOT / "samples" / name) as old, open_video(tmp_path / name) as new:
            assert old.frame_times() == new.frame_times()
            middle = [old.metadata.duration_seconds / 2]
            (before,), (after,) = old.frames_at(middle), new.frames_at(middle)
            # Encoders round differently on other processors, so not byte by byte.
            assert np.abs(before.image.astype(int) - after.image).mean() <= 0.5
    for name in ("questions.jsonl", "triangle_then_cross_subtitled.srt"):
        assert (ROOT / "samples" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_sample_questions_are_many_and_mostly_open() -> None:
    lines = (ROOT / "samples" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    types = Counter(json.loads(line)["type"] for line in lines)
    assert sum(types.values()) - types["yes-no"] >= 60
    assert types["yes-no"] <= len(lines) / 4
    assert len(lines) == sum(len(sample_questions(sample)) for sample in SAMPLES)
