"""Cost of ``smolvideo index`` and ``find`` per hour of video, with the shape of 256M.

    python tests/stress/index_cost.py --processor-files ../shared/processor_files \\
        --clips ../shared/clips --names film_friday.mp4 film_bbb_720p.mp4

The weights are random: times are those of the real ones, notes are not. CPU seconds of this process
on one thread, as other programs share the machine; decoding runs in processes of its own and is not
in them. Prints one JSON line (``.github/bench/index-cost.json``): seconds of indexing and of a
first search per hour of video, and what the cost model of ``smolvideo plan`` predicts for the
windows.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from smolvideo.bench.report import machine, write_random_weights
from smolvideo.cost import ModelCost, PromptSize, measure_rates, predict_uncorrected
from smolvideo.engines import FeatureCache, load_engine
from smolvideo.frames import FramePlan, VideoMetadata
from smolvideo.index import IndexOptions, IndexStore, SearchOptions, VideoSearch, open_scope
from smolvideo.index.build import IndexRun
from smolvideo.models import open_checkpoint
from smolvideo.prompt import Message, count_tokens
from smolvideo.summaries import list_items

NAME = "SmolVLM2-256M-Video-Instruct"
NAMES = ("film_friday.mp4", "film_bbb_720p.mp4")


def main() -> int:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--processor-files", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clips", type=Path, required=True, metavar="DIR")
    parser.add_argument("--names", nargs="+", default=NAMES, metavar="NAME")
    given = parser.parse_args()
    options, clock = IndexOptions(), time.process_time
    with tempfile.TemporaryDirectory(prefix="smolvideo-cost-") as work:
        base = Path(work)
        folder = write_random_weights(given.processor_files / NAME, base / NAME)
        checkpoint = open_checkpoint(folder)
        rates, cost = measure_rates(clock=clock), ModelCost.of_checkpoint(checkpoint)
        engine = load_engine(
            checkpoint, device="cpu", arithmetic="float", cache=FeatureCache(base / "features")
        )
        items = list_items([given.clips / name for name in given.names])
        with IndexStore(base / "index.sqlite") as store:
            run = IndexRun(checkpoint, lambda: engine, options, store)
            started = clock()
            done = list(run.run(items))
            indexed = clock() - started
            status = store.status()
            windows = [one for _, one in store.windows([one.id for one in store.contents()])]
        assert all(one.outcome == "made" for one in done), done
        chosen = SearchOptions(max_candidates=10_000, min_score=0.99, index=options)
        with open_scope(base / "index.sqlite", (), chosen) as scope:
            search = VideoSearch(scope.videos, scope.store, lambda: engine, chosen)
            started = clock()
            found = search.search("a person who opens a door")
            searched = clock() - started
    predicted = 0.0
    for window in windows:
        times = tuple(time - window.start_seconds for time in window.frame_times)
        length = window.end_seconds - window.start_seconds
        plan = FramePlan(times, VideoMetadata(640, 360, length))
        question = options.questions(checkpoint)[0]
        tokens = count_tokens((Message("user", (plan, question)),), checkpoint)
        size = PromptSize(len(times), tokens, 2 * options.generation.max_new_tokens)
        predicted += predict_uncorrected(cost, size, rates).without_load
    result = {
        "model": NAME,
        "videos": status.videos,
        "minutes": round(60 * status.hours, 2),
        "windows": status.windows,
        "notes": sum(one.windows for one in done),
        "index_seconds_per_hour": round(indexed / status.hours),
        "predicted_seconds_per_hour": round(predicted / status.hours),
        "search_seconds_per_hour": round(searched / status.hours),
        "frames_read": found.searched["frames"],
        "machine": machine(),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
