"""Compare a run that is killed repeatedly with an undisturbed run.

    python tests/stress/kill_and_resume.py --files 300 --kills 20 [--clips DIR]

Runs twice over the same folder: once undisturbed, once killed with SIGKILL at random moments and
restarted. Then every record and every output file is compared byte by byte, except for times.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.manyvideos import make_folder

FORMATS = "txt,srt,chapters"
EXIT_SOME_FAILED = 6
_DIFFER = ("created", "seconds")
"""Fields that differ between two runs; all others must be equal."""


def command(folder: Path, out: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "smolvideo", "summarise", "--quiet", "--model", "nano"]
    words += ["--max-frames", "8"]
    return [*words, "--format", FORMATS, "--out", str(out), *more, str(folder)]


def run_undisturbed(folder: Path, out: Path) -> float:
    """Return the seconds of an undisturbed run."""
    started = time.monotonic()
    done = subprocess.run(command(folder, out), capture_output=True, check=False)
    assert done.returncode in (0, EXIT_SOME_FAILED), done.stderr.decode()
    return time.monotonic() - started


def run_killed(folder: Path, out: Path, files: int, kills: int, random: Random) -> int:
    """Kill ``kills`` times at random moments, then run to the end; return how many kills hit.

    The moments are drawn over the work, not over time, so that on a busy machine each process is
    killed before it ends: each is shortly after a given number of records.
    """
    hits = 0
    for target in sorted(random.randrange(files) for _ in range(kills)):
        process = subprocess.Popen(
            command(folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and _lines(out) < target:
            time.sleep(0.005)
        try:
            process.wait(random.uniform(0.0, 0.3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hits += 1
    run_undisturbed(folder, out)
    return hits


def _lines(out: Path) -> int:
    records = out / "summaries.jsonl"
    return records.read_bytes().count(b"\n") if records.exists() else 0


def records_of(out: Path) -> dict[str, dict[str, Any]]:
    """Map path to record, without fields that differ between runs; each path must occur once."""
    lines = (out / "summaries.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    counts = Counter(record["path"] for record in records)
    assert max(counts.values()) == 1, [path for path, count in counts.items() if count > 1]
    return {
        record["path"]: {key: value for key, value in record.items() if key not in _DIFFER}
        for record in records
    }


def files_of(out: Path) -> dict[str, bytes]:
    """Return every output file except the records, including hidden ones."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "summaries.jsonl" not in path.name
    }


def compare(one: Path, other: Path) -> None:
    """Raise AssertionError with the first difference."""
    records, others = records_of(one), records_of(other)
    assert records.keys() == others.keys(), records.keys() ^ others.keys()
    for path, record in records.items():
        assert record == others[path], f"{path}:\n{record}\n{others[path]}"
    files, other_files = files_of(one), files_of(other)
    leftovers = {name for name in other_files if name.endswith(".part")}
    assert files.keys() == other_files.keys() - leftovers, files.keys() ^ other_files.keys()
    for name, content in files.items():
        assert content == other_files[name], f"{name} differs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clips", type=Path, default=None)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smolvideo-trial-") as work:
        base = Path(work)
        folder = make_folder(base / "videos", given.files, clips=given.clips, seed=given.seed)
        seconds = run_undisturbed(folder, base / "undisturbed")
        hits = run_killed(folder, base / "killed", given.files, given.kills, Random(given.seed))
        compare(base / "undisturbed", base / "killed")
        records = records_of(base / "killed").values()
        outcomes = Counter(
            "failed" if record["error"] else "same" if record["same_as"] else "made"
            for record in records
        )
    print(  # noqa: T201 -- a program
        f"{len(records)} records equal after {hits} kills ({dict(outcomes)}); "
        f"undisturbed run {seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
