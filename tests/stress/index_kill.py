"""An index that is killed again and again is equal to one of an undisturbed run.

    python tests/stress/index_kill.py --files 200 --kills 10 --windows 100000

Indexes a folder with duplicates, broken files and hostile names twice: undisturbed, and killed with
SIGKILL at random windows, in the middle with a second process on the same index. Then all rows are
compared. With ``--windows`` a large index is filled with notes, and searches in it are timed.
Prints one JSON line (``.github/bench/index-kill.json``); the exit code is 1 for a difference, and
for a median above 50 ms.
"""

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.manyvideos import make_folder

from smolvideo.bench.report import machine
from smolvideo.index import IndexStore
from smolvideo.index.claims import this_process
from smolvideo.index.entries import IndexedWindow
from smolvideo.train.world.questions import describe
from smolvideo.train.world.scene_sampler import sample_scene

EXIT_SOME_FAILED = 6
QUERIES = (
    "a red circle", "a purple star moves left past a blue square", "the word STOP",
    "an orange triangle on a white background", "a number", "something that is in no note",
)  # fmt: skip
MAX_MILLISECONDS = 50


def command(folder: Path, index: Path) -> list[str]:
    words = [sys.executable, "-m", "smolvideo", "index", "--quiet", "--model", "nano", "--no-cache"]
    return [*words, "--max-frames", "4", "--window", "1", "--index", str(index), str(folder)]


def run_undisturbed(folder: Path, index: Path) -> float:
    """Return the seconds of a run to the end."""
    started = time.monotonic()
    done = subprocess.run(command(folder, index), capture_output=True, check=False)
    assert done.returncode in (0, EXIT_SOME_FAILED), done.stderr.decode()
    return time.monotonic() - started


def run_killed(folder: Path, index: Path, windows: int, kills: int, random: Random) -> int:
    """Kill at random windows, then run to the end, two processes at once; return how many kills
    hit."""
    hits = 0
    for target in sorted(random.randrange(windows) for _ in range(kills)):
        process = subprocess.Popen(
            command(folder, index), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and count_windows(index) <= target:
            time.sleep(0.005)
        try:
            process.wait(random.uniform(0.0, 0.2))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hits += 1
    second = subprocess.Popen(
        command(folder, index), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    run_undisturbed(folder, index)
    _, errors = second.communicate()
    assert second.returncode in (0, EXIT_SOME_FAILED), errors.decode()
    run_undisturbed(folder, index)  # what the second process was busy with
    return hits


def count_windows(index: Path) -> int:
    try:
        with sqlite3.connect(f"file:{index}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM window").fetchone()[0])
    except sqlite3.Error:  # not there yet
        return -1


def rows(index: Path) -> dict[str, list[Any]]:
    """Return the content of an index without row ids."""
    with sqlite3.connect(index) as database:
        contents = database.execute(
            "SELECT sha256, settings_key, model, window_seconds, duration_seconds, error, "
            "is_complete, claim, notices FROM content ORDER BY sha256"
        ).fetchall()
        paths = database.execute(
            "SELECT path, sha256, stamp FROM path JOIN content ON content.id = path.content "
            "ORDER BY path"
        ).fetchall()
        windows = database.execute(
            "SELECT sha256, number, start_seconds, end_seconds, frame_times, note, screen_text, "
            "cues, cue_times FROM window JOIN content ON content.id = window.content "
            "ORDER BY sha256, number"
        ).fetchall()
        texts = database.execute(
            "SELECT sha256, number FROM window_text JOIN window ON window.id = window_text.rowid "
            "JOIN content ON content.id = window.content WHERE window_text MATCH "
            "'background OR circle OR square' ORDER BY sha256, number"
        ).fetchall()
    return {"contents": contents, "paths": paths, "windows": windows, "texts": texts}


def time_searches(folder: Path, windows: int, random: Random) -> dict[str, float]:
    """Fill an index with notes, and return the median and the longest milliseconds of a search."""
    notes = [describe(sample_scene(random)) for _ in range(min(windows, 5_000))]
    per_video = 100
    times = []
    with IndexStore(folder / "large.sqlite") as store:
        with store._transaction() as database:
            for video in range(windows // per_video):
                database.execute(
                    "INSERT INTO content (sha256, settings_key, model, window_seconds, "
                    "is_complete) VALUES (?, 'k', 'nano', 10, 1)",
                    (f"{video:064x}",),
                )
            for number in range(windows):
                note = random.choice(notes)
                database.execute(
                    "INSERT INTO window (id, content, number, start_seconds, end_seconds, "
                    "frame_times, note, screen_text, cues, cue_times) "
                    "VALUES (?, ?, ?, ?, ?, '[0]', ?, '', '', '[]')",
                    (number + 1, number // per_video + 1, number % per_video,
                     10.0 * (number % per_video), 10.0 * (number % per_video) + 10, note),
                )  # fmt: skip
        store.rebuild_text()
        for query in QUERIES * 5:
            started = time.perf_counter()
            store.search(query, limit=64)
            times.append(1000 * (time.perf_counter() - started))
        store.claim("x", settings_key="k", model="m", window_seconds=1, owner=this_process())
        store.add_window("x", IndexedWindow(0, 0, 1, (0.0,), "an okapi"))
        assert [one.note for _, one in store.search("okapi")] == ["an okapi"]
    return {
        "median": round(statistics.median(times), 1),
        "longest": round(max(times), 1),
    }


def main() -> int:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--clips", type=Path, default=None)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random = Random(given.seed)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="smolvideo-index-") as work:
        base = Path(work)
        equal = True
        if given.files:
            folder = make_folder(base / "videos", given.files, clips=given.clips, seed=given.seed)
            one, other = base / "undisturbed.sqlite", base / "killed.sqlite"
            seconds = run_undisturbed(folder, one)
            expected = rows(one)
            hits = run_killed(folder, other, len(expected["windows"]), given.kills, random)
            found = rows(other)
            equal = found == expected
            for name in expected:
                if found[name] != expected[name]:
                    sys.stderr.write(f"{name}: {set(found[name]) ^ set(expected[name])}\n")
            result = {
                "files": len(expected["paths"]),
                "videos": len(expected["contents"]),
                "windows": len(expected["windows"]),
                "kills": hits,
                "equal": equal,
                "undisturbed_seconds": round(seconds, 1),
            }
        if given.windows:
            times = time_searches(base, given.windows, random)
            result |= {"searched_windows": given.windows, "milliseconds": times}
            equal &= times["median"] <= MAX_MILLISECONDS
    result["machine"] = machine()
    sys.stdout.write(json.dumps(result) + "\n")
    return int(not equal)


if __name__ == "__main__":
    raise SystemExit(main())
