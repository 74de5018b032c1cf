"""Measure the memory of fifty frames through the published shapes.

    python tests/stress/published_shapes.py --processor-files ../shared/processor_files

The networks have random weights and few layers. Prints the peak of memory beyond what was in use
before; exits with 1 above two gigabytes.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import psutil

from smolvideo.engines import GenerationOptions, load_engine
from smolvideo.pipeline import prepare, stream_answer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import tinymodels
from support.clipmaker import evenly, write_clip

NAMES = ("SmolVLM2-256M-Video-Instruct", "SmolVLM-256M-Instruct")
MAX_BYTES = 2 * 1024**3


def bytes_for(files: Path, work: Path) -> int:
    """Return the peak memory that an answer about fifty frames adds."""
    before = psutil.Process().memory_info().rss
    engine = load_engine(str(tinymodels.make_cut(files, work / files.name)), device="cpu")
    clip = write_clip(work / f"{files.name}.mp4", evenly(60, 10)).path
    short = GenerationOptions(max_new_tokens=8)
    prepared = prepare(engine.checkpoint, clip, "Describe the video", generation=short)
    answer = stream_answer(engine, prepared).result()
    assert (answer.usage.frames, answer.usage.answer_tokens <= 8) == (50, True)
    return psutil.Process().memory_info().rss - before


def main() -> int:
    """Run both shapes; return 1 where one needs too much."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processor-files", type=Path, required=True, metavar="DIR")
    given = parser.parse_args()
    needed = {}
    with tempfile.TemporaryDirectory(prefix="smolvideo-trial-") as work:
        for name in NAMES:
            needed[name] = bytes_for(given.processor_files / name, Path(work))
            print(f"{name}: {needed[name] / 1e6:.0f} MB", flush=True)  # noqa: T201 -- a program
    return int(max(needed.values()) > MAX_BYTES)


if __name__ == "__main__":
    sys.exit(main())
