"""Questions about a scene in several wordings, with the right answers.

Every answer follows from the scene alone, or from the scene and its subtitles. Nothing is asked
that the frames do not show, so a model without the frames can only guess.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

from smolvideo.formatting import format_timestamp
from smolvideo.train.world.question import Question, fill_template
from smolvideo.train.world.scene import COLOURS, SHAPES, Scene, SceneObject

COUNT_WORDS = ("none", "one", "two", "three", "four")
NAMES = ("Mia", "Tom", "Ada", "Leo")
BEHAVIOUR_PHRASES = {
    "appears": "it appears",
    "disappears": "it disappears",
    "still": "it stands still",
}


@dataclass(frozen=True)
class FrameClock:
    """The sampled frames of a video, as shares of its ``seconds``, in order."""

    shares: tuple[float, ...]
    seconds: float

    def first_seen(self, moment: float) -> str:
        """``MM:SS`` of the first frame at or after the share ``moment``."""
        seen = next((share for share in self.shares if share >= moment), self.shares[-1])
        return format_timestamp(seen * self.seconds)

    def stamps(self) -> list[str]:
        """Distinct time stamps of the frames, in order."""
        return list(dict.fromkeys(format_timestamp(s * self.seconds) for s in self.shares))


class FillTemplate(Protocol):
    """``fill_template`` with its random generator bound."""

    def __call__(self, asked: str, **filling: str) -> str: ...


def ask_about(
    scene: Scene,
    random: Random,
    clock: FrameClock | None = None,
    *,
    novel_wording: bool = False,
    ask: FillTemplate | None = None,
) -> list[Question]:
    """Return questions of every type that fits the scene, each in a random wording.

    Questions about times require a ``clock``. ``ask`` words them; otherwise they are sentences of
    ``TEMPLATES``.
    """
    ask = ask or partial(fill_template, random, novel=novel_wording)
    questions = [*_backgrounds(scene, ask), _description(scene, ask)]
    if scene.in_sequence:
        questions += _order(scene, random, ask)
    else:
        questions += [*_looks(scene, random, ask), *_motion(scene, random, ask)]
    questions += [*_count(scene, random, ask), *_places(scene, random, ask), *_text(scene, ask)]
    questions += [*_present(scene, random, ask), *_moving(scene, random, ask)]
    questions += _relations(scene, random, ask)
    if clock is not None:
        questions += [*_times(scene, random, clock, ask), *_moments(scene, random, clock)]
    return [*questions, *_named(scene, random), *_follow_ups(scene, random, ask)]


def with_article(words: str) -> str:
    """Prefix the words with their article: ``an orange star``."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def behaviour_phrase(scene: Scene, thing: SceneObject) -> str:
    """Sentence about an object's behaviour: ``it moves left``, ``it turns green``."""
    behaviour = scene.behaviour(thing)
    if behaviour in BEHAVIOUR_PHRASES:
        return BEHAVIOUR_PHRASES[behaviour]
    return f"it {behaviour}" if behaviour.startswith("turns") else f"it moves {behaviour}"


def _backgrounds(scene: Scene, ask: FillTemplate) -> Iterator[Question]:
    if not scene.cuts:
        yield Question("background", ask("background"), scene.background)
        return
    yield Question("background", ask("background at start"), scene.background)
    yield Question("background", ask("background at end"), scene.cuts[-1][1])


def _count(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    if scene.in_sequence:
        yield Question("count", ask("shots"), COUNT_WORDS[len(scene.things)])
        return
    if random.random() < 0.3 or not scene.things:
        yield Question("count", ask("shots"), COUNT_WORDS[1])
        return
    happens = scene.event[0] if scene.event else None
    if happens in ("appears", "disappears"):
        late, early = happens == "appears", happens == "disappears"
        yield Question("count", ask("count at start"), COUNT_WORDS[len(scene.things) - late])
        yield Question("count", ask("count at end"), COUNT_WORDS[len(scene.things) - early])
    else:
        yield Question("count", ask("count"), COUNT_WORDS[len(scene.things)])


def _looks(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    for thing in scene.things:
        if thing.new_colour:
            yield Question("colour", ask("colour at start", shape=thing.shape), thing.colour)
            yield Question("colour", ask("colour at end", shape=thing.shape), thing.new_colour)
        else:
            yield Question("colour", ask("colour", shape=thing.shape), thing.colour)
        yield Question("shape", ask("shape", colour=thing.colour), thing.shape)
        named = random.choice((thing.shape, thing.words))
        yield Question("size", ask("size", thing=named), thing.size)
    if len(scene.things) == 1:
        (thing,) = scene.things
        yield Question("shape", ask("only shape"), thing.shape)
        yield Question("colour", ask("only colour"), thing.colour)


def _motion(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    if not scene.things:
        return
    still = [thing for thing in scene.things if scene.behaviour(thing) == "still"]
    if still and (len(still) == len(scene.things) or random.random() < 0.4):
        thing = random.choice(still)
        named = random.choice((thing.shape, thing.words))
        yield Question("motion", ask("motion", thing=named), behaviour_phrase(scene, thing))
    if scene.event is not None:
        happens, thing, _ = scene.event
        named = random.choice((thing.shape, thing.words))
        yield Question("motion", ask("motion", thing=named), behaviour_phrase(scene, thing))
        yield Question("order", ask(happens), with_article(thing.words))
    mover = scene.moving_object
    if mover is None or mover.direction is None:
        return
    named = random.choice((mover.shape, mover.words))
    yield Question("motion", ask("motion", thing=named), behaviour_phrase(scene, mover))
    named = random.choice((mover.shape, mover.words, f"{mover.colour} thing"))
    yield Question("direction", ask("direction", thing=named), mover.direction)
    yield Question("mover", ask("mover"), with_article(mover.words))
    yield Question("mover", ask("mover colour"), mover.colour)
    yield Question("mover", ask("mover shape"), mover.shape)


def _order(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    things = scene.things
    yield Question("order", ask("first"), with_article(things[0].words))
    yield Question("order", ask("second"), with_article(things[1].words))
    yield Question("order", ask("last"), with_article(things[-1].words))
    place = random.randrange(1, len(things))
    before, after = things[place - 1], things[place]
    named = random.choice((before.shape, before.words))
    yield Question("order", ask("after", thing=named), with_article(after.words))
    named = random.choice((after.shape, after.words))
    yield Question("order", ask("before", thing=named), with_article(before.words))
    one, other = random.sample(things, 2)
    yield Question("colour", ask("colour", shape=one.shape), one.colour)
    yield Question("shape", ask("shape", colour=other.colour), other.shape)


def _description(scene: Scene, ask: FillTemplate) -> Question:
    return Question("describe", ask("describe"), describe(scene))


def describe(scene: Scene) -> str:
    """One sentence that describes the scene; still objects in alphabetical order."""
    behind = f"on {with_article(scene.background)} background"
    if scene.in_sequence:
        sentence = _sequence_described(scene)
    elif not scene.things:
        sentence = f"nothing moves {behind}"
    else:
        actor = scene.event[1] if scene.event else scene.moving_object
        still = sorted(thing.words for thing in scene.things if thing is not actor)
        shown = " and ".join(with_article(words) for words in still)
        if actor is None:
            sentence = f"{shown} {behind}"
        else:
            past = "past" if actor.direction else "beside"
            acts = (
                f"{with_article(actor.words)} {behaviour_phrase(scene, actor).removeprefix('it ')}"
            )
            sentence = f"{acts} {past} {shown} {behind}" if still else f"{acts} {behind}"
    if scene.caption is not None:
        kind = "number" if scene.caption.is_number else "word"
        written = f"the {kind} {scene.caption.text}"
        sentence = f"{sentence} with {written}" if scene.things else f"{written} {behind}"
    return f"{sentence[0].upper()}{sentence[1:]}."


def _sequence_described(scene: Scene) -> str:
    if not scene.cuts:
        shown = ", then ".join(with_article(thing.words) for thing in scene.things)
        return f"first {shown}, on {with_article(scene.background)} background"
    return "first " + ", then ".join(
        f"{with_article(thing.words)} on {scene.background_at(thing.appears_at)}"
        for thing in scene.things
    )


def _places(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    for thing in scene.things:
        if thing.place is not None:
            named = random.choice((thing.shape, thing.words))
            yield Question("place", ask("place", thing=named), thing.place)


def _text(scene: Scene, ask: FillTemplate) -> Iterator[Question]:
    if scene.caption is None:
        return
    yield Question("text", ask("text"), scene.caption.text)
    kind = "number" if scene.caption.is_number else "word"
    yield Question("text", ask(kind), scene.caption.text)


def _times(
    scene: Scene, random: Random, clock: FrameClock, ask: FillTemplate
) -> Iterator[Question]:
    """Questions for the time of an event: the answer is the time of the first frame showing it."""

    def at(moment: float, asked: str, **filling: str) -> Question:
        return Question("time", ask(asked, **filling), clock.first_seen(moment), event_time=moment)

    if scene.in_sequence:
        place = random.randrange(1, len(scene.things))
        for moment, thing, happens in (
            (scene.things[place].appears_at, scene.things[place], "appears"),
            (scene.things[place - 1].disappears_at, scene.things[place - 1], "disappears"),
        ):
            named = random.choice((thing.shape, thing.words))
            yield at(moment, f"when {happens}", thing=named)
        if len(scene.cuts) == 1:
            yield at(scene.cuts[0][0], "when cut")
    elif scene.event is not None:
        happens, thing, moment = scene.event
        for named in (thing.shape, thing.words):
            yield at(moment, f"when {happens}", thing=named, colour=thing.new_colour or "")


def _moments(scene: Scene, random: Random, clock: FrameClock) -> Iterator[Question]:
    """Questions about one time stamp, if all frames with that stamp show the same objects."""
    if not scene.in_sequence and scene.event is None:
        return
    stamp = random.choice(clock.stamps())
    shares = [s for s in clock.shares if format_timestamp(s * clock.seconds) == stamp]
    shown = {tuple(t for t in scene.things if t.centre_at(share)) for share in shares}
    if len(shown) > 1:
        return
    (things,) = shown
    if scene.in_sequence:
        yield Question("moment", f"What do you see at {stamp}?", with_article(things[0].words))
        return
    happens, thing, moment = scene.event or ("", scene.things[0], 0.0)
    if happens != "turns":
        answer = "yes" if thing in things else "no"
        yield Question("moment", f"Is there {with_article(thing.shape)} at {stamp}?", answer)
    elif shares[0] >= moment or shares[-1] < moment:
        text = f"What colour is the {thing.shape} at {stamp}?"
        yield Question("moment", text, thing.colour_at(shares[0]))


def _present(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    """Ask for an object that is there (yes), and for one of another shape or colour (no)."""
    if not scene.things:
        return
    thing: SceneObject = random.choice(scene.things)
    yield Question("yes-no", _with_article(ask("present", thing=thing.words), thing.words), "yes")
    taken = {thing.colour for thing in scene.things} | {thing.new_colour for thing in scene.things}
    colours = [colour for colour in COLOURS if colour not in taken]
    shapes = [shape for shape in SHAPES if all(shape != t.shape for t in scene.things)]
    absent = random.choice(
        (
            f"{random.choice(colours)} {thing.shape}",
            f"{thing.colour} {random.choice(shapes)}",
            random.choice(shapes),
        )
    )
    yield Question("yes-no", _with_article(ask("present", thing=absent), absent), "no")


def _with_article(wording: str, words: str) -> str:
    return wording.replace(f"a {words}", with_article(words))


def _moving(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    """Ask whether anything moves, or whether one of the objects does."""
    anything = "yes" if scene.moving_object is not None else "no"
    if not scene.things or random.random() < 0.5:
        yield Question("yes-no", ask("anything moves"), anything)
        return
    thing = random.choice(scene.things)
    moves = "yes" if thing.direction is not None else "no"
    yield Question("yes-no", ask("moves", shape=thing.shape), moves)


def _relations(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    """Left of and above, for two still objects that are clearly apart on that axis."""
    still = [thing for thing in scene.things if thing.direction is None]
    if scene.in_sequence or len(still) < 2:
        return
    one, other = random.sample(still, 2)
    apart = {"left of": other.x - one.x, "above": other.y - one.y}
    clear = [relation for relation, way in apart.items() if abs(way) > 0.2]
    if clear:
        relation = random.choice(clear)
        answer = "yes" if apart[relation] > 0 else "no"
        yield Question("yes-no", ask(relation, shape=one.shape, other=other.shape), answer)


def _named(scene: Scene, random: Random) -> Iterator[Question]:
    """Name an object in the subtitles and ask by name: the answer needs subtitles and frames."""
    if scene.event is not None or not scene.things:
        return
    thing = random.choice(scene.things)
    name, other = random.sample(NAMES, 2)
    lines = [f"This is {name}, the {thing.shape}."]
    others = [shape for shape in SHAPES if shape != thing.shape]
    lines.append(f"{other} is the {random.choice(others)}.")
    random.shuffle(lines)
    said = "\n".join(
        f"{format_timestamp(second)} {line}" for second, line in enumerate(lines, start=1)
    )
    asked = [("What colour is {0}?", thing.colour), ("Which colour does {0} have?", thing.colour)]
    if thing.place is not None:
        asked.append(("Where is {0}?", thing.place))
    if not scene.in_sequence:
        asked.append(("What does {0} do?", behaviour_phrase(scene, thing)))
    asked.append(("What shape is {0}?", thing.shape))
    text, answer = random.choice(asked)
    yield Question("subtitles", text.format(name), answer, subtitles=said)


def _follow_ups(scene: Scene, random: Random, ask: FillTemplate) -> Iterator[Question]:
    """A second question whose pronoun refers to the answer of the first."""
    if scene.in_sequence or not scene.things:
        return
    thing = random.choice(scene.things)
    if thing.new_colour:
        return
    first = Question("shape", ask("shape", colour=thing.colour), thing.shape)
    then = [("What does it do?", behaviour_phrase(scene, thing)), ("How big is it?", thing.size)]
    if thing.place is not None:
        then.append(("Where is it?", thing.place))
    if scene.moving_object is thing and thing.direction and random.random() < 0.5:
        first = Question("mover", ask("mover shape"), thing.shape)
        then = [("Which way does it move?", thing.direction), ("What colour is it?", thing.colour)]
    text, answer = random.choice(then)
    yield Question("follow-up", text, answer, history=(first,))


def sample_by_type(
    random: Random, questions: Sequence[Question], count: int, *, first: Collection[str] = ()
) -> list[Question]:
    """Return ``count`` of the questions in random order, spread over as many types as possible.

    The types in ``first`` take precedence.
    """
    rest, chosen = list(questions), list[Question]()
    random.shuffle(rest)
    rest.sort(key=lambda question: question.type not in first)
    while rest and len(chosen) < count:
        seen: set[str] = set()
        left: list[Question] = []
        for question in rest:
            (left if question.type in seen else chosen).append(question)
            seen.add(question.type)
        rest = left
    return chosen[:count]
