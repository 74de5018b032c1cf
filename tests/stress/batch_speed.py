"""Measure a batch against a shell loop of ``smolvideo ask`` over the same files.

    python tests/stress/batch_speed.py --files 40 [--clips DIR]

Prints both times, their ratio, and the stages of the batch.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from smolvideo.source import VIDEO_SUFFIXES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.manyvideos import make_folder

PROGRAM = [sys.executable, "-m", "smolvideo"]
QUESTION = "Describe the video."
_TURNS = 2


def loop_of_ask(files: list[Path]) -> float:
    """Return the seconds of one process per file, as a shell loop runs them."""
    started = time.monotonic()
    for file in files:
        subprocess.run(
            [*PROGRAM, "ask", "--model", "nano", "--quiet", str(file.resolve()), QUESTION],
            capture_output=True,
            check=False,
        )
    return time.monotonic() - started


def one_batch(folder: Path, out: Path) -> tuple[float, str]:
    """Return the seconds of one process for all files, and its report of stages."""
    started = time.monotonic()
    words = [*PROGRAM, "summarise", "--model", "nano", "--verbose", "--out", str(out)]
    done = subprocess.run([*words, str(folder)], capture_output=True, check=False, text=True)
    return time.monotonic() - started, done.stderr.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--clips", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smolvideo-trial-") as work:
        folder = make_folder(Path(work) / "videos", given.files, clips=given.clips)
        files = [path for path in sorted(folder.rglob("*")) if path.suffix in VIDEO_SUFFIXES]
        loops = batches = 0.0
        for turn in range(_TURNS):
            seconds, stages = one_batch(folder, Path(work) / f"out {turn}")
            batches += seconds
            loops += loop_of_ask(files)
    print(  # noqa: T201 -- a program
        f"{len(files)} files, {_TURNS} turns: loop of ask {loops / _TURNS:.1f} s, "
        f"batch {batches / _TURNS:.1f} s, {loops / batches:.1f} times as fast\n{stages}"
    )


if __name__ == "__main__":
    main()
