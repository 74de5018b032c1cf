"""Single-frame questions: what a time stamp shows, and which time stamp shows something.

Few scenes have events that can be asked by time, and such questions need an ability that no other
question trains: to keep the contents of the frames apart. Here every movement yields a question.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from smolvideo.times import format_timestamp
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import FrameClock, with_article
from smolvideo.train.world.scene import Scene, place_of


def questions_at_time(scene: Scene, random: Random, clock: FrameClock) -> Iterator[Question]:
    """Ask what the time stamps of ``clock`` show, in random order; nothing for a static scene.

    The answer is the same in all frames with that time stamp.
    """
    stamps = clock.stamps()
    random.shuffle(stamps)
    for stamp in stamps:
        seen = _seen_at(scene, clock, stamp)
        if seen:
            fact = random.choice(seen)
            yield Question("glimpse", fact.question.format(f" at {stamp}"), fact.answer)


def questions_for_time(scene: Scene, random: Random, clock: FrameClock) -> Iterator[Question]:
    """Ask which time stamp of ``clock`` shows a fact, in random order: the only one, or the first
    or the last of several, but not of all. The neighbouring stamps definitely do not show it."""
    stamps = clock.stamps()
    seen = [_seen_at(scene, clock, stamp) for stamp in stamps]
    told = [{fact.question for fact in facts} for facts in seen]
    facts = list(dict.fromkeys(fact for facts in seen for fact in facts))
    random.shuffle(facts)
    for fact in facts:
        places = [place for place, shown in enumerate(seen) if fact in shown]
        first, last = places[0], places[-1]
        begins = first == 0 or fact.question in told[first - 1]
        ends = last == len(stamps) - 1 or fact.question in told[last + 1]
        if len(places) == 1 < len(stamps) and begins and ends:
            yield Question("finding", f"When {fact.statement}?", stamps[first])
        elif begins and first > 0 and (not ends or random.random() < 0.5):
            yield Question("finding", f"When {fact.statement} first?", stamps[first])
        elif ends and last < len(stamps) - 1:
            yield Question("finding", f"When {fact.statement} last?", stamps[last])


@dataclass(frozen=True)
class _Fact:
    """A question about a moment (``{}`` is for the time), its answer, and both as a statement."""

    question: str
    answer: str
    statement: str


def _seen_at(scene: Scene, clock: FrameClock, stamp: str) -> list[_Fact]:
    """Facts that hold in all frames of a time stamp."""
    shares = [s for s in clock.shares if format_timestamp(s * clock.seconds) == stamp]
    first, last = (list(_facts(scene, share)) for share in (shares[0], shares[-1]))
    return [fact for fact in first if fact in last]


def _facts(scene: Scene, share: float) -> Iterator[_Fact]:
    """Facts at a share of the duration that are not the same throughout the scene."""
    if scene.cuts:
        background = scene.background_at(share)
        yield _Fact("What is the background{}?", background, f"is the background {background}")
    if scene.in_sequence:
        for thing in scene.things:
            if thing.centre_at(share):
                yield _Fact(
                    "What do you see{}?",
                    with_article(thing.words),
                    f"do you see {with_article(thing.words)}",
                )
    mover = scene.moving_object
    if mover is not None and (centre := mover.centre_at(share)) is not None:
        place = place_of(*centre)
        if place is not None:
            shape = mover.shape
            yield _Fact(f"Where is the {shape}{{}}?", place, f"is the {shape} at {place}")
    if scene.event is not None:
        happens, thing, _ = scene.event
        if happens == "turns":
            colour = thing.colour_at(share)
            words = f"the {thing.shape}"
            yield _Fact(f"What colour is {words}{{}}?", colour, f"is {words} {colour}")
        elif thing.centre_at(share):
            yield _Fact(
                f"Is there {with_article(thing.shape)}{{}}?",
                "yes",
                f"is there {with_article(thing.shape)}",
            )
        else:
            yield _Fact(
                f"Is there {with_article(thing.shape)}{{}}?", "no", f"is there no {thing.shape}"
            )
