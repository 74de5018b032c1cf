"""Compare a benchmark on two Ray workers with a local run, killing a worker and the driver.

Every video is a copy of a sample under a name of its own, with several questions. The cluster run
is started, its driver killed with SIGKILL, started again, a worker killed, and left to finish; its
items and answers must be those of the local run, byte by byte. The largest memory of the driver is
printed for each quarter of the answers: it must not grow with their number.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
SAMPLES = ("circle_right", "triangle_down", "three_shots", "square_then_circle")


def write_benchmark(folder: Path, videos: int, questions: int) -> Path:
    lines = []
    for number in range(videos):
        name = f"{number:05}.mp4"
        shutil.copyfile(ROOT / "samples" / f"{SAMPLES[number % 4]}.mp4", folder / name)
        lines += [
            {
                "id": f"{name}/{one}",
                "video": name,
                "question": f"What moves, and how? ({one})",
                "options": ["a red circle", "a blue square", "a green triangle"],
                "answer_index": one % 3,
            }
            for one in range(questions)
        ]
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def command(data: Path, run: Path, *more: str) -> list[str]:
    words = [
        "eval",
        "jsonl",
        str(data),
        "--model",
        "nano",
        "--prompt",
        "plain",
        "--max-frames",
        "2",
    ]
    words += ["--max-new-tokens", "4", "--run", str(run), "--quiet", "--json", *more]
    return [sys.executable, "-m", "smolvideo", *words]


def count_answers(run: Path) -> int:
    path = run / "answers.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def watch(words: list[str], run: Path, total: int, *, kill_at: int, worker: bool) -> list[int]:
    """Run until the end, or to ``kill_at`` answers; return the driver's MiB by quarter.

    At ``kill_at`` the driver is killed, or with ``worker`` one worker, and the run continues.
    """
    memory = [0] * 4
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            done = count_answers(run)
            try:
                used = psutil.Process(process.pid).memory_info().rss // 2**20
            except psutil.Error:
                break
            quarter = min(3, 4 * done // total)
            memory[quarter] = max(memory[quarter], used)
            if 0 < kill_at <= done:
                kill_at = 0
                if not worker:
                    process.send_signal(signal.SIGKILL)
                elif victims := find_workers(process.pid):
                    os.kill(victims[0], signal.SIGKILL)
            time.sleep(0.2)
    return memory


def find_workers(driver: int) -> list[int]:
    found = []
    for one in psutil.Process(driver).children(recursive=True):
        try:
            if "(_Worker)" in " ".join([one.name(), *one.cmdline()]):
                found.append(one.pid)
        except psutil.Error:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=10)
    given = parser.parse_args()
    total = given.videos * given.questions
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_benchmark(folder, given.videos, given.questions)
        here, there = folder / "here", folder / "there"
        watch(command(data, here), here, total, kill_at=0, worker=False)
        ray = command(data, there, "--ray", "--ray-workers", "2")
        watch(ray, there, total, kill_at=total // 4, worker=False)
        after_kill = count_answers(there)
        memory = watch(ray, there, total, kill_at=total // 2, worker=True)
        equal = all(
            (here / name).read_bytes() == (there / name).read_bytes()
            for name in ("items.jsonl", "answers.jsonl")
        )
        result = {
            "answers": count_answers(there),
            "answers_when_the_driver_was_killed": after_kill,
            "equal_to_the_local_run": equal,
            "driver_mib_by_quarter": memory,
        }
        sys.stdout.write(json.dumps(result) + "\n")
        sys.exit(0 if equal and count_answers(there) == total else 1)


if __name__ == "__main__":
    main()
