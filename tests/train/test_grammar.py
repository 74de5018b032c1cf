"""The grammar of nano's training questions, its yes-no facts, and the looks of its drawings."""

import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from support import tinymodels

from smolvideo.errors import UsageError
from smolvideo.models import open_checkpoint
from smolvideo.train.nano import Trainer, train_nano
from smolvideo.train.nano_config import NANO
from smolvideo.train.question_batches import make_video_batch
from smolvideo.train.schedule import LATE_MIX, TrainOptions
from smolvideo.train.world.abstention import ABSTENTION
from smolvideo.train.world.grammar import Grammar, load_grammar, mistype, plain_form
from smolvideo.train.world.looks import PLAIN, Look, sample_look
from smolvideo.train.world.question import TEMPLATES
from smolvideo.train.world.questions import FrameClock
from smolvideo.train.world.render import RGB, render_frame
from smolvideo.train.world.scene import COLOURS, SHAPES, Scene, SceneObject
from smolvideo.train.world.scene_sampler import sample_scene
from smolvideo.train.world.worded_questions import ask_in_words
from smolvideo.train.world.yes_no import ask_yes_no

CLOCK = FrameClock(tuple(moment / 9 for moment in range(10)), 18.0)
FIELDS = {"shape": "cross", "thing": "orange star", "other": "circle", "colour": "orange"}
FIELDS |= {"background": "grey", "count": "two", "place": "top left", "direction": "up"}
FIELDS |= {"size": "small", "text": "STOP"}


def test_every_intent_of_the_templates_is_in_the_grammar() -> None:
    assert set(TEMPLATES) <= set(load_grammar().intents)


@pytest.mark.parametrize("intent", sorted(load_grammar().intents))
def test_questions_are_whole_sentences_with_their_fields(intent: str) -> None:
    grammar, random = load_grammar(), Random(intent)
    needed = set(re.findall(r"{(\w+)}", grammar.intents[intent]["clauses"][0]))
    needed -= {"colour"} if intent == "when turns" else set()  # not in each of its forms
    for _ in range(60):
        text = grammar.ask(random, intent, **FIELDS)
        assert not set(text) & set("<>{}[]"), text
        assert "  " not in text
        assert not re.search(r"\s[?.,]|\ba orange", text), text
        for name in needed:
            assert FIELDS[name].split()[-1] in text.lower() + text, (name, text)


def test_reserved_sentences_are_never_generated() -> None:
    forms = {"questions": ("Is it {colour}?", "So, is it {colour}?"), "clauses": ("if so",)}
    forms["short"] = ("{colour}?",)
    frames = {"questions": ("{question}",), "clauses": ("Say {clause}.",)}
    grammar = Grammar({}, frames, {"x": forms}, {}, frozenset({plain_form("is it {colour}")}))
    asked = {plain_form(grammar.ask(Random(seed), "x", colour="red")) for seed in range(200)}
    assert "is it red" not in asked
    assert "so is it red" in asked


def test_no_question_of_the_exam_is_generated() -> None:
    grammar = replace(load_grammar(), typos=0.0)
    assert len(grammar.reserved) > 250
    random = Random(9)
    braced = {name: f"{{{name}}}" for name in FIELDS}
    asked = {
        plain_form(grammar.ask(random, intent, **braced))
        for intent in grammar.intents
        for _ in range(300)
    }
    asked |= {plain_form(grammar.ask_unanswerable(random)) for _ in range(2000)}
    assert not asked & grammar.reserved


def test_typing_errors_change_one_word_and_no_field() -> None:
    random = Random(4)
    for _ in range(200):
        text = mistype(random, "Which colour does the square have?", keep=["square"])
        before, after = ["Which", "colour", "does", "the", "square", "have?"], text.split()
        assert sum(one != other for one, other in zip(before, after, strict=True)) <= 1
        assert "square" in text
    assert mistype(random, "Is it red?") == "Is it red?"


def test_yes_no_facts_are_true_and_false_in_equal_parts() -> None:
    random, answers = Random(2), defaultdict[str, Counter[str]](Counter)

    def ask(asked: str, **filling: str) -> str:
        return f"{asked}|{filling}"

    for _ in range(1500):
        for question in ask_yes_no(sample_scene(random), random, ask):
            answers[question.text.partition("|")[0]][question.answer] += 1
    assert len(answers) == 16
    for intent, counts in answers.items():
        # What the scenes show decides these: most have one mover and no text.
        if intent not in ("anything moves", "any text", "moves", "still"):
            assert 0.42 < counts["yes"] / counts.total() < 0.58, (intent, counts)
    total = sum(answers.values(), Counter[str]())
    assert 0.45 < total["yes"] / total.total() < 0.55


def test_yes_no_answers_follow_from_the_scene() -> None:
    circle = SceneObject("circle", "red", 0.15, 0.2, 0.2, end_x=0.8, end_y=0.2)
    star = SceneObject("star", "blue", 0.5, 0.8, 0.1, end_x=0.5, end_y=0.8)
    scene = Scene("grey", (circle, star), aspect=1.0)
    facts = {
        "is colour": lambda f: (f["shape"], f["colour"]) in {("circle", "red"), ("star", "blue")},
        "is shape": lambda f: (f["shape"], f["colour"]) in {("circle", "red"), ("star", "blue")},
        "any colour": lambda f: f["colour"] in ("red", "blue"),
        "present": lambda f: f["thing"] in ("circle", "star", "red circle", "blue star"),
        "is background": lambda f: f["background"] == "grey",
        "is count": lambda f: f["count"] == "two",
        "is place": lambda f: f["place"] == "bottom",
        "is direction": lambda f: f["direction"] == "right",
        "is size": lambda f: f["size"] == ("large" if "circle" in f["thing"] else "small"),
        "any text": lambda f: False,
        "anything moves": lambda f: True,
        "moves": lambda f: f["shape"] == "circle",
        "still": lambda f: f["shape"] == "star",
    }
    seen, asked = set(), dict[str, tuple[str, dict[str, str]]]()

    def ask(intent: str, **fields: str) -> str:
        asked[name := f"{len(asked)}"] = intent, fields
        return name

    for seed in range(150):
        for question in ask_yes_no(scene, Random(seed), ask):
            intent, fields = asked[question.text]
            seen.add(intent)
            assert (question.answer == "yes") is facts[intent](fields), (intent, fields)
    assert seen == set(facts)


def test_absent_things_and_unanswerable_questions_get_honest_answers() -> None:
    random, types = Random(1), Counter[str]()
    for _ in range(300):
        scene = sample_scene(random)
        for question in ask_in_words(scene, random, CLOCK, load_grammar()):
            types[question.type] += 1
            if question.type == "absent":
                shape = question.answer.removeprefix("There is no ").rstrip(".")
                assert shape not in [thing.shape for thing in scene.things]
            elif question.type == "unanswerable":
                assert question.answer == ABSTENTION
            elif question.type == "list" and scene.things:
                assert all(thing.words in question.answer for thing in scene.things)
    assert types["unanswerable"] == 300
    assert 15 < types["absent"] < 80
    assert types["list"] > 100


def test_looks_keep_colours_and_places() -> None:
    """The middle of an object has the nearest of the six colours, whatever the look."""
    names = np.array([RGB[colour] for colour in COLOURS], np.float32)
    right = 0
    for seed in range(120):
        random = Random(seed)
        thing = SceneObject(random.choice(SHAPES), random.choice(COLOURS), 0.5, 0.5, 0.2, 0.5, 0.5)
        scene = Scene(random.choice(("white", "grey", "black", "brown")), (thing,), aspect=1.0)
        image = render_frame(scene, 0.0, 96, 96, sample_look(random, 1)).astype(np.float32)
        middle = image[46:50, 46:50].mean((0, 1))
        hue, hues = _chroma(middle), _chroma(names)
        right += COLOURS[int(np.abs(hues - hue).sum(-1).argmin())] == thing.colour
    assert right >= 117


def _chroma(rgb: np.ndarray) -> np.ndarray:
    return rgb / rgb.sum(-1, keepdims=True)


def test_plain_look_is_the_drawing_as_it_was() -> None:
    thing = SceneObject("square", "red", 0.5, 0.5, 0.2, 0.5, 0.5)
    scene = Scene("white", (thing,), aspect=1.0)
    image = render_frame(scene, 0.0, 64, 64)
    assert tuple(image[32, 32]) == RGB["red"]
    assert tuple(image[2, 2]) == RGB["white"]
    assert np.array_equal(image, render_frame(scene, 0.0, 64, 64, PLAIN))
    for changed in (
        replace(PLAIN, tilts=(15.0,)),
        replace(PLAIN, shadow=0.3),
        replace(PLAIN, outline=0.1),
        replace(PLAIN, gradient=20.0),
        replace(PLAIN, texture=4.0),
        replace(PLAIN, softness=1),
        replace(PLAIN, contrast=0.9),
        Look(shades=((5.0, 5.0, 5.0), (9.0, 0.0, 0.0))),
    ):
        assert not np.array_equal(image, render_frame(scene, 0.0, 64, 64, changed)), changed


def test_batches_hold_yes_no_questions_beside_the_others() -> None:
    tokenizer = open_checkpoint("nano").tokenizer
    batch = make_video_batch(
        Random(3), videos=4, frames=4, asking=LATE_MIX, network=NANO, tokenizer=tokenizer
    )
    types = Counter(question.type for row in batch.rows.questions for question in row)
    assert types["yes-no"] >= 6
    assert types["choice"] > 0


def test_a_start_that_is_no_nano_is_an_error_before_a_folder_is_made(tmp_path: Path) -> None:
    folder = tinymodels.make_tiny(tmp_path / "tiny")
    out = tmp_path / "out"
    for name, said in ((str(folder), "other shapes"), ("smolvlm2-256m", "--from smolvlm2-256m")):
        with pytest.raises(UsageError, match=said):
            train_nano(out, TrainOptions(start=name, processes=1), lambda _: None)
    assert not out.exists()


def test_training_begins_with_the_weights_of_a_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, TrainOptions(start="nano"), 0, 1, lambda _: None)
    assert trainer.course.stage == trainer.course.current_stage(trainer.options) == "answer"
    scores = trainer._evaluate(trainer.trainable.network, seed=4, videos=4)
    assert scores["all"] > 0.4  # a new network scores zero
    tower = trainer.optimizer.working_copy.network.model.vision_model
    assert all(parameter.requires_grad for parameter in tower.parameters())
