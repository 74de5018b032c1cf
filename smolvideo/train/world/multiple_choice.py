"""Multiple choice: wrong options of the same kind as the right answer, and the prompts.

Wrong options are sampled so that nothing in their wording points at the right one; hard ones come,
as far as possible, from things that the same video shows.
"""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from smolvideo.evals.item import LETTERS
from smolvideo.evals.protocol import format_question
from smolvideo.evals.protocol.prompts import PromptName
from smolvideo.formatting import format_timestamp
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import (
    BEHAVIOUR_PHRASES,
    COUNT_WORDS,
    FrameClock,
    describe,
    with_article,
)
from smolvideo.train.world.render import RGB
from smolvideo.train.world.scene import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    PLACES,
    SHAPES,
    WORDS,
    Scene,
)

OPTIONS = 5
WITHOUT_CHOICE = ("yes-no", "size", "follow-up", "moment", "list", "absent", "unanswerable")
"""Types of question for which there are no five plausible answers."""


def with_options(
    question: Question, scene: Scene, random: Random, clock: FrameClock | None, prompt: PromptName
) -> Question:
    """Return the question with five options in CinePile's prompt; the answer is a letter."""
    options = options_for(question, scene, random, clock, hard=random.random() < 0.5)
    asked = format_question(prompt, "cinepile", question.text, options, question.subtitles)
    letter = LETTERS[options.index(question.answer)]
    return Question("choice", asked.text, letter, options=tuple(options), open_form=question)


def options_for(
    question: Question, scene: Scene, random: Random, clock: FrameClock | None = None, *, hard: bool
) -> list[str]:
    """Return five distinct options in random order, including the right answer."""
    if question.type == "describe":
        wrong = _other_descriptions(scene, random)
    else:
        near, far = _near_and_far(question, scene, random, clock)
        random.shuffle(near)
        random.shuffle(far)
        wrong = iter([*near, *far] if hard else [*far, *near])
    options = [question.answer]
    for option in wrong:
        if option not in options:
            options.append(option)
        if len(options) == OPTIONS:
            break
    assert len(options) == OPTIONS, question
    random.shuffle(options)
    return options


def _near_and_far(
    question: Question, scene: Scene, random: Random, clock: FrameClock | None
) -> tuple[list[str], list[str]]:
    """Wrong options of the answer's kind: those that the video shows, and all others."""
    answer = question.answer
    colours = [thing.colour for thing in scene.things]
    shapes = [thing.shape for thing in scene.things]
    places = [place for row in PLACES for place in row]
    if answer.startswith(("a ", "an ")):
        shown = [with_article(f"{colour} {shape}") for colour in colours for shape in shapes]
        every = [with_article(f"{colour} {shape}") for colour in COLOURS for shape in SHAPES]
    elif answer.startswith("it "):
        # One of each kind of motion: four of a kind would make the fifth stand out.
        moves = random.sample(DIRECTIONS, 2)
        shown = [*BEHAVIOUR_PHRASES.values(), *(f"it moves {direction}" for direction in moves)]
        every = [f"it turns {random.choice([c for c in COLOURS if c not in colours])}"]
    elif question.type == "time":
        shown, every = _times(random, clock), []
    elif question.type == "text":
        shown, every = _texts(answer, random)
    elif answer in SHAPES:
        shown, every = shapes, list(SHAPES)
    elif question.type == "direction":
        # A fifth direction, which is never right.
        shown, every = list(DIRECTIONS), ["nowhere"]
    elif answer in places:
        shown, every = [thing.place for thing in scene.things if thing.place], places
    elif question.type == "count":
        shown, every = list(COUNT_WORDS[1:]), [COUNT_WORDS[0], "five"]
    elif question.type == "background":
        shown, every = [*colours, *BACKGROUNDS], list(COLOURS)
    else:
        shown, every = [*colours, scene.background], list(RGB)
    near = [option for option in dict.fromkeys(shown) if option != answer]
    return near, [option for option in every if option != answer and option not in near]


def _times(random: Random, clock: FrameClock | None) -> list[str]:
    """Times of the video's frames, followed by some after its end for short videos."""
    assert clock is not None
    stamps = clock.stamps()
    after = int(clock.seconds) + 1
    return [*stamps, *(format_timestamp(second) for second in range(after, after + OPTIONS))]


def _texts(answer: str, random: Random) -> tuple[list[str], list[str]]:
    """Other words, or other numbers; the first list has the numbers that share a digit."""
    if not answer.isdigit():
        return [], list(WORDS)
    numbers = [str(number) for number in range(10, 100)]
    return [n for n in numbers if n[0] == answer[0] or n[1] == answer[1]], numbers


def _other_descriptions(scene: Scene, random: Random) -> Iterator[str]:
    """Yield descriptions of altered copies of the scene."""
    while True:
        yield describe(_altered(scene, random))


def _altered(scene: Scene, random: Random) -> Scene:
    """Return the scene with other objects, another background or text, or a reversed motion."""
    things = list(scene.things)
    place = random.randrange(len(things)) if things else 0
    # The colour or the shape of one object.
    if things and random.random() < 0.7:
        thing = things[place]
        colours = [c for c in COLOURS if all(c not in (t.colour, t.new_colour) for t in things)]
        shapes = [shape for shape in SHAPES if all(shape != t.shape for t in things)]
        if random.random() < 0.5:
            things[place] = replace(thing, colour=random.choice(colours or [thing.colour]))
        else:
            things[place] = replace(thing, shape=random.choice(shapes or [thing.shape]))
    # The direction of the motion.
    mover = scene.moving_object
    if mover is not None and random.random() < 0.5:
        place = scene.things.index(mover)
        there, back = (mover.end_x, mover.end_y), (mover.x, mover.y)
        things[place] = replace(things[place], x=there[0], y=there[1], end_x=back[0], end_y=back[1])
    # The background and the text.
    background, cuts = scene.background, scene.cuts
    if random.random() < 0.4:
        taken = (background, *(later for _, later in cuts[:1]))
        background = random.choice([other for other in BACKGROUNDS if other not in taken])
    caption = scene.caption
    if caption is not None and random.random() < 0.5:
        near, far = _texts(caption.text, random)
        text = random.choice([other for other in near or far if other != caption.text])
        caption = replace(caption, text=text)
    # The order of the shots.
    if scene.in_sequence and random.random() < 0.3:
        looks = [(thing.shape, thing.colour) for thing in things]
        random.shuffle(looks)
        things = [
            replace(thing, shape=shape, colour=colour)
            for thing, (shape, colour) in zip(things, looks, strict=True)
        ]
    return replace(scene, things=tuple(things), background=background, cuts=cuts, caption=caption)
