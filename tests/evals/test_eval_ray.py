"""A benchmark and an index on a local Ray cluster of two workers, which both use: bytes and rows of
a local run, and a worker's death.
"""

import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from support import tinymodels
from support.project import ROOT
from support.rounds import write_rounds

pytest.importorskip("ray", reason="Ray is not installed: pip install 'smolvideo[ray]'")

from smolvideo.cli.main import cli
from smolvideo.engines import Engine, EngineSpec, GenerationOptions
from smolvideo.evals.item import Benchmark
from smolvideo.evals.loader import ClipLoader
from smolvideo.evals.ray_run import cluster_model
from smolvideo.evals.run import EvalModel, EvalProgress, local_model, open_run_of, run_clips
from smolvideo.evals.run_folder import RunFolder
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.videos import VideoFinder, VideoFolder
from smolvideo.index import IndexOptions, IndexStore
from smolvideo.index.build import IndexedItem, IndexRun
from smolvideo.index.ray_run import run_on_cluster
from smolvideo.prompt import PromptOptions
from smolvideo.ray_cluster import RayOptions
from smolvideo.sampling import FrameSampling
from smolvideo.summaries import list_items

# Ray warns of its own settings.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]

SAMPLES = ROOT / "samples"
VIDEOS = ("circle_right.mp4", "triangle_down.mp4", "gone.mp4", "three_shots.mp4")
QUICK = EvalSettings(
    prompt="plain",
    controls=("blind",),
    sampling=FrameSampling(max_frames=2),
    prompt_options=PromptOptions(geometry="direct"),
    generation=GenerationOptions(max_new_tokens=2),
)


@pytest.fixture(scope="module")
def _loopback_only() -> None:
    """Allow the machine's own address, which Ray uses."""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("ray") / "tiny")
    return EngineSpec(str(folder), device="cpu")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """No video's questions follow each other, and each video has two parts."""
    return write_rounds(tmp_path_factory.mktemp("ray") / "items.jsonl", VIDEOS)


@pytest.fixture(scope="module")
def cluster(spec: EngineSpec, _loopback_only: None) -> Iterator[EvalModel]:
    with cluster_model(spec, RayOptions(workers=2)) as model:
        yield model


def run_all(
    folder: Path, benchmark: Benchmark, model: EvalModel, news: list[EvalProgress] | None = None
) -> RunFolder:
    run = open_run_of(folder, benchmark, QUICK, model)
    loader = ClipLoader(model.checkpoint, QUICK, "jsonl", VideoFinder(VideoFolder(SAMPLES)))
    run_clips(run, loader, model.answers(loader), on_news=(news if news is not None else []).append)
    return run


def kill_one_worker(stop: threading.Event, killed: list[int]) -> None:
    """Kill the first process that answers."""
    while not stop.is_set() and not killed:
        for process in psutil.Process().children(recursive=True):
            try:
                if "(_Worker)" in process.name() or "(_Worker)" in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            except psutil.Error:
                continue
        time.sleep(0.02)


def test_cluster_resumes_a_local_run_though_a_worker_dies(
    benchmark: Benchmark, spec: EngineSpec, cluster: EvalModel, tmp_path: Path
) -> None:
    model = local_model(spec.load())
    assert cluster.identity == model.identity
    here = run_all(tmp_path / "here", benchmark, model)
    # A local run that was killed after the first clip, within a line.
    there = open_run_of(tmp_path / "there", benchmark, QUICK, model)
    lines = here.answers_path.read_bytes().splitlines(keepends=True)
    there.answers_path.write_bytes(b"".join(lines[:5]) + lines[5][:30])
    there.videos_path.write_bytes(b"".join(here.videos_path.read_bytes().splitlines(True)[:2]))
    stop, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=kill_one_worker, args=(stop, killed))
    killer.start()
    news: list[EvalProgress] = []
    run_all(there.folder, benchmark, cluster, news)
    stop.set()
    killer.join()
    assert killed, "no worker was found to kill"
    assert news[0].done == 5
    for name in ("items.jsonl", "answers.jsonl"):
        assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()
    assert there.videos().keys() == here.videos().keys()
    strips = {strip.name: strip.read_bytes() for strip in (here.folder / "frames").iterdir()}
    for strip in (there.folder / "frames").iterdir():
        assert strip.read_bytes() == strips[strip.name]
    run_all(there.folder, benchmark, model)
    assert there.answers_path.read_bytes() == here.answers_path.read_bytes()


def index_of(path: Path, videos: Path, cluster: RayOptions | None) -> list[IndexedItem]:
    """Index with nano, two windows per video; for a cluster, this process loads no engine."""
    spec = EngineSpec("nano", device="cpu")
    load = spec.load if cluster is None else forbidden
    options = IndexOptions(window_seconds=3.0, max_frames=2)
    with IndexStore(path) as store:
        run = IndexRun(spec.checkpoint(), load, options, store)
        items = list_items([videos])
        if cluster is None:
            return list(run.run(items))
        return list(run_on_cluster(run, items, spec, cluster))


def forbidden() -> Engine:
    raise AssertionError("the engine was loaded by the process that holds the index")


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as database:
        names = ("content", "path", "failure", "window", "window_text")
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}


@pytest.mark.usefixtures("cluster")
def test_index_of_the_cluster_is_that_of_a_local_run(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("circle_right.mp4", "triangle_then_cross_subtitled.mp4"):
        shutil.copyfile(SAMPLES / name, videos / name)
    shutil.copyfile(SAMPLES / "circle_right.mp4", videos / "z again.mp4")
    subtitles = "triangle_then_cross_subtitled.srt"
    shutil.copyfile(SAMPLES / subtitles, videos / subtitles)
    (videos / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 99)
    (videos / "empty.mp4").write_bytes(b"")
    here, there = tmp_path / "here.sqlite", tmp_path / "there.sqlite"
    done = index_of(here, videos, None)
    assert index_of(there, videos, RayOptions(workers=2)) == done
    assert [one.outcome for one in done] == ["failed", "made", "failed", "made", "same"]
    assert tables(there) == tables(here)
    assert index_of(there, videos, RayOptions(workers=2)) == index_of(here, videos, None)


def test_options_of_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"video": "v", "question": "?", "options": ["x", "y"], "answer_index": 0}\n')

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["eval", "jsonl", str(path), "--model", "nano", *arguments])
        assert done.exit_code == 2
        return done.stderr

    assert "`--ray-workers` has no effect without `--ray`" in said("--ray-workers", "2")
    assert "`--download` is for this process alone" in said("--ray", "--download")
    monkeypatch.setattr("smolvideo.ray_cluster.find_spec", lambda _: None)
    for words in (["--ray"], ["--ray", "auto"], ["--ray", "--limit", "1"]):
        assert "pip install 'smolvideo[ray]'" in said(*words)
