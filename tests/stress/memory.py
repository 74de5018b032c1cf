"""Check that memory does not grow with the number of videos.

    python tests/stress/memory.py --files 1000

Summarises many different short videos and prints the memory in use after every tenth of them. Exits
with 1 if the last three tenths are more than a given share above the second to fourth.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil

from smolvideo import load_engine
from smolvideo.summaries import OutputOptions, RunOptions, SummaryOptions, list_items, open_run
from smolvideo.train.world.render import EncodingOptions, write_video
from smolvideo.train.world.scene_sampler import sample_scene

ALLOWED_GROWTH = 0.05


def memory_while_running(files: int, work: Path) -> Iterator[float]:
    """Return the megabytes in use after every tenth of the run."""
    random = Random(0)
    folder = work / "videos"
    folder.mkdir()
    for number in range(files):
        film = EncodingOptions(96, 96, fps=6, seconds=1.5)
        write_video(sample_scene(random), film, folder / f"{number}.mp4")
    engine = load_engine("nano")
    outputs = OutputOptions(work / "out", formats=("txt", "html"))
    process = psutil.Process()
    with open_run(
        engine.checkpoint,
        lambda: engine,
        [folder],
        SummaryOptions(max_frames=8),
        outputs,
        RunOptions(),
    ) as batch:
        for number, _ in enumerate(batch.run(list_items([folder])), start=1):
            if number % max(files // 10, 1) == 0:
                yield process.memory_info().rss / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smolvideo-trial-") as work:
        used = list(memory_while_running(given.files, Path(work)))
    early, late = max(used[1:4]), max(used[-3:])
    megabytes = " ".join(f"{one:.0f}" for one in used)
    print(f"MB after every tenth: {megabytes}; growth {late / early - 1:+.1%}")  # noqa: T201
    return int(late > early * (1 + ALLOWED_GROWTH))


if __name__ == "__main__":
    sys.exit(main())
