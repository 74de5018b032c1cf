"""Eval runs: shared frames, counted failures, and equal bytes after any interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support import tinymodels
from support.project import ROOT
from support.terminals import environment

from smolvideo.engines import Engine, GenerationOptions, NativeEngine, load_engine
from smolvideo.errors import RecordError, UsageError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.item import Benchmark
from smolvideo.evals.loader import ClipLoader, prefetch_one
from smolvideo.evals.run import EvalProgress, open_run, run_eval
from smolvideo.evals.run_folder import EvalAnswer, RunFolder
from smolvideo.evals.scores import build_report
from smolvideo.evals.settings import CONTROLS, EvalSettings, select_items
from smolvideo.evals.videos import VideoFinder, VideoFolder
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling

SAMPLES = ROOT / "samples"
QUICK = EvalSettings(
    prompt="plain",
    sampling=FrameSampling(max_frames=3),
    prompt_options=PromptOptions(geometry="direct"),
    generation=GenerationOptions(max_new_tokens=4),
)
VIDEOS = ("circle_right.mp4", "triangle_down.mp4", "three_still_portrait.mp4")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> NativeEngine:
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("evals") / "tiny")
    loaded = load_engine(str(folder), engine="native", device="cpu")
    assert isinstance(loaded, NativeEngine)
    return loaded


def write_items(folder: Path, videos: tuple[str, ...] = VIDEOS, each: int = 2) -> Benchmark:
    lines: list[dict[str, Any]] = [
        {
            "id": f"{video}/{number}",
            "video": video,
            "question": f"What happens {number}?",
            "options": ["a circle", "a square", f"a star {number}"],
            "answer_index": number % 3,
            "groups": {"category": f"kind {number % 2}"},
            "subtitles": "Look.",
        }
        for video in videos
        for number in range(each)
    ]
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_benchmark("jsonl", path)


def finder(folder: Path = SAMPLES) -> VideoFinder:
    return VideoFinder(VideoFolder(folder))


def run_all(
    folder: Path, benchmark: Benchmark, engine: Engine, how: EvalSettings = QUICK, **more: Any
) -> RunFolder:
    videos = more.pop("videos", SAMPLES)
    run = open_run(folder, benchmark, how, engine)
    run_eval(run, how, engine, finder(videos), **more)
    return run


@pytest.fixture
def encoded(engine: NativeEngine) -> Iterator[list[int]]:
    sizes: list[int] = []
    hook = engine.network.model.vision_model.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0]))
    )
    yield sizes
    hook.remove()


def test_questions_of_one_video_share_its_frames(
    tmp_path: Path, engine: NativeEngine, encoded: list[int]
) -> None:
    benchmark = write_items(tmp_path, ("circle_right.mp4",), each=9)
    run = run_all(tmp_path / "run", benchmark, engine)
    assert sum(encoded) == 3, "three frames for nine questions"
    assert [answer.failed for answer in run.answers().values()] == [False] * 9


def test_answers_equal_single_questions(tmp_path: Path, engine: NativeEngine) -> None:
    benchmark = write_items(tmp_path, each=3)
    together = run_all(tmp_path / "all", benchmark, engine).answers()
    for number, item in enumerate(benchmark.items):
        alone = replace(benchmark, items=(item,))
        run = run_all(tmp_path / str(number), alone, engine)
        assert run.answers()["main", item.id] == together["main", item.id]


@pytest.mark.parametrize("scoring", ["generate", "likelihood", "options"])
def test_control_conditions(tmp_path: Path, engine: NativeEngine, scoring: Any) -> None:
    benchmark = write_items(tmp_path, each=3)
    how = replace(QUICK, controls=CONTROLS, scoring=scoring)
    answers = run_all(tmp_path / "run", benchmark, engine, how).answers()
    assert len(answers) == 5 * 9
    assert {key[0] for key in answers} == {"main", *CONTROLS}
    main = [answers["main", item.id] for item in benchmark.items]
    for condition in CONTROLS:
        others = [answers[condition, item.id] for item in benchmark.items]
        assert not any(one.failed for one in others)
        assert [one.frames for one in others] == [
            0 if condition == "subtitles-only" else one.frames for one in main
        ]
        if scoring != "generate":
            assert [one.scores for one in others] != [one.scores for one in main]
    for item in benchmark.items:
        answer = answers["shuffled-options", item.id]
        assert sorted(answer.order or ()) == [0, 1, 2]
        if answer.choice is not None:
            assert answer.correct == (answer.choice == item.answer_index)


@pytest.mark.parametrize("scoring", ["generate", "likelihood", "options"])
def test_transformers_engine_answers_and_scores(
    tmp_path: Path, engine: NativeEngine, scoring: Any
) -> None:
    other = load_engine(engine.checkpoint, engine="transformers", device="cpu")
    benchmark, how = write_items(tmp_path), replace(QUICK, scoring=scoring)
    run = run_all(tmp_path / "run", benchmark, other, how)
    assert not any(answer.failed for answer in run.answers().values())
    native = run_all(tmp_path / "native", benchmark, engine, how).answers()
    for key, answer in run.answers().items():
        assert (answer.choice, answer.stop_reason) == (native[key].choice, native[key].stop_reason)
        if scoring != "generate":
            assert answer.scores == pytest.approx(native[key].scores, abs=0.01)


def test_image_among_videos_ignores_the_window(tmp_path: Path, engine: NativeEngine) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "still.png")
    shutil.copy(SAMPLES / "circle_right.mp4", tmp_path)
    benchmark = write_items(tmp_path, ("circle_right.mp4", "still.png"), each=1)
    how = replace(QUICK, sampling=FrameSampling(max_frames=3, start_seconds=1.0, end_seconds=2.0))
    run = run_all(tmp_path / "run", benchmark, engine, how, videos=tmp_path)
    assert not any(answer.failed for answer in run.answers().values())
    circle, still = run.videos().values()
    assert (circle.frame_times[0], circle.notices) == (1.0, ())
    assert still.frame_times == (0.0,)
    assert "still picture" in "".join(still.notices)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, engine: NativeEngine
) -> tuple[Benchmark, bytes, Path]:
    folder = tmp_path_factory.mktemp("finished")
    benchmark = write_items(folder, VIDEOS[:2])
    how = replace(QUICK, controls=("blind", "shuffled-options"), scoring="likelihood")
    run = run_all(folder / "run", benchmark, engine, how)
    return benchmark, run.answers_path.read_bytes(), run.folder


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_run_cut_anywhere_and_resumed_is_byte_equal(
    data: st.DataObject,
    finished: tuple[Benchmark, bytes, Path],
    engine: NativeEngine,
    tmp_path: Path,
) -> None:
    benchmark, expected, folder = finished
    how = replace(QUICK, controls=("blind", "shuffled-options"), scoring="likelihood")
    again = tmp_path / str(time.monotonic_ns())
    shutil.copytree(folder, again)
    cut = data.draw(st.integers(0, len(expected)))
    (again / "answers.jsonl").write_bytes(expected[:cut])
    run = run_all(again, benchmark, engine, how)
    assert run.answers_path.read_bytes() == expected


_KILLED = """
import sys, time
from pathlib import Path
from smolvideo.engines import GenerationOptions, load_engine
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.run import open_run, run_eval
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.videos import VideoFinder, VideoFolder
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling

def hold(news):
    if news.done == 4:
        print("held", flush=True)
        time.sleep(600)

folder, samples, checkpoint = map(Path, sys.argv[1:])
engine = load_engine(str(checkpoint), engine="native", device="cpu")
how = EvalSettings(
    prompt="plain",
    sampling=FrameSampling(max_frames=3),
    prompt_options=PromptOptions(geometry="direct"),
    generation=GenerationOptions(max_new_tokens=4),
)
benchmark = load_benchmark("jsonl", folder / "items.jsonl")
run = open_run(folder / "run", benchmark, how, engine)
run_eval(run, how, engine, VideoFinder(VideoFolder(samples)), on_news=hold)
"""


def test_killed_and_resumed_run_is_byte_equal(tmp_path: Path, engine: NativeEngine) -> None:
    """Killed within a video; another process completes the run.

    ``test_run_cut_anywhere_and_resumed_is_byte_equal`` covers every other moment.
    """
    benchmark = write_items(tmp_path, VIDEOS[:2], each=3)
    command = [sys.executable, "-c", _KILLED, tmp_path, SAMPLES, engine.checkpoint.folder]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGKILL)
    killed = (tmp_path / "run" / "answers.jsonl").read_bytes()
    assert killed.count(b"\n") == 4
    resumed = run_all(tmp_path / "run", benchmark, engine).answers_path.read_bytes()
    undisturbed = run_all(tmp_path / "other", benchmark, engine).answers_path.read_bytes()
    assert resumed == undisturbed
    assert resumed.startswith(killed)
    assert resumed.count(b"\n") == 6


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Benchmark, Path]:
    """Return items of six videos, one missing and one invalid."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in VIDEOS:
        shutil.copyfile(SAMPLES / name, videos / name)
    shutil.copyfile(SAMPLES / VIDEOS[0], videos / "again.mp4")
    (videos / "broken.mp4").write_bytes(b"\0" * 3000)
    names = (VIDEOS[0], "missing.mp4", VIDEOS[1], "broken.mp4", VIDEOS[2], "again.mp4")
    return write_items(tmp_path, names), videos


def test_missing_and_broken_videos_are_counted(
    broken: tuple[Benchmark, Path], tmp_path: Path, engine: NativeEngine
) -> None:
    benchmark, videos = broken
    news: list[EvalProgress] = []
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos, on_news=news.append)
    report = build_report(run)
    score = report.main.overall
    assert (score.share.answered, score.total, score.coverage) == (8, 12, 8 / 12)
    assert score.counts["missing"] == 2
    assert score.counts["video"] == 2
    assert score.bounds is not None
    assert score.bounds.low == score.share.right / 12
    assert score.bounds.high == (score.share.right + 4) / 12
    assert (report.videos, report.videos_seen, report.complete) == (6, 4, False)
    assert (news[-1].done, news[-1].total, news[-1].failed) == (12, 12, 4)
    assert run.answers()["main", "missing.mp4/0"].error_kind == "missing"


def test_resume_retries_only_failures(
    broken: tuple[Benchmark, Path], tmp_path: Path, engine: NativeEngine, encoded: list[int]
) -> None:
    benchmark, videos = broken
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos)
    before = run.answers_path.read_bytes()
    encoded.clear()
    run_all(tmp_path / "run", benchmark, engine, videos=videos)
    assert encoded == []
    assert run.answers_path.read_bytes() == before
    shutil.copyfile(SAMPLES / VIDEOS[1], videos / "missing.mp4")
    run_all(tmp_path / "run", benchmark, engine, videos=videos)
    assert sum(encoded) == 3, "the one video that has come"
    assert build_report(run).main.overall.share.answered == 10
    shutil.copyfile(SAMPLES / VIDEOS[2], videos / "broken.mp4")
    undisturbed = run_all(tmp_path / "other", benchmark, engine, videos=videos)
    run_all(tmp_path / "run", benchmark, engine, videos=videos)
    assert run.answers_path.read_bytes() == undisturbed.answers_path.read_bytes()


def test_only_failed_skips_pending_items(
    broken: tuple[Benchmark, Path], tmp_path: Path, engine: NativeEngine
) -> None:
    benchmark, videos = broken
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos)
    lines = run.answers_path.read_bytes().splitlines(keepends=True)
    run.answers_path.write_bytes(b"".join(lines[:-2]))
    shutil.copyfile(SAMPLES / VIDEOS[1], videos / "missing.mp4")
    run_all(tmp_path / "run", benchmark, engine, videos=videos, only_failed=True)
    answers = run.answers()
    assert not answers["main", "missing.mp4/1"].failed
    assert ("main", "again.mp4/0") not in answers


def test_other_settings_require_another_run(tmp_path: Path, engine: NativeEngine) -> None:
    benchmark = write_items(tmp_path)
    run_all(tmp_path / "run", benchmark, engine)
    with pytest.raises(UsageError, match="seed: 0, now 5"):
        open_run(tmp_path / "run", benchmark, replace(QUICK, seed=5), engine)
    other = write_items(tmp_path, each=3)
    with pytest.raises(UsageError, match="benchmark"):
        open_run(tmp_path / "run", other, QUICK, engine)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(RecordError, match="something else than a run"):
        open_run(tmp_path / "full", benchmark, QUICK, engine)
    with pytest.raises(RecordError, match="is no run"):
        RunFolder.read(tmp_path / "absent")


def test_run_is_locked_by_one_process(tmp_path: Path, engine: NativeEngine) -> None:
    run = open_run(tmp_path / "run", write_items(tmp_path), QUICK, engine)
    with run.lock(), pytest.raises(RecordError, match="another process"):
        run_eval(run, QUICK, engine, finder())


def test_samples_are_deterministic_and_nested(tmp_path: Path) -> None:
    items = write_items(tmp_path, each=20).items
    small = select_items(items, replace(QUICK, sample=7))
    large = select_items(items, replace(QUICK, sample=30))
    assert len(small) == 7
    assert set(item.id for item in small) < set(item.id for item in large)
    assert [item for item in items if item in small] == list(small), "in the benchmark's order"
    assert select_items(items, replace(QUICK, sample=7, seed=1)) != small
    assert select_items(items, replace(QUICK, sample=7, limit=3)) == small[:3]
    assert select_items(items, QUICK) == items


def test_frames_over_the_context_are_reduced(tmp_path: Path, engine: NativeEngine) -> None:
    path = tmp_path / "long.jsonl"
    line = {"video": VIDEOS[0], "options": ["x", "y"], "answer_index": 0}
    long = "word " * 350
    path.write_text("\n".join(json.dumps(line | {"question": text}) for text in ("?", long)))
    benchmark = load_benchmark("jsonl", path)
    many = FrameSampling(max_frames=60)
    run = run_all(tmp_path / "run", benchmark, engine, replace(QUICK, sampling=many))
    short, reduced = run.answers().values()
    assert short.frames > reduced.frames > 0
    assert reduced.prompt_tokens <= tinymodels.CONTEXT_TOKENS
    strict = replace(many, reduce_to_fit=False)
    run = run_all(tmp_path / "strict", benchmark, engine, replace(QUICK, sampling=strict))
    short, refused = run.answers().values()
    assert (short.failed, refused.error_kind) == (False, "prompt")


def test_parts_of_one_video_are_separate_clips(tmp_path: Path, engine: NativeEngine) -> None:
    path = tmp_path / "parts.jsonl"
    line = {"video": VIDEOS[0], "question": "?", "options": ["x", "y"], "answer_index": 0}
    path.write_text("\n".join(json.dumps(line | {"end": end}) for end in (1.0, 4.0)))
    run = run_all(tmp_path / "run", load_benchmark("jsonl", path), engine)
    first, second = run.videos().values()
    assert max(first.frame_times) <= 1.0 < max(second.frame_times) <= 4.0
    assert len(list((tmp_path / "run" / "frames").glob("*.jpg"))) == 2


def test_folder_of_frames_has_three_frames_per_second(tmp_path: Path, engine: NativeEngine) -> None:
    frames = tmp_path / "videos" / "friends_07"
    frames.mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (40, 30), (20 * number, 0, 0)).save(frames / f"{number:05d}.jpg")
    entry = {"video": "friends_07", "question": "?", "candidates": ["x", "y"], "answer": "y"}
    path = tmp_path / "episodic_reasoning.json"
    path.write_text(json.dumps([entry | {"start": 1, "end": 3}]))
    benchmark = load_benchmark("mvbench", path)
    run = run_all(tmp_path / "run", benchmark, engine, videos=tmp_path / "videos")
    ((answer,), (seen,)) = run.answers().values(), run.videos().values()
    assert not answer.failed, answer.error
    assert seen.frame_times == (3.0, 6.0, 9.0), "from frame 3 to frame 9"


def test_subtitles_are_limited_to_the_frames(tmp_path: Path, engine: NativeEngine) -> None:
    name = "triangle_then_cross_subtitled"
    row = {
        "videoID": name,
        "question_id": "1",
        "question": "?",
        "options": ["A. x", "B. y", "C. z", "D. w"],
        "answer": "B",
    }
    path = tmp_path / "mme.json"
    path.write_text(json.dumps([row]))
    benchmark = load_benchmark("video-mme", path)
    for choice, frames, expected in (
        ("auto", 3, None),
        ("all", 1, "A triangle waits in the dark.\nThen a cross takes its turn."),
        ("frames", 1, "A triangle waits in the dark."),
    ):
        how = replace(QUICK, subtitles=choice, sampling=FrameSampling(frames, end_seconds=2.0))
        looker = ClipLoader(engine.checkpoint, how, "video-mme", finder())
        (ready,) = looker.load(benchmark.items).items
        assert ready.error is None
        assert ready.subtitles == expected


def test_incompatible_settings_are_usage_errors(tmp_path: Path, engine: NativeEngine) -> None:
    benchmark = write_items(tmp_path)
    for changes, told in (
        ({"prompt": "official"}, "`official` is made for `cinepile`, not for `jsonl`"),
        ({"prompt": "open", "scoring": "likelihood"}, "`open` shows no letters to score"),
        ({"prompt": "open", "controls": ("shuffled-options",)}, "no options to shuffle"),
        ({"prompt": "open", "controls": ("subtitles-only",)}, "shows no subtitles"),
        ({"subtitles": "frames"}, "have no times, so no frames to go by"),
    ):
        with pytest.raises(UsageError, match=told):
            open_run(tmp_path / "run", benchmark, replace(QUICK, **changes), engine)  # type: ignore[arg-type]


def test_prefetch_one_computes_one_item_ahead() -> None:
    made: list[int] = []
    ready = [threading.Event() for _ in range(6)]

    def make(number: int) -> int:
        made.append(number)
        ready[number].set()
        return number

    for used in prefetch_one(range(6), make):
        assert ready[min(5, used + 1)].wait(120), "the next is made while this one is used"
        assert made == list(range(min(6, used + 2)))


def test_answer_json_round_trip() -> None:
    answer = EvalAnswer(
        "i", "blind", "v\u2028\n", text="a\x85", scores=(-1.5, -2.0), order=(1, 0), choice=0
    )
    assert "\n" not in answer.to_json()
    assert EvalAnswer.from_json(answer.to_json()) == answer
    with pytest.raises(ValueError, match="`condition` is missing"):
        EvalAnswer.from_json('{"record": "smolvideo.eval-answer/1", "id": "x"}')
