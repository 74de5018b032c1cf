"""The drawn world: rendered scenes, questions and answers agree."""

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
from support.project import ROOT

from smolvideo.evals.datasets.schemas.cinepile import cinepile_parts
from smolvideo.evals.item import LETTERS
from smolvideo.evals.protocol import format_question
from smolvideo.evals.protocol.lenient import lenient_choice
from smolvideo.evals.protocol.prompts import PromptName
from smolvideo.formatting import format_timestamp
from smolvideo.readers import open_video
from smolvideo.train.samples import SAMPLES, Sample, sample_questions, write_samples
from smolvideo.train.world.multiple_choice import OPTIONS, WITHOUT_CHOICE, options_for, with_options
from smolvideo.train.world.question import Question, fill_template, same_answer
from smolvideo.train.world.questions import (
    NAMES,
    FrameClock,
    ask_about,
    behaviour_phrase,
    describe,
    sample_by_type,
)
from smolvideo.train.world.render import (
    COLOUR_JITTER,
    RGB,
    EncodingOptions,
    caption_box,
    frame_times,
    render_frame,
    render_times,
    write_video,
)
from smolvideo.train.world.scene import PLACES, Caption, Scene, SceneObject
from smolvideo.train.world.scene_sampler import Split, sample_scene
from smolvideo.train.world.training_questions import (
    questions_at_time,
    questions_for_time,
    text_exercises,
)


def circle(**changes: float) -> SceneObject:
    return replace(SceneObject("circle", "red", 0.25, 0.5, 0.2, 0.75, 0.5), **changes)  # type: ignore[arg-type]


def test_rendered_centres_and_corner_have_the_scene_colours() -> None:
    random = Random(0)
    for _ in range(200):
        scene = sample_scene(random)
        image = render_frame(scene, share := random.random(), 160, 120)
        for thing in scene.things:
            if (centre := thing.centre_at(share)) is not None:
                x, y = int(centre[0] * 160), int(centre[1] * 120)
                colour = RGB[thing.colour_at(share)]
                assert np.abs(image[y, x].astype(int) - colour).max() <= COLOUR_JITTER + 1
        background = RGB[scene.background_at(share)]
        assert np.abs(image[0, 0].astype(int) - background).max() <= COLOUR_JITTER + 1


@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "star", "cross"])
def test_shapes_stay_within_their_radius(shape: str) -> None:
    thing = SceneObject(shape, "red", 0.5, 0.5, 0.2, 0.5, 0.5)
    image = render_frame(Scene("black", (thing,), aspect=1.0), 0.0, 200, 200).astype(int)
    red = np.argwhere(image[..., 0] > 120)
    assert len(red) > 500
    assert np.hypot(*(red - 100).T).max() <= 0.2 * 200 * 2**0.5


def test_motion_follows_its_direction() -> None:
    random = Random(1)
    seen: Counter[str] = Counter()
    while len(seen) < 4 or min(seen.values()) < 10:
        mover = sample_scene(random).moving_object
        if mover is None or mover.direction is None:
            continue
        seen[mover.direction] += 1
        (x0, y0), (x1, y1) = mover.centre_at(0.0) or (0, 0), mover.centre_at(1.0) or (0, 0)
        way = {"left": x0 - x1, "right": x1 - x0, "up": y0 - y1, "down": y1 - y0}[mover.direction]
        assert way >= 0.39


def test_objects_never_touch_or_leave_the_frame() -> None:
    random = Random(2)
    for _ in range(100):
        scene = sample_scene(random)
        for share in (0.0, 0.3, 0.7, 1.0):
            centres = [(t, c) for t in scene.things if (c := t.centre_at(share)) is not None]
            assert centres or scene.caption, "something is always on screen"
            for thing, (x, y) in centres:
                across = thing.radius / max(scene.aspect, 1.0)
                down = thing.radius * min(scene.aspect, 1.0)
                assert across < x < 1 - across
                assert down < y < 1 - down


def test_equal_frames_are_rendered_once() -> None:
    still = Scene("grey", (circle(end_x=0.25),), aspect=1.0)
    pictures, shown = render_times(still, [0.0, 0.5, 1.0], 32, 32)
    assert (len(pictures), shown) == (1, [0, 0, 0])
    moving = Scene("grey", (circle(),), aspect=1.0)
    pictures, shown = render_times(moving, [0.0, 0.5, 1.0], 32, 32)
    assert (len(pictures), shown) == (3, [0, 1, 2])
    assert np.array_equal(pictures[1], render_frame(moving, 0.5, 32, 32))


def test_answers_follow_from_the_scene() -> None:
    scene = Scene("white", (circle(), SceneObject("star", "blue", 0.8, 0.2, 0.15, 0.8, 0.2)), 1.0)
    answers: dict[str, set[str]] = {}
    for seed in range(60):
        for question in ask_about(scene, Random(seed)):
            answers.setdefault(question.type, set()).add(question.answer)
    assert answers == {
        "background": {"white"},
        "describe": {"A red circle moves right past a blue star on a white background."},
        "count": {"one", "two"},
        "colour": {"red", "blue"},
        "shape": {"circle", "star"},
        "size": {"small", "large"},
        "direction": {"right"},
        "motion": {"it moves right", "it stands still"},
        "mover": {"a red circle", "red", "circle"},
        "place": {"top right"},
        "subtitles": {"red", "blue", "circle", "star", "it moves right", "it stands still",
                      "top right"},
        "follow-up": {"it moves right", "it stands still", "large", "small", "right", "top right",
                      "red"},
        "yes-no": {"yes", "no"},
    }  # fmt: skip


CLOCK = FrameClock(tuple(place / 9 for place in range(10)), 18.0)


def test_every_question_has_one_answer() -> None:
    random = Random(3)
    for _ in range(300):
        scene = sample_scene(random)
        answer_of: dict[object, str] = {}
        for _ in range(4):
            for question in ask_about(scene, random, CLOCK):
                asked = (question.subtitles, question.history, question.text)
                assert answer_of.setdefault(asked, question.answer) == question.answer


@pytest.mark.parametrize(
    ("thing", "happens", "stamp"),
    [
        (circle(end_x=0.25, appears_at=0.5), "appears", "00:10"),
        (circle(end_x=0.25, disappears_at=0.23), "disappears", "00:06"),
        (SceneObject(**{**vars(circle(end_x=0.25)), "recolours_at": 0.7, "new_colour": "green"}),
         "turns", "00:14"),
    ],
)  # fmt: skip
def test_event_time_is_the_first_frame_that_shows_it(
    thing: SceneObject, happens: str, stamp: str
) -> None:
    scene = Scene("white", (thing, SceneObject("star", "blue", 0.8, 0.2, 0.2, 0.8, 0.2)), 1.0)
    assert scene.event is not None
    assert scene.event[0] == happens
    times = [q for q in ask_about(scene, Random(0), CLOCK) if q.type == "time"]
    assert {question.answer for question in times} == {stamp}
    assert not [q for q in ask_about(scene, Random(0)) if q.type == "time"]
    before, after = (render_frame(scene, share, 90, 60) for share in (0.0, 1.0))
    assert not np.array_equal(before, after)


def test_events_are_described() -> None:
    star = SceneObject("star", "blue", 0.8, 0.2, 0.2, 0.8, 0.2)
    still = circle(end_x=0.25)
    scene = Scene("white", (SceneObject(**{**vars(still), "appears_at": 0.5}), star), 1.0)
    assert describe(scene) == "A red circle appears beside a blue star on a white background."
    turning = SceneObject(**{**vars(still), "recolours_at": 0.5, "new_colour": "green"})
    scene = Scene("white", (turning, star), 1.0, caption=Caption("42", "black", 0.5, 0.8, 0.3))
    assert behaviour_phrase(scene, turning) == "it turns green"
    assert describe(scene) == (
        "A red circle turns green beside a blue star on a white background with the number 42."
    )
    assert describe(Scene("brown", (), 1.0, caption=Caption("STOP", "white", 0.5, 0.5, 0.3))) == (
        "The word STOP on a brown background."
    )


def test_written_text_is_rendered_on_free_background() -> None:
    random, numbers = Random(5), 0
    while numbers < 20:
        scene = sample_scene(random)
        if scene.caption is None:
            continue
        numbers += scene.caption.is_number
        left, top, right, bottom = caption_box(scene.caption, scene.aspect, 192, 160)
        drawn = render_frame(scene, 0.5, 192, 160)
        bare = render_frame(replace(scene, caption=None), 0.5, 192, 160)
        changed = (drawn != bare).any(axis=-1)
        assert changed[top:bottom, left:right].mean() > 0.15
        changed[top:bottom, left:right] = False
        assert not changed.any()
        # Only the background is around the letters.
        assert len(np.unique(bare[top:bottom, left:right].reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize(("x", "y", "place"), [(0.1, 0.1, "top left"), (0.5, 0.5, "middle"),
                                               (0.9, 0.5, "right"), (0.34, 0.5, None)])  # fmt: skip
def test_positions_are_the_nine_cells_of_the_frame(x: float, y: float, place: str | None) -> None:
    assert SceneObject("star", "red", x, y, 0.1, x, y).place == place
    assert SceneObject("star", "red", x, y, 0.1, x + 0.4, y).place is None
    assert len({place for row in PLACES for place in row}) == 9


def test_options_contain_the_answer_once() -> None:
    random, letters = Random(6), Counter[str]()
    for _ in range(150):
        scene = sample_scene(random)
        for question in ask_about(scene, random, CLOCK):
            if question.type in WITHOUT_CHOICE:
                continue
            options = options_for(question, scene, random, CLOCK, hard=random.random() < 0.5)
            assert len(set(options)) == OPTIONS == len(options)
            assert question.answer in options
            letters[with_options(question, scene, random, CLOCK, "official").answer] += 1
    assert set(letters) == set("ABCDE")
    assert max(letters.values()) < 0.25 * letters.total()


def test_answers_about_a_moment_follow_from_the_scene() -> None:
    random, answers = Random(10), Counter[str]()
    for _ in range(400):
        scene = sample_scene(random)
        for question in ask_about(scene, random, CLOCK):
            if question.type == "moment":
                answers[question.answer] += 1
                stamp = question.text.split()[-1].rstrip("?")
                share = next(s for s in CLOCK.shares if format_timestamp(s * 18) == stamp)
                shown = [t for t in scene.things if t.centre_at(share)]
                if question.answer.startswith("a"):
                    assert question.answer.endswith(shown[0].words)
                elif question.answer in ("yes", "no"):
                    named = question.text.split()[3]
                    assert (named in [t.shape for t in shown]) == (question.answer == "yes")
                else:
                    assert question.answer in [t.colour_at(share) for t in shown]
    assert answers["yes"] > 5 < answers["no"]
    assert len(answers) > 12


def test_text_exercises_contain_their_answer() -> None:
    random, stamps = Random(6), CLOCK.stamps()
    kinds = Counter[str]()
    for question in islice(text_exercises(random, CLOCK), 400):
        kinds[question.type] += 1
        text, answer = question.text, question.answer
        if question.type in ("letter", "stated", "option"):
            _holds_letters(question)
        elif question.type == "list":
            words, asked = text.removesuffix("?").split(". ")
            places = {"first": 0, "second": 1, "last": -1}
            if (name := asked.split()[-1]) in places and asked.startswith("What is"):
                assert words.split(", ")[places[name]] == answer
            else:
                way, named = asked.removeprefix("What comes ").split(" ", 1)
                pair = (named, answer) if way == "after" else (answer, named)
                assert ", ".join(pair) in words
        elif question.type == "repeat":
            assert text == f"Say {answer}"
        else:
            assert answer in stamps
    assert set(kinds) == {"letter", "stated", "option", "list", "repeat", "stamp"}
    assert all(question.type != "stamp" for question in islice(text_exercises(random, None), 100))


def _holds_letters(question: Question) -> None:
    """Check that answers repeat the question and quote the option of their letter."""
    first, *_ = turns = [*question.history, question]
    said, _, _ = first.text.partition("\nA. ")
    for turn in turns:
        asked = turn.text.partition("\nA. ")[0].split("\n")[-1]
        line, letter = turn.response.split("\nAnswer: ")
        words = line.removeprefix(f"{asked}\nThat is: ")
        assert f"\n{letter}. {words}\n" in first.text
        if question.type == "option":
            assert asked == f"What is option {letter}?"
        elif question.type == "stated":
            (name,) = set(NAMES) & set(re.findall(r"\w+", asked))
            assert f"{name} is {words}." in said
        else:
            assert words in asked


@pytest.mark.parametrize("form", ["official", "smolvlm", "lmms-eval"])
def test_option_exercises_come_in_every_form(form: PromptName) -> None:
    for question in islice(text_exercises(Random(1), None, form), 100):
        if question.options:
            listing = [*question.history, question][0].text
            made = format_question(form, "cinepile", "", question.options, None).text
            assert made.splitlines()[-1] in listing
            lines = [
                f"- {letter}) {option}\n"
                for letter, option in zip(LETTERS, question.options, strict=False)
            ]
            assert "".join(lines) in listing


def test_option_answers_are_question_words_and_letter() -> None:
    opened = Question("shape", "Which of A to B is it?", "a cross")
    options = ("a star", "a cross")
    chosen = Question("choice", f"{opened.text} ...", "B", options=options, open_form=opened)
    assert chosen.response == "Which of A to B is it?\nThat is: a cross\nAnswer: B"
    assert cinepile_parts(chosen.response) == ("B", "")
    assert lenient_choice(chosen.response, chosen.options) == (1, "letter")
    assert opened.response == "a cross"


def test_single_frame_answers_hold_for_all_frames_of_their_time() -> None:
    random, kinds = Random(6), Counter[str]()
    for _ in range(300):
        scene = sample_scene(random)
        asked = list(questions_at_time(scene, random, CLOCK))
        assert not asked or scene.moving_object or scene.event or scene.in_sequence
        for question in asked:
            text, stamp = question.text.removesuffix("?").rsplit(" at ", 1)
            kinds[" ".join(text.split()[:2])] += 1
            for share in CLOCK.shares:
                if format_timestamp(share * CLOCK.seconds) == stamp:
                    assert _glimpsed(scene, share, text) == question.answer
    assert set(kinds) == {"What is", "What do", "Where is", "What colour", "Is there"}


def test_time_answers_are_the_first_or_last_frames_of_their_statement() -> None:
    random, kinds = Random(7), Counter[str]()
    stamps = CLOCK.stamps()
    for _ in range(300):
        scene = sample_scene(random)
        for question in questions_for_time(scene, random, CLOCK):
            words = question.text.removeprefix("When ").removesuffix("?")
            statement = words.removesuffix(" first").removesuffix(" last")
            kinds[" ".join(statement.split()[:2]) + words.removeprefix(statement)] += 1
            shown = [_is_shown(scene, stamp, statement) for stamp in stamps]
            place = stamps.index(question.answer)
            assert shown[place]
            if not words.endswith(" last"):
                assert place == 0 or shown[place - 1] is False
            if not words.endswith(" first"):
                assert question.answer == stamps[-1] or shown[place + 1] is False
    starts = ("is the", "do you", "is there")
    assert set(kinds) >= {f"{start}{end}" for start in starts for end in (" first", " last")}


def _is_shown(scene: Scene, stamp: str, statement: str) -> bool:
    """Whether every frame of this time stamp shows the statement, computed from the scene."""
    shares = [s for s in CLOCK.shares if format_timestamp(s * CLOCK.seconds) == stamp]
    return all(_is_true(scene, share, statement) for share in shares)


def _is_true(scene: Scene, share: float, statement: str) -> bool:
    *_, last = words = statement.split()
    if statement.startswith("is the background"):
        return scene.background_at(share) == last
    shown = {thing.shape: thing for thing in scene.things if thing.centre_at(share)}
    if statement.startswith("is there"):
        return (last in shown) == ("no" not in words)
    if statement.startswith("do you see"):
        return last in shown and shown[last].colour == words[-2]
    thing = shown.get(words[2])
    if thing is None or "at" not in words:
        return thing is not None and thing.colour_at(share) == last
    x, y = thing.centre_at(share) or (0.0, 0.0)
    return PLACES[int(y * 3)][int(x * 3)] == statement.partition(" at ")[2]


def _glimpsed(scene: Scene, share: float, text: str) -> str:
    if text == "What is the background":
        return scene.background_at(share)
    shown = {thing.shape: thing for thing in scene.things if thing.centre_at(share)}
    if text == "What do you see":
        (thing,) = shown.values()
        return f"{'an' if thing.colour == 'orange' else 'a'} {thing.words}"
    shape = text.split()[-1]
    if text.startswith("Is there"):
        return "yes" if shape in shown else "no"
    if text.startswith("What colour"):
        return shown[shape].colour_at(share)
    x, y = shown[shape].centre_at(share) or (0.0, 0.0)
    return PLACES[int(y * 3)][int(x * 3)]


def test_sample_by_type_takes_every_type_before_repeating() -> None:
    random = Random(7)
    for _ in range(50):
        every = ask_about(sample_scene(random), random, CLOCK)
        types = {question.type for question in every}
        chosen = sample_by_type(random, every, len(types))
        assert {question.type for question in chosen} == types


def test_held_out_combinations_are_never_trained_on() -> None:
    random = Random(8)
    scenes: dict[Split, list[Scene]] = {
        side: [sample_scene(random, side=side) for _ in range(300)]
        for side in ("trained", "fresh", "novel")
    }
    signatures = {side: {scene.scene_key() for scene in drawn} for side, drawn in scenes.items()}
    assert not signatures["trained"] & (signatures["fresh"] | signatures["novel"])
    assert not any(scene.is_novel() for scene in scenes["trained"] + scenes["fresh"])
    assert all(scene.is_novel() for scene in scenes["novel"])


def test_some_wordings_are_reserved_for_the_exam() -> None:
    random = Random(9)
    trained = {fill_template(random, "background") for _ in range(2000)}
    examined = {fill_template(random, "background", novel=True) for _ in range(200)}
    assert not trained & examined
    assert all(text.endswith(("?", ".")) for text in trained | examined)


def test_descriptions_name_objects_in_order() -> None:
    first, then = (
        circle(end_x=0.25),
        SceneObject("star", "blue", 0.8, 0.2, 0.15, 0.8, 0.2, appears_at=0.5),
    )
    scene = Scene("grey", (SceneObject(**{**vars(first), "disappears_at": 0.5}), then), 1.0)
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
def test_encoded_video_equals_its_rendering(tmp_path: Path, rotation: int) -> None:
    scene = Scene("white", (circle(y=0.3, end_y=0.3),), aspect=9 / 16)
    film = EncodingOptions(144, 256, fps=10, seconds=1, rotation=rotation)
    write_video(scene, film, tmp_path / "film.mp4")
    with open_video(tmp_path / "film.mp4") as reader:
        (first,) = reader.frames_at([0.0])
    drawn = render_frame(scene, 0.0, 144, 256).astype(int)
    assert first.image.shape == drawn.shape
    assert np.abs(first.image.astype(int) - drawn).mean() < 4


def test_variable_frame_times_are_those_of_the_file(tmp_path: Path) -> None:
    film = EncodingOptions(64, 64, fps=10, seconds=2, variable_rate=True)
    write_video(Scene("white", (circle(),), aspect=1.0), film, tmp_path / "film.mp4")
    with open_video(tmp_path / "film.mp4") as reader:
        assert reader.frame_times() == pytest.approx(frame_times(film), abs=1e-3)


def test_sample_scenes_are_never_trained_on() -> None:
    samples = {sample.scene.scene_key() for sample in SAMPLES}
    assert all(sample.scene.held_out() for sample in SAMPLES)
    random = Random(4)
    trained = {sample_scene(random).scene_key() for _ in range(3000)}
    assert not trained & samples
    examined = [sample_scene(random, side="fresh") for _ in range(200)]
    assert all(scene.held_out() for scene in examined)


DRAWN_ANEW = ("circle_right", "three_still_portrait", "circle_turns_green", "square_then_circle")
"""The smallest samples; encoding a high-definition film takes ten seconds."""


def test_committed_samples_equal_the_output_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(scene: Scene, film: EncodingOptions, path: Path) -> None:
        if path.stem in DRAWN_ANEW:
            write_video(scene, film, path)

    monkeypatch.setattr("smolvideo.train.samples.write_video", few)
    monkeypatch.setattr("smolvideo.train.samples.write_benchmark", lambda _: None)
    write_samples(tmp_path)
    for name in (f"{name}.mp4" for name in DRAWN_ANEW):
        with open_video(ROOT / "samples" / name) as old, open_video(tmp_path / name) as new:
            assert old.frame_times() == new.frame_times()
            assert old.metadata.comment == new.metadata.comment
            assert new.metadata.is_synthetic
            middle = [old.metadata.duration_seconds / 2]
            (before,), (after,) = old.frames_at(middle), new.frames_at(middle)
            # Not byte by byte: encoders round differently on other processors.
            assert np.abs(before.image.astype(int) - after.image).mean() <= 0.5
    for name in ("questions.jsonl", "triangle_then_cross_subtitled.srt"):
        assert (ROOT / "samples" / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_committed_samples_show_their_scenes(sample: Sample) -> None:
    times = frame_times(sample.encoding)
    chosen = sorted({0, len(times) // 3, len(times) // 2, len(times) - 1})
    with open_video(ROOT / "samples" / f"{sample.name}.mp4") as reader:
        assert reader.frame_times() == pytest.approx(times, abs=1e-3)
        shown = list(reader.frames_at([reader.frame_times()[place] for place in chosen]))
    for place, frame in zip(chosen, shown, strict=True):
        height, width = frame.image.shape[:2]
        assert (width, height) == (sample.encoding.width, sample.encoding.height)
        drawn = render_frame(sample.scene, times[place] / sample.encoding.seconds, width, height)
        apart = np.abs(drawn.astype(int) - frame.image)
        # Encoding error: small on average, large only at some edge pixels.
        assert apart.mean() < 1.6
        assert (apart.max(axis=2) > 60).mean() < 0.004


def test_samples_have_many_and_mostly_open_questions() -> None:
    lines = (ROOT / "samples" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    types = Counter(json.loads(line)["type"] for line in lines)
    assert sum(types.values()) - types["yes-no"] >= 60
    assert types["yes-no"] <= len(lines) / 4
    assert len(lines) == sum(len(sample_questions(sample)) for sample in SAMPLES)
