"""A tuning run of nano that is killed at random moments and resumed, against an undisturbed one.

    python tests/stress/tune_kill.py --kills 5 --steps 24

Prints whether the curve and both adapters are equal, byte by byte.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.newwords import write_clips

FILES = ("curve.jsonl", "best/adapter_model.safetensors", "last/adapter_model.safetensors")


def command(data: Path, out: Path, steps: int) -> list[str]:
    words = ("--model", "nano", "--rehearse", "none", "--batch-size", "4", "--rank", "8")
    more = ("--steps", str(steps), "--eval-interval", "3", "--max-frames", "4", "--quiet")
    return [sys.executable, "-m", "smolvideo", "tune", str(data), "--out", str(out), *words, *more]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = write_clips(Path(folder) / "clips", clips=12, questions=3, size=64)
        calm, killed = Path(folder) / "calm", Path(folder) / "killed"
        started = time.monotonic()
        subprocess.run(command(data, calm, given.steps), check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        kills, reached = 0, []
        while True:
            process = subprocess.Popen(
                command(data, killed, given.steps), stdout=subprocess.DEVNULL
            )
            try:
                limit = chance.uniform(0.2, 0.9) * seconds if kills < given.kills else None
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                reached.append(sorted(one.name for one in killed.glob("*")))
                continue
            if code:
                sys.exit(f"exit code {code}")
            break
        equal = {name: (calm / name).read_bytes() == (killed / name).read_bytes() for name in FILES}
        print(json.dumps({"kills": kills, "seconds": round(seconds, 1), "equal": equal}))  # noqa: T201
        for number, names in enumerate(reached, start=1):
            print(f"kill {number} found {', '.join(names)}")  # noqa: T201
        if not all(equal.values()):
            sys.exit(1)


if __name__ == "__main__":
    main()
