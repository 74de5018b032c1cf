"""Questions of the training in the words of the grammar: what is asked of a scene, what is not
there, and what no drawing answers."""

from collections.abc import Iterator
from functools import partial
from random import Random

from smolvideo.train.world.abstention import ABSTENTION
from smolvideo.train.world.grammar import Grammar
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import FrameClock, ask_about, with_article
from smolvideo.train.world.scene import SHAPES, Scene
from smolvideo.train.world.yes_no import ask_yes_no

ABSENT_PROBABILITY = 0.15
"""Of a scene: a question about a shape that is not in it."""
ABSENT_INTENTS = ("colour", "size", "place", "motion")


def ask_in_words(
    scene: Scene, random: Random, clock: FrameClock | None, grammar: Grammar
) -> list[Question]:
    """Return questions of every type that fits the scene, in the words of ``grammar``.

    Beside those of ``ask_about``: every yes-no fact, the list of things, what is absent (its answer
    says so), and one question that no drawing answers.
    """
    ask = partial(grammar.ask, random)
    questions = ask_about(scene, random, clock, ask=ask)
    questions += ask_yes_no(scene, random, ask)
    questions += _listed(scene, random, grammar)
    if random.random() < ABSENT_PROBABILITY:
        questions += _absent(scene, random, grammar)
    questions.append(Question("unanswerable", grammar.ask_unanswerable(random), ABSTENTION))
    return questions


def _listed(scene: Scene, random: Random, grammar: Grammar) -> Iterator[Question]:
    if scene.in_sequence or scene.event is not None:
        return
    things = sorted(thing.words for thing in scene.things)
    listed = " and ".join(with_article(words) for words in things) or "nothing"
    yield Question("list", grammar.ask(random, "list"), listed)


def _absent(scene: Scene, random: Random, grammar: Grammar) -> Iterator[Question]:
    shapes = [shape for shape in SHAPES if all(shape != thing.shape for thing in scene.things)]
    shape, intent = random.choice(shapes), random.choice(ABSENT_INTENTS)
    text = grammar.ask(random, intent, shape=shape, thing=shape)
    yield Question("absent", text, f"There is no {shape}.")
