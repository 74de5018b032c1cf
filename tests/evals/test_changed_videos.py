"""Videos that change between or during runs, and tampered run folders."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from evals import test_run
from evals.test_run import QUICK, SAMPLES, VIDEOS, open_run, run_all, run_eval, write_items

from smolvideo.cli.main import cli
from smolvideo.engines import NativeEngine
from smolvideo.errors import RecordError, UsageError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.item import Benchmark
from smolvideo.evals.loader import ClipLoader
from smolvideo.evals.report_files import html_report
from smolvideo.evals.run_folder import RunFolder
from smolvideo.evals.scores import build_report
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.videos import VideoFinder, VideoFolder
from smolvideo.files import content_hash

engine = test_run.engine


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in VIDEOS[:2]:
        shutil.copyfile(SAMPLES / name, folder / name)
    return folder


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    return write_items(tmp_path, VIDEOS[:2], each=1)


def put(source: str, target: Path) -> None:
    """Replace the file atomically with other content, as a new download does."""
    beside = target.with_name("new")
    shutil.copyfile(SAMPLES / source, beside)
    os.replace(beside, target)


def resumed(
    run: RunFolder,
    benchmark: Benchmark,
    engine: NativeEngine,
    videos: Path,
    how: EvalSettings = QUICK,
    **more: Any,
) -> tuple[RunFolder, list[str]]:
    notes: list[str] = []
    again = open_run(run.folder, benchmark, how, engine)
    finder = VideoFinder(VideoFolder(videos))
    run_eval(again, how, engine, finder, on_note=notes.append, **more)
    return again, notes


@pytest.mark.parametrize("only_failed", [False, True])
def test_replaced_video_is_evaluated_again(
    only_failed: bool, tmp_path: Path, benchmark: Benchmark, videos: Path, engine: NativeEngine
) -> None:
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos)
    put(VIDEOS[2], videos / VIDEOS[0])
    run, notes = resumed(run, benchmark, engine, videos, only_failed=only_failed)
    (note,) = notes
    assert f"`{VIDEOS[0]}` has another content" in note
    assert "1 answer is asked anew" in note
    fresh = run_all(tmp_path / "fresh", benchmark, engine, videos=videos)
    assert run.answers_path.read_bytes() == fresh.answers_path.read_bytes()
    assert resumed(run, benchmark, engine, videos)[1] == []


def spoken(text: str) -> str:
    return f"1\n00:00:00,000 --> 00:00:09,000\n{text}\n"


def test_replaced_subtitles_are_evaluated_again(
    tmp_path: Path, videos: Path, engine: NativeEngine
) -> None:
    how = replace(QUICK, subtitles="all")
    rows = [
        {"id": name, "video": name, "question": "What?", "options": ["a", "b"], "answer_index": 0}
        for name in VIDEOS[:2]
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = load_benchmark("jsonl", tmp_path / "q.jsonl")
    file = videos / Path(VIDEOS[0]).with_suffix(".srt")
    file.write_text(spoken("red"))
    run = run_all(tmp_path / "run", benchmark, engine, how, videos=videos)
    answer = run.answers()["main", VIDEOS[0]]
    assert (answer.subtitles, answer.subtitles_sha256) == ("red", content_hash(file))
    assert resumed(run, benchmark, engine, videos, how=how)[1] == []

    file.write_text(spoken("blue"))
    other = videos / Path(VIDEOS[1]).with_suffix(".srt")
    other.write_text(spoken("new"))
    run, notes = resumed(run, benchmark, engine, videos, how=how)
    assert [name in note for name, note in zip((file.name, other.name), notes, strict=True)]
    assert all("1 answer is asked anew" in note for note in notes)
    fresh = run_all(tmp_path / "fresh", benchmark, engine, how, videos=videos)
    assert run.answers_path.read_bytes() == fresh.answers_path.read_bytes()
    kept = [notice for video in run.videos().values() for notice in video.notices]
    assert [note in kept for note in notes] == [True, True], "in the records, too"

    file.unlink()
    before = run.answers_path.read_bytes()
    run, notes = resumed(run, benchmark, engine, videos, how=how)
    assert ["1 subtitle file is no longer found" in note for note in notes] == [True]
    assert run.answers_path.read_bytes() == before


@pytest.mark.parametrize("flags", [["--json"], ["--json", "--quiet"]])
def test_json_names_replaced_videos(
    flags: list[str], tmp_path: Path, benchmark: Benchmark, videos: Path
) -> None:
    words = ["eval", "jsonl", str(tmp_path / "items.jsonl"), "--videos", str(videos)]
    words += ["--max-frames", "3", "--run", str(tmp_path / "run"), *flags]
    runner = CliRunner()
    assert "another content" not in runner.invoke(cli, words).stdout
    put(VIDEOS[2], videos / VIDEOS[0])
    result = runner.invoke(cli, words)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [VIDEOS[0] in note for note in report["notices"] if "another content" in note] == [True]
    assert ("another content" in result.stderr) == ("--quiet" not in flags)


def test_kill_before_new_answers_leaves_them_pending(
    tmp_path: Path, benchmark: Benchmark, videos: Path, engine: NativeEngine
) -> None:
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos)
    put(VIDEOS[2], videos / VIDEOS[0])
    looker = ClipLoader(engine.checkpoint, QUICK, "jsonl", VideoFinder(VideoFolder(videos)))
    with run.video_writer() as writer:
        writer.write(looker.load([benchmark.items[0]]).video)
    assert len(resumed(run, benchmark, engine, videos)[1]) == 1


def test_touched_video_is_unchanged(
    tmp_path: Path, benchmark: Benchmark, videos: Path, engine: NativeEngine
) -> None:
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos)
    before = run.answers_path.read_bytes()
    put(VIDEOS[0], videos / VIDEOS[0])
    hashed: list[Path] = []
    plain = ClipLoader.content_hash

    def counted(self: ClipLoader, path: Path) -> str:
        hashed.append(path)
        return plain(self, path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ClipLoader, "content_hash", counted)
        assert resumed(run, benchmark, engine, videos)[1] == []
        assert hashed == [videos / VIDEOS[0]]
        assert resumed(run, benchmark, engine, videos)[1] == []
    assert len(hashed) == 1, "its new state is noted"
    assert run.answers_path.read_bytes() == before


def test_answers_about_missing_videos_are_kept(
    tmp_path: Path, benchmark: Benchmark, videos: Path, engine: NativeEngine
) -> None:
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos)
    before = run.answers_path.read_bytes()
    (videos / VIDEOS[0]).unlink()
    (note,) = resumed(run, benchmark, engine, videos)[1]
    assert "1 video is no longer found" in note
    assert run.answers_path.read_bytes() == before
    (videos / VIDEOS[1]).write_bytes(b"")
    run, _ = resumed(run, benchmark, engine, videos)
    assert "is empty" in str(run.answers()["main", f"{VIDEOS[1]}/0"].error)


def growing(
    monkeypatch: pytest.MonkeyPatch, target: Path, then: Callable[[], None], times: int
) -> list[int]:
    """Call ``then`` while ``target`` is decoded, at most ``times`` times."""
    plain, done = ClipLoader._decoded, []

    def decoded(self: ClipLoader, *arguments: Any) -> Any:
        batch = plain(self, *arguments)
        if batch.metadata.name == target.name and len(done) < times:
            done.append(1)
            then()
        return batch

    monkeypatch.setattr(ClipLoader, "_decoded", decoded)
    return done


def test_video_changed_during_decoding_is_decoded_again(
    tmp_path: Path,
    benchmark: Benchmark,
    videos: Path,
    engine: NativeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = videos / VIDEOS[0]
    growing(monkeypatch, target, lambda: put(VIDEOS[2], target), times=1)
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos)
    monkeypatch.undo()
    fresh = run_all(tmp_path / "fresh", benchmark, engine, videos=videos)
    assert run.answers_path.read_bytes() == fresh.answers_path.read_bytes()


def test_ever_changing_video_is_an_error_and_retried_at_the_end(
    tmp_path: Path,
    benchmark: Benchmark,
    videos: Path,
    engine: NativeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = videos / VIDEOS[0]
    count = growing(monkeypatch, target, lambda: put(VIDEOS[0], target), times=6)
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos)
    assert len(count) == 6, "three tries, and once more at the end"
    answer = run.answers()["main", f"{VIDEOS[0]}/0"]
    assert (answer.error_kind, str(answer.error).endswith("changes while it is read")) == (
        "video",
        True,
    )
    monkeypatch.undo()
    growing(monkeypatch, target, lambda: put(VIDEOS[0], target), times=3)
    run, _ = resumed(run, benchmark, engine, videos)
    assert build_report(run).complete, "it was quiet at the end"


def test_empty_file_is_retried_at_the_end(
    tmp_path: Path,
    benchmark: Benchmark,
    videos: Path,
    engine: NativeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (videos / name for name in VIDEOS[:2])
    first.write_bytes(b"")
    growing(monkeypatch, second, lambda: put(VIDEOS[0], first), times=1)
    news: list[Any] = []
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos, on_news=news.append)
    assert build_report(run).complete
    assert [(one.done, one.failed) for one in news] == [(0, 0), (1, 1), (2, 1), (2, 0)]
    assert len(run.answers_path.read_bytes().splitlines()) == 2


def test_run_of_other_questions_is_not_resumed(
    tmp_path: Path, benchmark: Benchmark, engine: NativeEngine
) -> None:
    run = open_run(tmp_path / "run", benchmark, QUICK, engine)
    lines = (run.folder / "items.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    moved = first | {"video_names": ["elsewhere.mp4"]}
    (run.folder / "items.jsonl").write_text("\n".join([json.dumps(moved), *lines[1:]]))
    assert open_run(run.folder, benchmark, QUICK, engine).items == benchmark.items
    assert RunFolder.read(run.folder).items == benchmark.items, "written down as they are now"
    other = first | {"answer_index": 1}
    (run.folder / "items.jsonl").write_text("\n".join([json.dumps(other), *lines[1:]]))
    with pytest.raises(UsageError, match="other questions"):
        open_run(run.folder, benchmark, QUICK, engine)


def test_run_killed_before_its_first_file_starts_anew(
    tmp_path: Path, benchmark: Benchmark, engine: NativeEngine
) -> None:
    run = open_run(tmp_path / "run", benchmark, QUICK, engine)
    (run.folder / "run.json").unlink()
    (run.folder / ".items.jsonl.1a2b3c4d.part").touch()
    with pytest.raises(RecordError, match="is no run"):
        RunFolder.read(run.folder)
    assert open_run(run.folder, benchmark, QUICK, engine).items == run.items


@pytest.mark.parametrize(
    "name", ["run.json", "items.jsonl", "answers.jsonl", "videos.jsonl", "frames", ".lock"]
)
def test_symlinks_in_a_run_are_refused(
    name: str, tmp_path: Path, benchmark: Benchmark, engine: NativeEngine
) -> None:
    run = open_run(tmp_path / "run", benchmark, QUICK, engine)
    outside = tmp_path / "outside"
    if (run.folder / name).exists():
        (run.folder / name).rename(outside)
    (run.folder / name).symlink_to(outside)
    for use in (RunFolder.read, lambda folder: open_run(folder, benchmark, QUICK, engine)):
        with pytest.raises(RecordError, match=f"`.*{name}` is a link"):
            use(run.folder)
    assert outside.exists() == (name in ("run.json", "items.jsonl"))


def test_images_from_outside_are_not_embedded_in_a_page(
    tmp_path: Path, benchmark: Benchmark, videos: Path, engine: NativeEngine
) -> None:
    run = run_all(tmp_path / "run", benchmark, engine, videos=videos)
    (seen, other) = run.videos().values()
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"not for others")
    picture = run.folder / "frames" / f"{seen.look}.jpg"
    picture.unlink()
    picture.symlink_to(secret)
    with run.video_writer() as writer:
        writer.write(replace(other, look="../../secret", strip="x.jpg"))
    page = html_report(run)
    assert "bm90IGZvciBvdGhlcnM" not in page
    assert page.count('id="strip-') == 1


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("run.json", {"created": "../../outside"}),
        ("run.json", {"benchmark": {"name": "../x", "source": "", "sha256": "", "items": 1}}),
        ("run.json", {"settings": {"controls": ["blind"]}}),
        ("run.json", {"model": "nano"}),
        ("items.jsonl", {"options": "abc"}),
        ("items.jsonl", {"options": ["x", 3]}),
        ("items.jsonl", {"answer_index": 9}),
        ("items.jsonl", {"answer_index": -1}),
        ("items.jsonl", {"video_names": []}),
        ("items.jsonl", {"start_seconds": float("nan")}),
        ("items.jsonl", {"groups": {"category": ["x"]}}),
        ("items.jsonl", {"extra": 1}),
        ("answers.jsonl", {"choice": 7}),
        ("answers.jsonl", {"choice": "A"}),
        ("answers.jsonl", {"text": ["x"]}),
        ("answers.jsonl", {"condition": "../x"}),
        ("answers.jsonl", {"frames": 10**400}),
        ("answers.jsonl", {"frames": -5}),
        ("answers.jsonl", {"prompt_tokens": -1}),
        ("answers.jsonl", {"choice": -1}),
        ("answers.jsonl", {"text": None}),
        ("answers.jsonl", {"error": "gone"}),
        ("answers.jsonl", {"order": [0, 0, 1]}),
        ("answers.jsonl", {"order": [1, 0]}),
        ("answers.jsonl", {"scores": [-1.0, -2.0]}),
        ("answers.jsonl", {"correct": True}),
        ("answers.jsonl", {"choice": 0, "correct": True, "how": "letter"}),
        ("answers.jsonl", {"text": "A", "choice": 1, "correct": False, "how": "letter"}),
        ("answers.jsonl", {"text": "A", "choice": 0, "correct": False, "how": "letter"}),
        ("answers.jsonl", {"text": "A", "choice": 0, "correct": True, "how": "refusal"}),
        ("answers.jsonl", {"text": None, "error": "x", "error_kind": "none of them"}),
        ("run.json", {"settings": {"extractor": "mine"}}),
        ("videos.jsonl", {"seconds": {"decode": -1.0}}),
        ("videos.jsonl", {"frame_times": [1e30]}),
        ("videos.jsonl", {"look": 3}),
        ("videos.jsonl", {"seconds": {"decode": "long"}}),
        ("videos.jsonl", {"frame_times": [None]}),
    ],
)
def test_tampered_run_is_one_error(
    name: str, changes: dict[str, Any], tried: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tried, folder)
    lines = (folder / name).read_text().splitlines()
    whole = json.loads("".join(lines)) if name == "run.json" else json.loads(lines[0])
    rest = [] if name == "run.json" else lines[1:]
    if "extractor" in changes.get("settings", ()):
        changes = {"settings": whole["settings"] | changes["settings"]}
    (folder / name).write_text("\n".join([json.dumps(whole | changes), *rest]) + "\n")
    with pytest.raises(RecordError) as caught:
        html_report(RunFolder.read(folder))
    if name in ("answers.jsonl", "videos.jsonl"):
        assert "line 1" in str(caught.value) or "does not hold records" in str(caught.value)


@pytest.mark.parametrize("scoring", ["likelihood", "options"])
def test_answers_that_contradict_their_scores_are_refused(
    scoring: Any, tmp_path: Path, engine: NativeEngine
) -> None:
    how = replace(QUICK, scoring=scoring)
    run = run_all(tmp_path / "run", write_items(tmp_path, VIDEOS[:1], each=2), engine, how)
    lines = run.answers_path.read_text().splitlines()
    whole = json.loads(lines[1])
    assert len(run.answers()) == 2
    other = (whole["choice"] + 1) % 3
    for changes in (
        {"choice": other, "correct": other == run.items[1].answer_index},
        {"correct": not whole["correct"]},
        {"text": run.items[1].options[other]},
        {"scores": whole["scores"][:2]},
    ):
        run.answers_path.write_text("\n".join([lines[0], json.dumps(whole | changes)]) + "\n")
        with pytest.raises(RecordError, match="line 2"):
            build_report(run)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, engine: NativeEngine) -> Path:
    folder = tmp_path_factory.mktemp("tried")
    return run_all(folder / "run", write_items(folder, VIDEOS[:1], each=2), engine).folder
