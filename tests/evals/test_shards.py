"""Shards of a run: every video in one of them, and merged the bytes of a run without shards."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support import tinymodels
from support.project import ROOT
from support.rounds import write_rounds

from smolvideo.cli.main import cli
from smolvideo.engines import GenerationOptions, load_engine
from smolvideo.errors import RecordError, UsageError
from smolvideo.evals.item import Benchmark, EvalItem
from smolvideo.evals.run import open_run, run_eval
from smolvideo.evals.run_folder import RunFolder
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.shards import Shard, choose_shard, merge_shards
from smolvideo.evals.videos import VideoFinder, VideoFolder
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling

SAMPLES = ROOT / "samples"
VIDEOS = ("circle_right.mp4", "triangle_down.mp4", "three_still_portrait.mp4", "gone.mp4")
QUICK = EvalSettings(
    prompt="plain",
    controls=("blind",),
    sampling=FrameSampling(max_frames=2),
    prompt_options=PromptOptions(geometry="direct"),
    generation=GenerationOptions(max_new_tokens=2),
)
SHARDS = [Shard(number, 3) for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Three rounds over the videos: no video's questions follow each other."""
    return write_rounds(tmp_path_factory.mktemp("shards") / "items.jsonl", VIDEOS)


@pytest.fixture(scope="module")
def runs(benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, and the same in three shards."""
    folder = tmp_path_factory.mktemp("runs")
    engine = load_engine(str(tinymodels.make_tiny(folder / "tiny")), device="cpu")
    for shard in (None, *SHARDS):
        name = "whole" if shard is None else f"{shard.number}"
        run = open_run(folder / name, benchmark, QUICK, engine, shard)
        run_eval(run, QUICK, engine, VideoFinder(VideoFolder(SAMPLES)))
    return folder


def copy_shards(runs: Path, to: Path) -> list[Path]:
    folders = []
    for shard in SHARDS:
        folders.append(to / f"{shard.number}")
        folders[-1].mkdir(parents=True)
        for name in ("run.json", "items.jsonl", "answers.jsonl", "videos.jsonl"):
            (folders[-1] / name).write_bytes((runs / f"{shard.number}" / name).read_bytes())
    return folders


def assert_equal_runs(merged: Path, whole: Path) -> None:
    for name in ("items.jsonl", "answers.jsonl"):
        assert (merged / name).read_bytes() == (whole / name).read_bytes()


def merge(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["eval", "merge", *map(str, arguments)])
    return done.exit_code, done.stderr


def test_merged_shards_equal_a_whole_run(runs: Path, tmp_path: Path) -> None:
    folders = [runs / f"{shard.number}" for shard in reversed(SHARDS)]
    code, said = merge(*folders, "--run", tmp_path / "merged")
    assert code == 6, "one video is missing"
    assert "6 answers are missing" in said
    assert_equal_runs(tmp_path / "merged", runs / "whole")
    merged, whole = RunFolder.read(tmp_path / "merged"), RunFolder.read(runs / "whole")
    assert merged.info.differences(whole.info) == []
    strips = sorted(path.name for path in (runs / "whole" / "frames").iterdir())
    assert len(strips) == 6
    assert sorted(path.name for path in (tmp_path / "merged" / "frames").iterdir()) == strips
    assert list(merged.videos()) == list(whole.videos())
    before = (tmp_path / "merged" / "answers.jsonl").stat().st_mtime_ns
    assert merge(*folders, "--run", tmp_path / "merged")[0] == 6, "merging again changes nothing"
    assert_equal_runs(tmp_path / "merged", runs / "whole")
    assert (tmp_path / "merged" / "answers.jsonl").stat().st_mtime_ns >= before


def test_unfinished_shard_is_merged_again_later(runs: Path, tmp_path: Path) -> None:
    folders = copy_shards(runs, tmp_path)
    answers = folders[0] / "answers.jsonl"
    complete = answers.read_bytes()
    lines = complete.splitlines(keepends=True)
    answers.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    code, said = merge(*folders, "--run", tmp_path / "merged")
    assert code == 6
    assert len(lines) == 12, "this shard also has the missing video"
    assert "10 answers are missing" in said
    answers.write_bytes(complete)
    merge(*folders, "--run", tmp_path / "merged")
    assert_equal_runs(tmp_path / "merged", runs / "whole")
    answers.write_bytes(b"")
    merge(*folders, "--run", tmp_path / "merged")
    assert_equal_runs(tmp_path / "merged", runs / "whole")


def change(folder: Path, **changes: Any) -> None:
    path = folder / "run.json"
    content = json.loads(path.read_text())
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"settings": {"seed": 3}}, "shards of different runs (seed: 0, now 3)"),
        ({"model": {"revision": "a\x1b[2Jb"}}, "shards of different runs (revision: None, now ab)"),
        ({"shard": {"count": 4}}, "different runs (count: 3, now 4)"),
        ({"shard": {"selected": 99}}, "different runs (selected: 12, now 99)"),
        ({"shard": {"number": 1}}, "are both shard 1/3"),
        ({"shard": None}, "is a whole run, and no shard"),
    ],
)
def test_shards_of_other_runs_are_refused(
    runs: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    folders = copy_shards(runs, tmp_path)
    change(folders[1], **changes)
    code, said = merge(*folders, "--run", tmp_path / "merged")
    assert code == 2
    assert why in said
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    "shard",
    [
        {"positions": [0, 1]},
        {"positions": [0, 0, 0]},
        {"positions": [10**30, 1, 2]},
        {"positions": "all"},
        {"number": 0},
        {"number": -1},
        {"count": "many"},
        {"selected": None},
    ],
)
def test_broken_shards_are_errors(runs: Path, tmp_path: Path, shard: dict[str, Any]) -> None:
    folders = copy_shards(runs, tmp_path)
    for folder in folders if "number" not in shard else folders[:1]:
        change(folder, shard=shard)
    code, said = merge(*folders, "--run", tmp_path / "merged")
    assert code in (2, 5)
    assert said.startswith("Error: ")
    assert not (tmp_path / "merged").exists()


def test_missing_shards_are_named(runs: Path, tmp_path: Path) -> None:
    code, said = merge(runs / "2", "--run", tmp_path / "merged")
    assert code == 2
    assert "2 of 3 shards are missing: 1/3, 3/3 (9 of 12 questions)" in said
    code, said = merge(runs / "1", runs / "2", runs / "3", "--run", runs / "3")
    assert (code, "is one of the shards" in said) == (2, True)
    assert merge(runs / "nowhere", "--run", tmp_path / "merged")[0] == 5


def test_other_shard_in_the_same_folder_is_refused(benchmark: Benchmark, tmp_path: Path) -> None:
    engine = load_engine(str(tinymodels.make_tiny(tmp_path / "tiny")), device="cpu")
    open_run(tmp_path / "run", benchmark, QUICK, engine, SHARDS[0])
    for other in (SHARDS[1], None):
        with pytest.raises(UsageError, match="shard: 1/3, now"):
            open_run(tmp_path / "run", benchmark, QUICK, engine, other)
    with pytest.raises(UsageError, match="shard 9/9 has no question: there are 4 videos"):
        open_run(tmp_path / "other", benchmark, QUICK, engine, Shard(9, 9))


@pytest.mark.parametrize("text", ["3", "0/8", "9/8", "-1/3", "1/0", "1/99999", "1/2/3", "", "٣/8"])
def test_hostile_shards_are_usage_errors(text: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["eval", "jsonl", str(tmp_path / "x.jsonl"), "--shard", text])
    assert done.exit_code == 2
    assert "a shard is N/COUNT" in done.stderr


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 6))
def test_shards_are_a_partition_by_video(videos: Sequence[int], count: int) -> None:
    items = [EvalItem(str(n), (f"v{v}",), "?", ("x", "y"), 0) for n, v in enumerate(videos)]
    parts: list[list[int]] = []
    for number in range(1, count + 1):
        try:
            parts.append([*choose_shard(items, Shard(number, count)).positions])
        except UsageError:
            assert len({*videos}) < count
    assert sorted(position for part in parts for position in part) == list(range(len(items)))
    assert all(part == sorted(part) for part in parts)
    seen = [{videos[position] for position in part} for part in parts]
    assert sum(map(len, seen)) == len(set().union(*seen)), "no video is in two shards"
    most = max(videos.count(video) for video in {*videos})
    assert max(map(len, parts)) - min(map(len, parts)) <= most or len(parts) < count


def test_shards_with_the_same_question_are_an_error(runs: Path, tmp_path: Path) -> None:
    folders = copy_shards(runs, tmp_path)
    first, second = (RunFolder.read(folder) for folder in folders[:2])
    other = replace(second.items[0], id=first.items[0].id)
    lines = (folders[1] / "items.jsonl").read_text().splitlines(keepends=True)
    content = json.loads(lines[0]) | {"id": other.id}
    (folders[1] / "items.jsonl").write_text(json.dumps(content) + "\n" + "".join(lines[1:]))
    with pytest.raises(RecordError, match="each once"):
        merge_shards(folders, tmp_path / "merged")
