"""`--why` of nano on questions about drawn films of several shots: right scenes, refusals, cost.

    python tests/stress/why_quality.py --questions 200
    python tests/stress/why_quality.py --cost ../shared/processor_files/SmolVLM2-256M-Video-Instruct
    python tests/stress/why_quality.py --cost CONFIG --video clip.mp4

Asks for presence, colours and texts of one shot of each film, and for order and motion. Prints one
JSON line; the exit code is 1 where fewer than 95 % of the first kind point into the right shot, or
more than 20 % of the second kind point anywhere.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.longfilm import TrueChapter, write_film

from smolvideo.bench.report import write_random_weights
from smolvideo.engines import GenerationOptions, NativeEngine, load_engine
from smolvideo.evidence import AnswerScores, explain_answer
from smolvideo.pipeline import PreparedPrompt, prepare, stream_answer
from smolvideo.prompt import pack_prompt
from smolvideo.train.world.question import same_answer
from smolvideo.train.world.questions import behaviour_phrase, with_article
from smolvideo.train.world.scene import Scene
from smolvideo.train.world.scene_sampler import sample_scene

SHOT_SECONDS = 4.0
QUESTION = "What happens?"


@dataclass(frozen=True)
class Asked:
    """A question about a film, its right answer, and the shot that shows it; None for none."""

    kind: str
    question: str
    answer: str
    shot: TrueChapter | None = None


def main() -> int:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--questions", type=int, default=200, help="questions of each of two kinds")
    parser.add_argument("--shots", type=int, default=5, help="shots of a film about one of them")
    parser.add_argument("--seed", type=int, default=26)
    parser.add_argument("--verbose", action="store_true", help="a line per question on stderr")
    parser.add_argument(
        "--cost",
        type=Path,
        metavar="CONFIG",
        help="measure the cost instead: "
        "random weights for this folder with a configuration, 50 frames",
    )
    parser.add_argument(
        "--video",
        type=Path,
        metavar="FILE",
        help="for `--cost`; else a drawn film, most of whose frames are equal and are encoded once",
    )
    given = parser.parse_args()
    if given.cost is not None:
        return measure_cost(given.cost, given.video)
    engine = load_engine("nano", device="cpu")
    assert isinstance(engine, NativeEngine)
    random = Random(given.seed)
    seen: Counter[str] = Counter()
    costs: list[float] = []
    readings: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        for about_shots in (True, False):
            while seen[f"asked {about_shots}"] < given.questions:
                film = plan(random, given.shots if about_shots else 3, moves=not about_shots)
                write_film(path, film)
                base = prepare(engine.checkpoint, str(path), QUESTION)
                questions = (about_a_shot if about_shots else about_changes)(film, random)
                for asked in questions:
                    if seen[f"asked {about_shots}"] == given.questions:
                        break
                    seen[f"asked {about_shots}"] += 1
                    note(seen, engine, base, asked, costs, readings, given.verbose)
    result = {
        "questions": seen["asked True"],
        "right_answers": seen["answered True"],
        "pointed": seen["pointed True"],
        "right_scene": seen["scene True"],
        "right_scene_of_right_answers": seen["scene of right True"],
        "order_and_motion": seen["asked False"],
        "refused": seen["asked False"] - seen["pointed False"],
        "by_kind": {k: v for k, v in sorted(seen.items()) if "|" in k},
        "mean_readings": round(sum(readings) / len(readings), 3),
        "cost_over_first_answer": round(sum(costs) / len(costs), 3),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    right = result["right_scene"] / result["questions"]
    refused = result["refused"] / result["order_and_motion"]
    return int(right < 0.95 or refused < 0.8)


def measure_cost(config: Path, video: Path | None) -> int:
    """CPU time of a first answer of ten tokens, without decoding the video, and of the readings of
    a usual `--why`."""
    with tempfile.TemporaryDirectory() as folder:
        weights = write_random_weights(config, Path(folder) / "random")
        path = video or write_film(Path(folder) / "film.mp4", plan(Random(1), 5, moves=False))
        engine = load_engine(weights, device="cpu")
        assert isinstance(engine, NativeEngine)
        few = GenerationOptions(max_new_tokens=10)
        prepared = prepare(engine.checkpoint, str(path), QUESTION, generation=few)
        for _ in range(2):  # the second time kernels are compiled
            started = time.process_time()
            session = engine.open_session()
            answer = stream_answer(session, prepared).result()
            first = time.process_time() - started
        scores = AnswerScores(session, engine.checkpoint, prepared, replace(answer, text="yes"))
        started = time.process_time()
        scores.all()
        total = len(scores.positions)
        groups = [range(total * part // 8, total * (part + 1) // 8) for part in range(8)]
        pairs = [(group[len(group) // 4], group[3 * len(group) // 4]) for group in groups]
        scores.blank(2)
        for pair in pairs:
            scores.group(pair)
        mixed = sorted({group[len(group) // 2] for group in groups} | {*pairs[0]})
        for _ in range(2):
            scores.reordered(mixed[::-1], mixed)
        for half, other in pairs[:3]:
            scores.group((half,))
            scores.group((other,))
        extra = time.process_time() - started
    result = {
        "config": config.name,
        "video": "drawn film" if video is None else video.name,
        "dtype": engine.dtype,
        "arithmetic": engine.arithmetic,
        "frames": total,
        "first_answer_cpu_seconds": round(first, 2),
        "readings": round(scores.frames_read / total, 3),
        "readings_cpu_seconds": round(extra, 2),
        "cost_over_first_answer": round((first + extra) / first, 3),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return int(result["cost_over_first_answer"] > 1.5)


def note(
    seen: Counter[str],
    engine: NativeEngine,
    base: PreparedPrompt,
    asked: Asked,
    costs: list[float],
    readings: list[float],
    verbose: bool,
) -> None:
    """Ask, explain, and count the outcome."""
    content = (*base.messages[-1].content[:-1], asked.question)
    messages = (replace(base.messages[-1], content=content),)
    prompt = pack_prompt(messages, engine.checkpoint, base.prompt_options)
    prepared = replace(base, question=asked.question, messages=messages, prompt=prompt)
    started = time.perf_counter()
    session = engine.open_session()
    answer = stream_answer(session, prepared).result()
    first = time.perf_counter() - started
    evidence = explain_answer(AnswerScores(session, engine.checkpoint, prepared, answer))
    costs.append((first + evidence.seconds) / first)
    readings.append(evidence.readings)
    about_shots = asked.shot is not None
    right = same_answer(answer.text, asked.answer)
    pointed = bool(evidence.frames)
    seen[f"answered {about_shots}"] += right
    seen[f"pointed {about_shots}"] += pointed
    seen[f"{asked.kind} | {evidence.verdict}"] += 1
    in_scene = False
    if asked.shot is not None and pointed:
        best = evidence.frames[0].time
        in_scene = asked.shot.start_seconds <= best < asked.shot.end_seconds
        seen["scene True"] += in_scene
        seen["scene of right True"] += in_scene and right
    if verbose:
        shot = asked.shot and (asked.shot.start_seconds, asked.shot.end_seconds)
        line = (asked.kind, asked.question, answer.text, right, shot, in_scene, evidence)
        sys.stderr.write(f"{line}\n")


def plan(random: Random, shots: int, *, moves: bool) -> list[TrueChapter]:
    """Return a film of shots whose shapes, colours and backgrounds differ from their neighbours';
    with ``moves`` one object moves, and without one shot has a text."""
    film: list[TrueChapter] = []
    special = random.randrange(shots)
    while len(film) < shots:
        scene = sample_scene(random)
        is_special = len(film) == special
        if not fits(scene, film, moves and is_special, not moves and is_special):
            continue
        start = len(film) * SHOT_SECONDS
        film.append(TrueChapter(start, start + SHOT_SECONDS, scene))
    return film


def fits(scene: Scene, film: Sequence[TrueChapter], moving: bool, captioned: bool) -> bool:
    if scene.in_sequence or scene.event or len(scene.things) != 1 - captioned:
        return False
    if (scene.moving_object is not None) != moving or (scene.caption is not None) != captioned:
        return False
    others = [other.scene for other in film]
    if others and others[-1].background == scene.background:
        return False
    looks = [(thing.shape, thing.colour) for other in others for thing in other.things]
    return all(
        thing.shape != shape and thing.colour != colour
        for thing in scene.things
        for shape, colour in looks
    )


def about_a_shot(film: Sequence[TrueChapter], random: Random) -> Iterator[Asked]:
    """Yield three questions about one shot each: a text, a colour, and whether a thing is there."""
    captioned = next(shot for shot in film if shot.scene.caption is not None)
    assert captioned.scene.caption is not None
    yield Asked("text", "What does the text say?", captioned.scene.caption.text, captioned)
    one, other = random.sample([shot for shot in film if shot.scene.things], 2)
    (thing,) = one.scene.things
    yield Asked("colour", f"What colour is the {thing.shape}?", thing.colour, one)
    (thing,) = other.scene.things
    yield Asked("presence", f"Is there {with_article(thing.words)}?", "yes", other)


def about_changes(film: Sequence[TrueChapter], random: Random) -> Iterator[Asked]:
    """Yield three questions about the order of the shots, and two about the motion in one."""
    things = [shot.scene.things[0] for shot in film]
    yield Asked("order", "What comes first?", with_article(things[0].words))
    yield Asked("order", "What comes last?", with_article(things[-1].words))
    at = random.randrange(1, len(things))
    question = f"What comes after the {things[at - 1].words}?"
    yield Asked("order", question, with_article(things[at].words))
    moving = next(shot.scene for shot in film if shot.scene.moving_object is not None)
    mover = moving.moving_object
    assert mover is not None
    assert mover.direction is not None
    yield Asked("motion", f"Which way does the {mover.shape} move?", mover.direction)
    phrase = behaviour_phrase(moving, mover)
    yield Asked("motion", f"What does the {mover.words} do?", phrase)


if __name__ == "__main__":
    sys.exit(main())
