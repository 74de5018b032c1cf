"""Summaries on a local Ray cluster of two workers: records of a local run, and a worker's death."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from stress.kill_and_resume import compare
from support.project import ROOT
from support.terminals import environment

pytest.importorskip("ray", reason="Ray is not installed: pip install 'smolvideo[ray]'")

from smolvideo.engines import Engine, EngineSpec, load_engine
from smolvideo.ray_cluster import RayOptions
from smolvideo.summaries import OutputOptions, RunOptions, SummaryOptions, list_items, open_run
from smolvideo.summaries.ray_run import run_on_cluster

# Ray warns of its own settings.
pytestmark = pytest.mark.filterwarnings("default")

OPTIONS = SummaryOptions(max_frames=6)
FORMATS = ("txt", "srt")


@pytest.fixture
def _loopback_only() -> None:
    """Allow the machine's own address, which Ray uses."""


@pytest.fixture(scope="module")
def nano() -> Engine:
    return load_engine("nano")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "videos"
    base.mkdir()
    for name in ("circle_right", "circle_turns_green", "square_then_circle", "three_shots"):
        shutil.copyfile(ROOT / "samples" / f"{name}.mp4", base / f"{name}.mp4")
    shutil.copyfile(ROOT / "samples" / "circle_right.mp4", base / "again.mp4")
    (base / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 99)
    (base / "broken too.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 99)
    (base / "empty.mp4").write_bytes(b"")
    return base


def run(nano: Engine, folder: Path, out: Path, cluster: RayOptions | None) -> dict[str, str]:
    outputs = OutputOptions(out, formats=FORMATS)
    with open_run(nano.checkpoint, lambda: nano, [folder], OPTIONS, outputs, RunOptions()) as batch:
        items = list_items([folder])
        if cluster is None:
            done = list(batch.run(items))
        else:
            done = list(run_on_cluster(batch, items, EngineSpec("nano"), cluster))
        assert batch.tally.total == len(items)
    return {one.item.name: one.outcome for one in done}


def kill_one_worker(stop: threading.Event, killed: list[int]) -> None:
    """Kill the first process that has loaded an engine."""
    while not stop.is_set() and not killed:
        for process in psutil.Process().children(recursive=True):
            try:
                if "MapWorker" in process.name() or "MapWorker" in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            except psutil.Error:
                continue
        time.sleep(0.05)


@pytest.mark.slow
def test_records_equal_a_local_run_though_a_worker_dies(
    nano: Engine, folder: Path, tmp_path: Path
) -> None:
    import ray

    here = run(nano, folder, tmp_path / "here", None)
    two = RayOptions(workers=2)
    try:
        stop, killed = threading.Event(), list[int]()
        killer = threading.Thread(target=kill_one_worker, args=(stop, killed))
        killer.start()
        assert run(nano, folder, tmp_path / "there", two) == here
        stop.set()
        killer.join()
        assert killed, "no worker was found to kill"
        compare(tmp_path / "here", tmp_path / "there")
        again = run(nano, folder, tmp_path / "there", two)
        assert set(again.values()) == {"kept", "failed"}
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_interrupt_leaves_no_process_behind(folder: Path, tmp_path: Path) -> None:
    words = ["summarise", str(folder), "--ray", "--out", str(tmp_path / "out"), "--quiet"]
    command = [sys.executable, "-m", "smolvideo", *words]
    family: set[psutil.Process] = set()
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE) as process:
        while not any("MapWorker" in " ".join(cmdline_of(one)) for one in family):
            assert process.poll() is None, "it ended before it could be interrupted"
            family |= set(psutil.Process(process.pid).children(recursive=True))
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
        assert process.returncode == 130, said
    left = [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert [cmdline_of(one) for one in left] == []


def cmdline_of(process: psutil.Process) -> list[str]:
    try:
        return [process.name(), *process.cmdline()]
    except psutil.Error:
        return []
