"""Questions in rounds over several videos: no video's questions follow each other."""

import json
from collections.abc import Sequence
from pathlib import Path

from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.item import Benchmark


def write_rounds(path: Path, videos: Sequence[str], *, rounds: int = 3) -> Benchmark:
    """Write questions to the new file ``path``, and load them; those of the second round are about
    the first second alone, so that each video has two parts."""
    lines = [
        {
            "id": f"{number}/{video}",
            "video": video,
            "question": f"What happens {number}?",
            "options": ["a circle", "a square"],
            "answer_index": 0,
            **({"start": 0, "end": 1} if number == 1 else {}),
        }
        for number in range(rounds)
        for video in videos
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return load_benchmark("jsonl", path)
