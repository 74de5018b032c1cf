"""New wordings of the exam, its unanswerable questions, and its second renderer."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from string import Formatter

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvideo.train.exam.run import is_correct
from smolvideo.train.exam.second_renderer import CODECS, SHADES, Codec, Drawing, sample_style
from smolvideo.train.exam.statements import STATEMENTS
from smolvideo.train.exam.unanswerable import NEGATIONS, ask_unanswerable, load_unanswerable
from smolvideo.train.exam.wordings import FACTS, ask_in_new_wordings, load_wordings
from smolvideo.train.world.abstention import ABSTENTION
from smolvideo.train.world.question import POLITE_PREFIXES, TEMPLATES, Question, same_answer
from smolvideo.train.world.questions import FrameClock, ask_about
from smolvideo.train.world.render import RGB
from smolvideo.train.world.scene import SMALL_MAX_RADIUS, WORDS, Scene
from smolvideo.train.world.scene_sampler import sample_scene

CLOCK = FrameClock(tuple(place / 11 for place in range(12)), 24.0)


def scene_of(seed: int) -> Scene:
    return sample_scene(Random(seed), side="novel" if seed % 2 else "fresh")


def bare(text: str) -> str:
    """The text without field names, case and marks."""
    names = {name for _, name, _, _ in Formatter().parse(text) if name}
    fields = {name: "a {}" if name.startswith("a_") else "{}" for name in names}
    return text.format(**fields).lower().strip(" .?")


@cache
def asked() -> list[tuple[Scene, str, Question]]:
    """Questions in new wordings about 400 scenes."""
    scenes = [(scene_of(seed), Random(seed)) for seed in range(400)]
    return [
        (scene, intent, question)
        for scene, random in scenes
        for intent, question in ask_in_new_wordings(scene, random, CLOCK)
    ]


def test_new_wordings_are_many_and_not_those_of_training() -> None:
    wordings = load_wordings()
    texts = [bare(wording.text) for wording in wordings]
    assert len({wording.text.lower() for wording in wordings}) == len(wordings) >= 170
    assert sum(wording.yes_no for wording in wordings) >= 0.3 * len(wordings)
    trained = {
        bare(prefix + template)
        for templates in TEMPLATES.values()
        for template in templates
        for prefix in ("", *POLITE_PREFIXES)
    }
    assert trained.isdisjoint(texts)
    assert FACTS.keys() | STATEMENTS.keys() == {wording.intent for wording in wordings}
    assert {wording.intent for wording in wordings if wording.yes_no} == STATEMENTS.keys()


def test_yes_no_questions_are_balanced_and_every_intent_is_asked() -> None:
    answers = Counter(q.answer for _, _, q in asked() if q.type == "yes-no")
    assert answers.keys() == {"yes", "no"}
    assert abs(answers["yes"] - answers["no"]) < 0.06 * answers.total()
    intents = Counter(intent for _, intent, _ in asked())
    assert intents.keys() == FACTS.keys() | STATEMENTS.keys()
    for intent in STATEMENTS:
        truths = Counter(q.answer for _, name, q in asked() if name == intent)
        assert min(truths["yes"], truths["no"]) > 0.25 * truths.total(), intent


def test_open_answers_are_those_of_the_training_questions() -> None:
    """The same facts in other words: every answer is one that the templates ask for too."""
    compared = 0
    for scene, intent, question in asked():
        if question.type in ("yes-no", "time", "order", "motion"):
            continue
        known = [q for n in range(12) for q in ask_about(scene, Random(n), CLOCK)]
        answers = {q.answer for q in known if q.type == question.type}
        assert question.answer in answers, (intent, question)
        compared += 1
        if compared == 150:
            break
    assert compared == 150


def words_of(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def test_statements_are_true_or_false_as_answered() -> None:
    """Read off the question's own words, without the code that filled it."""
    checked: Counter[str] = Counter()
    for scene, intent, question in asked():
        words = words_of(question.text)
        by_shape = {thing.shape: thing for thing in scene.things}
        named = [by_shape[word] for word in words if word in by_shape]
        truth: bool | None = None
        if intent == "is colour":
            truth = named[0].colour in words
        elif intent == "is background":
            truth = scene.background in words
        elif intent == "any colour":
            truth = any({t.colour, t.new_colour} & {*words} for t in scene.things)
        elif intent in ("present", "is shape", "is first"):
            shown = scene.things[:1] if intent == "is first" else scene.things
            truth = any(t.colour in words and t.shape in words for t in shown)
        elif intent == "is direction":
            # `right` may be a word of another kind only in a question of another intent.
            truth = named[0].direction in words
        elif intent == "is text" and scene.caption is not None:
            truth = scene.caption.text.lower() in words
        elif intent == "is size":
            truth = named[0].size in words
        elif intent == "left of":
            truth = named[0].x < named[1].x
        elif intent == "above":
            truth = named[0].y < named[1].y
        elif intent == "moves":
            truth = named[0].direction is not None
        elif intent == "is place":
            place = named[0].place or "?"
            truth = f" {place} " in " ".join(words)
            if not truth:  # and not half right
                stated = {"left", "right", "top", "bottom"} & {*words}
                assert not stated & {*place.split()}, question
        if truth is not None:
            assert question.answer == ("yes" if truth else "no"), (scene, question)
            checked[intent] += 1
    assert len(checked) == 13
    assert min(checked.values()) > 10


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_any_scene_can_be_asked_about(seed: int) -> None:
    scene = scene_of(seed)
    found = list(ask_in_new_wordings(scene, Random(seed), CLOCK))
    assert found == list(ask_in_new_wordings(scene, Random(seed), CLOCK))
    assert len({intent for intent, _ in found}) == len(found) >= 5
    for _, question in found:
        assert not {"{", "}"} & {*question.text}
        assert "  " not in question.text
        assert is_correct(question, question.answer, duration=24.0, step=2.0)


def test_unanswerable_questions_are_right_if_refused_or_denied() -> None:
    every = load_unanswerable()
    texts = [text for kind in every.values() for text in kind]
    assert len({*texts}) == len(texts) >= 60
    # Captions show these words: such a question would have an answer.
    assert not [text for text in texts if {*words_of(text)} & {word.lower() for word in WORDS[2:]}]
    for seed in range(20):
        for question in ask_unanswerable(Random(seed)):
            for said, right in (
                (ABSTENTION, True),
                ("i only know drawn shapes", True),
                ("a red circle", False),
                ("yes", False),
                ("", False),
                *((word, question.type == "absent") for word in NEGATIONS),
            ):
                assert is_correct(question, said, duration=1.0, step=1.0) is right, said
    answers = ("yes", "no", "nothing", "none", "A red circle on a white background.")
    assert not [said for said in answers if same_answer(said, ABSTENTION)]


def nearest_colour(colour: tuple[int, int, int]) -> str:
    """Name of the nearest hue of training; greys by their light."""
    top, low = max(colour), min(colour)
    if top - low < 25:
        return "black" if top < 60 else "white" if low > 200 else "grey"
    hues = {name: _hue(RGB[name]) for name in ("red", "green", "blue", "yellow", "purple")}
    hue = _hue(colour)
    if 15 <= hue <= 42:  # one hue, two names: brown is dark orange
        return "brown" if top < 140 else "orange"
    return min(hues, key=lambda name: min(abs(hue - hues[name]), 360 - abs(hue - hues[name])))


def _hue(colour: tuple[int, int, int]) -> float:
    red, green, blue = (float(level) for level in colour)
    return float(np.degrees(np.arctan2(3**0.5 * (green - blue), 2 * red - green - blue)) % 360)


def test_shades_keep_their_names() -> None:
    assert SHADES.keys() == RGB.keys()
    for name, shades in SHADES.items():
        assert [nearest_colour(shade) for shade in shades] == [name] * len(shades)


def drawings() -> Iterator[tuple[Scene, Drawing]]:
    for seed in range(14):
        scene = scene_of(seed)
        yield scene, Drawing(scene, sample_style(Random(seed), scene, str(seed)))


def test_things_are_drawn_where_and_as_the_scene_says() -> None:
    seen = 0
    for scene, drawing in drawings():
        style = drawing.style
        for thing in scene.things:
            share = thing.appears_at
            centre = thing.centre_at(share)
            assert centre is not None
            picture = drawing.frame(share)
            assert picture.shape == (style.height, style.width, 3)
            x, y = int(centre[0] * style.width), int(centre[1] * style.height)
            shown = picture[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))
            wanted = np.array(style.shade(thing.colour))
            assert np.abs(shown - wanted).max() < 30, (thing, style)
            assert (style.radius(thing) < SMALL_MAX_RADIUS) == (thing.size == "small")
            seen += 1
    assert seen > 15
    # The same seed, the same picture.
    again, other = (dict(enumerate(drawings()))[4][1].frame(0.5) for _ in range(2))
    assert np.array_equal(again, other)


@pytest.mark.parametrize("codec", CODECS)
def test_drawings_are_encoded_by_every_codec(codec: Codec, tmp_path: Path) -> None:
    scene = scene_of(2)
    style = sample_style(Random(2), scene, "2")
    style = replace(style, codec=codec, fps=8, seconds=3.0)
    path = tmp_path / "redrawn.mp4"
    drawing = Drawing(scene, style)
    drawing.write(path)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert not container.metadata.get("comment")
    assert len(frames) == 24
    difference = np.abs(frames[0].astype(int) - drawing.frame(0.0)).mean()
    assert difference < 6
