"""What can be asked about a scene, in several wordings, and the right answers.

Every answer follows from the scene alone. Nothing is asked that its pictures do not show, so a
model that answers without them can only guess.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from smolvideo.train.world.scene import BACKGROUNDS, COLOURS, SHAPES, Scene, Thing, draw_scene

NUMBERS = ("no", "one", "two", "three")

COUNT_WORDINGS = (
    "How many things are there?",
    "How many objects are there?",
    "How many shapes are in the video?",
    "How many things can you see?",
    "Count the objects.",
)
BACKGROUND_WORDINGS = (
    "What colour is the background?",
    "What is the colour of the background?",
    "What color is the background?",
    "Which colour is behind everything?",
)
COLOUR_WORDINGS = (
    "What colour is the {shape}?",
    "What color is the {shape}?",
    "Which colour does the {shape} have?",
    "What is the colour of the {shape}?",
)
SHAPE_WORDINGS = (
    "What shape is the {colour} thing?",
    "What shape is the {colour} object?",
    "Which shape is {colour}?",
    "What is the {colour} thing?",
)
ONLY_SHAPE_WORDINGS = (
    "What shape is in the video?",
    "Which shape do you see?",
    "What shape is shown?",
)
ONLY_COLOUR_WORDINGS = (
    "What colour is the shape?",
    "What colour is the object?",
    "What color is the thing in the video?",
)
DIRECTION_WORDINGS = (
    "Which way does the {thing} move?",
    "In which direction does the {thing} move?",
    "Where does the {thing} go?",
    "Where is the {thing} moving?",
)
MOVER_WORDINGS = (
    "What moves?",
    "Which thing moves?",
    "What is moving in the video?",
    "What moves in this video?",
)
MOVER_COLOUR_WORDINGS = (
    "What colour is the moving thing?",
    "Which colour moves?",
    "What color is the thing that moves?",
)
MOVER_SHAPE_WORDINGS = (
    "Which shape moves?",
    "What shape is the moving thing?",
    "What shape moves?",
)
FIRST_WORDINGS = (
    "What comes first?",
    "What is shown first?",
    "What appears first?",
    "What do you see first?",
)
LAST_WORDINGS = (
    "What comes last?",
    "What is shown last?",
    "What comes second?",
    "What do you see at the end?",
)
AFTER_WORDINGS = (
    "What comes after the {thing}?",
    "What follows the {thing}?",
    "What is shown after the {thing}?",
)
DESCRIBE_WORDINGS = (
    "What is in this video?",
    "Describe the video.",
    "Describe this video.",
    "What happens in the video?",
    "What can you see?",
    "Summarise the video.",
    "What do you see in this video?",
)
PRESENT_WORDINGS = (
    "Is there a {thing}?",
    "Is there a {thing} in the video?",
    "Can you see a {thing}?",
    "Does the video show a {thing}?",
)
MOVING_WORDINGS = (
    "Does anything move?",
    "Is anything moving?",
    "Does the {shape} move?",
    "Is the {shape} moving?",
)


@dataclass(frozen=True)
class Question:
    """A question with its one right answer; ``type`` groups the scores."""

    type: str
    text: str
    answer: str


def ask_about(scene: Scene, random: Random) -> list[Question]:
    """One question of every type that this scene can be asked, each in a random wording."""
    questions = [*_background(scene, random), *_descriptions(scene, random)]
    if scene.in_sequence:
        questions += _order(scene, random)
    else:
        questions += [*_count(scene, random), *_looks(scene, random), *_motion(scene, random)]
    return [*questions, *_present(scene, random), *_moving(scene, random)]


def carelessly(random: Random, question: Question) -> Question:
    """Now and then the same question as people type it: without a capital, without its mark."""
    if random.random() < 0.8:
        return question
    return replace(question, text=question.text[0].lower() + question.text[1:].rstrip("?."))


def same_answer(given: str, right: str) -> bool:
    """Exact match, but for case, outer blanks and the full stop."""
    return _bare(given) == _bare(right)


def _bare(text: str) -> str:
    return " ".join(text.lower().strip(" .!\n").split())


def a(words: str) -> str:
    """The words with their article: ``an orange star``."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _background(scene: Scene, random: Random) -> Iterator[Question]:
    yield Question("background", random.choice(BACKGROUND_WORDINGS), scene.background)


def _count(scene: Scene, random: Random) -> Iterator[Question]:
    yield Question("count", random.choice(COUNT_WORDINGS), NUMBERS[len(scene.things)])


def _looks(scene: Scene, random: Random) -> Iterator[Question]:
    for thing in scene.things:
        wording = random.choice(COLOUR_WORDINGS).format(shape=thing.shape)
        yield Question("colour", wording, thing.colour)
        wording = random.choice(SHAPE_WORDINGS).format(colour=thing.colour)
        yield Question("shape", wording, thing.shape)
    if len(scene.things) == 1:
        (thing,) = scene.things
        yield Question("shape", random.choice(ONLY_SHAPE_WORDINGS), thing.shape)
        yield Question("colour", random.choice(ONLY_COLOUR_WORDINGS), thing.colour)


def _motion(scene: Scene, random: Random) -> Iterator[Question]:
    mover = scene.mover
    if mover is None or mover.direction is None:
        return
    named = random.choice((mover.shape, mover.words, f"{mover.colour} thing"))
    wording = random.choice(DIRECTION_WORDINGS).format(thing=named)
    yield Question("direction", wording, mover.direction)
    yield Question("mover", random.choice(MOVER_WORDINGS), a(mover.words))
    yield Question("mover", random.choice(MOVER_COLOUR_WORDINGS), mover.colour)
    yield Question("mover", random.choice(MOVER_SHAPE_WORDINGS), mover.shape)


def _order(scene: Scene, random: Random) -> Iterator[Question]:
    first, last = scene.things
    yield Question("order", random.choice(FIRST_WORDINGS), a(first.words))
    yield Question("order", random.choice(LAST_WORDINGS), a(last.words))
    named = random.choice((first.shape, first.words))
    yield Question("order", random.choice(AFTER_WORDINGS).format(thing=named), a(last.words))
    yield Question("colour", f"What colour is the {first.shape}?", first.colour)
    yield Question("shape", f"What shape is the {last.colour} thing?", last.shape)


def _descriptions(scene: Scene, random: Random) -> Iterator[Question]:
    yield Question("describe", random.choice(DESCRIBE_WORDINGS), describe(scene))


def describe(scene: Scene) -> str:
    """One sentence that states what the scene shows; things in the order of their names."""
    behind = f"on {a(scene.background)} background"
    if scene.in_sequence:
        first, last = scene.things
        return f"First {a(first.words)}, then {a(last.words)}, {behind}."
    mover = scene.mover
    still = sorted(thing.words for thing in scene.things if thing is not mover)
    shown = " and ".join(a(words) for words in still)
    if mover is None:
        return f"{shown[0].upper()}{shown[1:]} {behind}."
    moving = f"{a(mover.words)} moves {mover.direction}"
    sentence = f"{moving} {behind}" if not still else f"{moving} past {shown} {behind}"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _present(scene: Scene, random: Random) -> Iterator[Question]:
    """Yes for a thing that is there, no for one that differs in shape, colour or both."""
    thing: Thing = random.choice(scene.things)
    yield Question("yes-no", _present_wording(random, thing.words), "yes")
    colours = [colour for colour in COLOURS if all(colour != t.colour for t in scene.things)]
    shapes = [shape for shape in SHAPES if all(shape != t.shape for t in scene.things)]
    absent = random.choice(
        (
            f"{random.choice(colours)} {thing.shape}",
            f"{thing.colour} {random.choice(shapes)}",
            random.choice(shapes),
        )
    )
    yield Question("yes-no", _present_wording(random, absent), "no")


def _present_wording(random: Random, words: str) -> str:
    wording = random.choice(PRESENT_WORDINGS).format(thing=words)
    return wording.replace(f"a {words}", a(words))


def _moving(scene: Scene, random: Random) -> Iterator[Question]:
    """Does anything move; of a scene with a mover, also of one that may stand still."""
    thing = random.choice(scene.things)
    wording = random.choice(MOVING_WORDINGS)
    moves = thing.direction is not None if "{shape}" in wording else scene.mover is not None
    yield Question("yes-no", wording.format(shape=thing.shape), "yes" if moves else "no")


def corpus() -> Iterator[str]:
    """Every word that questions and answers use: what the tokenizer is trained on."""
    for scene_word in (*SHAPES, *COLOURS, *BACKGROUNDS):
        yield f" {scene_word} a {scene_word} an {scene_word}"
    random = Random(0)
    yield from ["User:", "Assistant:"] * 100
    for _ in range(4000):
        for question in ask_about(draw_scene(random), random):
            yield carelessly(random, question).text
            yield f" {question.answer}"
