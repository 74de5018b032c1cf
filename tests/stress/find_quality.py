"""Quality of ``smolvideo find`` with nano on a held-out rendered film: mAP, grey control, times.

    python tests/stress/find_quality.py --minutes 12 --seed 26

Scenes are of held-out combinations and keys, and windows begin at fixed times that have nothing to
do with the cuts (``--at-shot-changes``: as the index cuts them by default). Queries are colour ×
shape, colour × shape × motion, text on screen and subtitles. A window is relevant if it shows the
query for a sampling step or longer, for motion two steps, as one frame shows none; windows that
show it for less count neither way. Average
precision is over all windows, ranked by their scores. The control is the same index and search over
a film of grey frames; its chance level is the share of relevant windows. Boundaries are those of
the best hit of each query within the true scene.

Prints one JSON line (``.github/bench/find-quality.json``); the exit code is 1 for a mAP below 0.93,
a control above chance by 0.1, or fewer than 80 % of the boundaries within a sampling step.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.longfilm import TrueChapter

from smolvideo.bench.report import machine
from smolvideo.engines import Engine, load_engine
from smolvideo.formatting import format_clock
from smolvideo.frames import SYNTHETIC_COMMENT
from smolvideo.index import IndexOptions, IndexStore, SearchOptions, VideoSearch, open_scope
from smolvideo.index.build import IndexRun
from smolvideo.index.confirm import Finding
from smolvideo.index.merge import merge_findings
from smolvideo.summaries import list_items
from smolvideo.train.world.render import render_frame
from smolvideo.train.world.scene import COLOURS, DIRECTIONS, SHAPES, Scene, SceneObject
from smolvideo.train.world.scene_sampler import sample_scene

SIZE, FPS = 192, 4
STEP_SECONDS = IndexOptions.window_seconds / IndexOptions.max_frames
SAYINGS = (
    "the harbour is closed today", "nobody remembers the password", "turn off the old radio",
    "breakfast costs eleven pounds", "my uncle repairs violins", "this bridge was built twice",
    "the lighthouse keeper is asleep", "we need seven more candles",
)  # fmt: skip
Spans = list[tuple[float, float]]


@dataclass(frozen=True)
class Query:
    """A query and when the film shows it."""

    kind: str
    text: str
    spans: Spans

    def shown(self, start: float, end: float) -> float:
        """Seconds for which it is shown between two times."""
        return sum(max(0.0, min(end, b) - max(start, a)) for a, b in self.spans)


def plan_film(seconds: float, random: Random) -> list[TrueChapter]:
    """Return held-out scenes of 6 to 13 seconds; half of them have held-out combinations."""
    chapters, start = [], 0.0
    while start < seconds:
        length = random.uniform(6, 13)
        scene = sample_scene(random, side=random.choice(("fresh", "novel")))
        if chapters and scene.background == chapters[-1].scene.background:
            continue
        chapters.append(TrueChapter(start, start + length, scene))
        start += length
    return chapters


def write_film(path: Path, chapters: Sequence[TrueChapter], *, grey: bool = False) -> Path:
    """Encode the film; with ``grey`` every frame is one grey."""
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = SYNTHETIC_COMMENT
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "22", "threads": "1"}
        blank = np.full((SIZE, SIZE, 3), 127, np.uint8)
        for number in range(int(chapters[-1].end_seconds * FPS)):
            at = number / FPS
            chapter = next(one for one in chapters if at < one.end_seconds)
            length = chapter.end_seconds - chapter.start_seconds
            share = (at - chapter.start_seconds) / length
            picture = blank if grey else render_frame(chapter.scene, share, SIZE, SIZE)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_subtitles(path: Path, chapters: Sequence[TrueChapter], random: Random) -> list[Query]:
    """Write a saying into some of the scenes, for two seconds each, and return their queries."""
    chosen = sorted(random.sample(range(len(chapters)), len(SAYINGS)))
    blocks, queries = [], []
    for number, (place, saying) in enumerate(zip(chosen, SAYINGS, strict=True), start=1):
        start = chapters[place].start_seconds + random.uniform(0.5, 3)
        times = " --> ".join(f"0{_srt(one)}" for one in (start, start + 2))
        blocks.append(f"{number}\n{times}\n{saying.capitalize()}.\n")
        queries.append(Query("subtitles", saying, [(start, start + 2)]))
    path.write_text("\n".join(blocks), encoding="utf-8")
    return queries


def _srt(seconds: float) -> str:
    clock = format_clock(seconds + 3600, decimals=3)
    return f"0{clock[1:]}".replace(".", ",") if clock[0] == "1" else clock


def spans_of(chapters: Sequence[TrueChapter], shown: "Shown") -> Spans:
    """Return when something is shown; what is away for less than a sampling step is one span."""
    spans: Spans = []
    for chapter in chapters:
        length = chapter.end_seconds - chapter.start_seconds
        for a, b in shown(chapter.scene):
            start, end = chapter.start_seconds + a * length, chapter.start_seconds + b * length
            if spans and start - spans[-1][1] < STEP_SECONDS:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
    return spans


class Shown:
    """Shares of a scene's duration in which a thing is shown, perhaps moving one way."""

    def __init__(self, colour: str, shape: str, way: str | None = None) -> None:
        self.colour, self.shape, self.way = colour, shape, way

    def __call__(self, scene: Scene) -> Iterator[tuple[float, float]]:
        for thing in scene.things:
            if thing.shape != self.shape or (self.way and thing.direction != self.way):
                continue
            yield from _times_of_colour(thing, self.colour)


def _times_of_colour(thing: SceneObject, colour: str) -> Iterator[tuple[float, float]]:
    until = thing.recolours_at if thing.new_colour else thing.disappears_at
    if thing.colour == colour:
        yield thing.appears_at, until
    elif thing.new_colour == colour:
        yield thing.recolours_at, thing.disappears_at


class Written(Shown):
    """Shares of a scene's duration in which a text is on screen: all or none of it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, scene: Scene) -> Iterator[tuple[float, float]]:
        if scene.caption is not None and scene.caption.text == self.text:
            yield 0.0, 1.0


def queries_of(chapters: Sequence[TrueChapter], random: Random, count: int) -> list[Query]:
    """Return ``count`` queries of each kind that the film shows, as far as there are."""
    kinds: dict[str, list[Query]] = {"thing": [], "motion": [], "text": []}
    for colour in COLOURS:
        for shape in SHAPES:
            article = "an" if colour[0] in "aeiou" else "a"
            words = f"{article} {colour} {shape}"
            kinds["thing"].append(Query("thing", words, spans_of(chapters, Shown(colour, shape))))
            for way in DIRECTIONS:
                spans = spans_of(chapters, Shown(colour, shape, way))
                kinds["motion"].append(Query("motion", f"{words} moves {way}", spans))
    captions = [one.scene.caption for one in chapters if one.scene.caption is not None]
    for caption in {one.text: one for one in captions}.values():
        words = f"the {'number' if caption.is_number else 'word'} {caption.text}"
        kinds["text"].append(Query("text", words, spans_of(chapters, Written(caption.text))))
    chosen = []
    for found in kinds.values():
        shown = [query for query in found if sum(b - a for a, b in query.spans) >= 3]
        chosen += random.sample(shown, min(count, len(shown)))
    return chosen


def search_all(
    engine: Engine, folder: Path, film: Path, queries: Sequence[Query], options: IndexOptions
) -> tuple[dict[str, list[Finding]], float, float, float]:
    """Index a film and search all queries; return the findings of every window, the sampling step,
    and the CPU seconds of both."""
    path = folder / f"{film.stem}.sqlite"
    started = time.process_time()
    with IndexStore(path) as store:
        for done in IndexRun(engine.checkpoint, lambda: engine, options, store).run(
            list_items([film])
        ):
            assert done.outcome == "made", done
    indexed = time.process_time() - started
    chosen = SearchOptions(limit=1000, min_score=0.5, max_candidates=10_000, index=options)
    found = {}
    with open_scope(path, (), chosen) as scope:
        search = VideoSearch(scope.videos, scope.store, lambda: engine, chosen)
        for query in queries:
            candidates = search.candidates(query.text)
            found[query.text], _ = search.confirm(query.text, candidates)
    searched = time.process_time() - started - indexed
    return found, options.window_seconds / options.max_frames, indexed, searched


def average_precision(query: Query, findings: Sequence[Finding], step: float) -> float | None:
    """Return the average precision of the ranked windows; ties are in random order."""
    judged = []
    for one in findings:
        window = one.candidate.window
        shown = query.shown(window.start_seconds, window.end_seconds)
        needed = step * (2 if query.kind == "motion" else 1)
        needed = min(needed, 0.5 * sum(b - a for a, b in query.spans))
        if shown == 0 or shown >= needed:
            judged.append((one.score, shown > 0))
    relevant = sum(is_relevant for _, is_relevant in judged)
    if not relevant:
        return None
    Random(1).shuffle(judged)
    judged.sort(key=lambda pair: -pair[0])
    found, total = 0, 0.0
    for rank, (_, is_relevant) in enumerate(judged, start=1):
        if is_relevant:
            found += 1
            total += found / rank
    return total / relevant


def boundary_errors(query: Query, findings: Sequence[Finding]) -> list[float]:
    """Return the errors in seconds of start and end of the hits that overlap a true span."""
    errors = []
    for hit in merge_findings([one for one in findings if one.score >= 0.5], limit=1000):
        for a, b in query.spans:
            if min(hit.end_seconds, b) - max(hit.start_seconds, a) > 0.5 * (b - a):
                errors += [abs(hit.start_seconds - a), abs(hit.end_seconds - b)]
    return errors


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def measure(
    queries: Sequence[Query], found: dict[str, list[Finding]], step: float
) -> dict[str, dict[str, float]]:
    """Return, for each kind of query and for all, mAP, chance, and boundaries within a step."""
    result = {}
    for kind in dict.fromkeys([*(query.kind for query in queries), "all"]):
        chosen = [query for query in queries if kind in (query.kind, "all")]
        precisions = [average_precision(one, found[one.text], step) for one in chosen]
        errors = [error for one in chosen for error in boundary_errors(one, found[one.text])]
        shares = [
            mean([one.shown(f.candidate.window.start_seconds, f.candidate.window.end_seconds) > 0
                  for f in found[one.text]])
            for one in chosen
        ]  # fmt: skip
        result[kind] = {
            "queries": len(chosen),
            "map": round(mean([one for one in precisions if one is not None]), 4),
            "chance": round(mean(shares), 4),
            "boundaries": len(errors),
            "within_a_step": round(mean([error <= step for error in errors]), 4),
        }
    return result


def main() -> int:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--queries", type=int, default=12, help="queries of each kind")
    parser.add_argument("--grey-queries", type=int, default=24, help="queries of the control")
    parser.add_argument("--seed", type=int, default=26)
    parser.add_argument("--at-shot-changes", action="store_true", help="windows as by default")
    parser.add_argument("--worst", action="store_true", help="also print each query's precision")
    given = parser.parse_args()
    random = Random(given.seed)
    engine = load_engine("nano", device="cpu")
    options = replace(IndexOptions(), at_shot_changes=given.at_shot_changes)
    with tempfile.TemporaryDirectory(prefix="smolvideo-find-") as work:
        folder = Path(work)
        chapters = plan_film(60 * given.minutes, random)
        film = write_film(folder / "film.mp4", chapters)
        said = write_subtitles(film.with_suffix(".srt"), chapters, random)
        seen = queries_of(chapters, random, given.queries)
        found, step, indexed, searched = search_all(engine, folder, film, [*seen, *said], options)
        grey = write_film(folder / "grey.mp4", chapters, grey=True)
        asked_blind = random.sample(seen, min(len(seen), given.grey_queries))
        blind, *_ = search_all(engine, folder, grey, asked_blind, options)
    scores = measure([*seen, *said], found, step)
    control = measure(asked_blind, blind, step)["all"]
    if given.worst:
        for query in (*seen, *said):
            precision = average_precision(query, found[query.text], step)
            sys.stderr.write(
                f"{precision if precision is None else round(precision, 3)} {query.text}\n"
            )
    result = {
        "seed": given.seed,
        "minutes": round(chapters[-1].end_seconds / 60, 2),
        "scenes": len(chapters),
        "at_shot_changes": given.at_shot_changes,
        "step_seconds": step,
        "scores": scores,
        "grey": {"queries": control["queries"], "map": control["map"], "chance": control["chance"]},
        "index_cpu_seconds": round(indexed, 1),
        "search_cpu_seconds_per_query": round(searched / (len(seen) + len(said)), 2),
        "machine": machine(),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    everything = scores["all"]
    passed = (
        everything["map"] >= 0.93
        and control["map"] <= control["chance"] + 0.1
        and everything["within_a_step"] >= 0.8
    )
    return int(not passed)


if __name__ == "__main__":
    raise SystemExit(main())
