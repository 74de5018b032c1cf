"""``smolvideo index`` and ``smolvideo find``: lines, exit codes, files, errors."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.project import ROOT

from smolvideo.cli.main import cli
from smolvideo.files import data_dir
from smolvideo.index import Hit
from smolvideo.show.find import hit_line, hit_lines

SAMPLES = ROOT / "samples"
FOUND, NOTHING, ERROR = 0, 1, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("videos")
    for name in ("circle_right.mp4", "number_42.mp4"):
        shutil.copyfile(SAMPLES / name, base / name)
    return base


@pytest.fixture(scope="module")
def index(folder: Path) -> Path:
    path = folder.parent / "index.sqlite"
    done = run("index", folder, "--index", path, "--max-frames", "4")
    assert done.exit_code == 0, done.stderr
    assert "2 indexed" in done.stderr
    assert done.stdout == ""
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def find(index: Path, *words: str | Path) -> Result:
    return run("find", "--index", index, *words)


def test_hit_is_a_line_and_nothing_found_is_exit_code_1(
    index: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = find(index, "purple circle", "--no-confirm")
    assert done.exit_code == FOUND
    assert done.stdout == (
        "circle_right.mp4:0:00:00–0:00:06  1.00  "  # noqa: RUF001
        "A purple circle moves right on a brown background.\n"
    )
    done = find(index, "zebra", "--no-confirm")
    assert (done.exit_code, done.stdout) == (NOTHING, "")


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_times_of_a_hit_are_never_broken(width: int) -> None:
    hit = Hit(os.path.abspath("a rather long name.mp4"), 83.9, 91.5, 0.94, "A dog runs.")
    lines = hit_lines(hit, width)
    assert "".join("".join(lines).split()) == "".join(hit_line(hit).split())
    (times,) = [line for line in lines if "0:01:23–0:01:32  0.94" in line]  # noqa: RUF001
    assert len(lines) == 1 or len(times) <= max(width, 23)


def test_options_may_stand_before_the_name_of_a_subcommand(
    index: Path, folder: Path, tmp_path: Path
) -> None:
    done = run("index", "--index", index, "status", "--json")
    assert json.loads(done.stdout)["videos"] == 2
    other = tmp_path / "status.sqlite"
    named = tmp_path / "status"
    shutil.copyfile(folder / "circle_right.mp4", named)
    words = ["--max-frames", "2", "--index", other, named]
    assert run("index", *words).exit_code == 0
    assert run("index", "--index", other, "vacuum").exit_code == 0
    assert json.loads(run("index", "status", "--index", other, "--json").stdout)["files"] == 1


def test_index_of_the_environment_need_not_exist(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOLVIDEO_INDEX", str(tmp_path / "none.sqlite"))
    video = folder / "circle_right.mp4"
    assert run("find", "a purple circle", video, "--max-frames", "2").exit_code == FOUND
    done = run("find", "a purple circle")
    assert (done.exit_code, "there is no index yet" in done.stderr) == (ERROR, True)
    named = find(tmp_path / "none.sqlite", "a purple circle", video)
    assert (named.exit_code, "no index at" in named.stderr) == (ERROR, True)


def test_failed_files_are_counted_alike(folder: Path, tmp_path: Path) -> None:
    base, path = tmp_path / "videos", tmp_path / "index.sqlite"
    base.mkdir()
    shutil.copyfile(folder / "circle_right.mp4", base / "good.mp4")
    for name in ("bad.mp4", "again.mp4"):
        (base / name).write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 99)
    (base / "empty.mp4").touch()
    (base / "page.mp4").write_text("<!DOCTYPE html>")
    done = run("index", base, "--index", path, "--max-frames", "2")
    assert (done.exit_code, "4 failed" in done.stderr) == (6, True)
    assert json.loads(run("index", "status", "--index", path, "--json").stdout)["failed"] == 4
    assert "page.mp4`: " in run("index", "status", "--index", path).stdout
    assert "note: 4 files could not be indexed" in find(path, "purple", "--no-confirm").stderr
    (base / "page.mp4").unlink()
    shutil.copyfile(folder / "number_42.mp4", base / "empty.mp4")
    assert "3 files left out" not in run("index", base, "--index", path, "--max-frames", "2").stderr
    assert json.loads(run("index", "status", "--index", path, "--json").stdout)["failed"] == 2


def test_every_error_is_exit_code_2(index: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    newer = tmp_path / "notes.txt"
    newer.write_text("no index")
    for words in (
        [index, "dog", tmp_path / "none.mp4"],  # elsewhere 3
        [index, "dog", broken],
        [index, "dog", "--model", tmp_path],  # elsewhere 4
        [newer, "dog"],  # elsewhere 5
        [tmp_path / "none.sqlite", "dog"],
        [index, "dog", "--limit", "0"],
        [index, "?"],
        [index, "dog", "--nonsense"],
        [index],
    ):
        done = find(*words)  # type: ignore[arg-type]
        assert done.exit_code == ERROR, (words, done.stderr)
        assert done.stdout == ""
        assert "Error: " in done.stderr


def test_exit_codes_of_other_commands_stay(tmp_path: Path) -> None:
    assert run("find", "dog", tmp_path / "none.mp4").exit_code == ERROR
    assert run("ask", tmp_path / "none.mp4", "What?", "--model", "nano").exit_code == 3


def test_hits_go_to_a_file_in_the_format_of_its_name(index: Path, tmp_path: Path) -> None:
    for suffix, begins in (
        ("csv", "path,"),
        ("edl", "TITLE: "),
        ("m3u", "#EXTM3U"),
        ("html", "<!"),
    ):
        path = tmp_path / f"hits.{suffix}"
        done = find(index, "purple", "--no-confirm", "-o", path)
        assert (done.exit_code, done.stdout) == (FOUND, "")
        assert path.read_text("utf-8").startswith(begins)
        assert f"1 hit in `{path}`" in done.stderr
    assert "data:image/jpeg" in (tmp_path / "hits.html").read_text("utf-8")
    done = find(index, "purple", "--no-confirm", "-o", tmp_path / "hits.csv")
    assert (done.exit_code, "--overwrite" in done.stderr) == (ERROR, True)
    done = find(index, "purple", "--no-confirm", "--export", "csv")
    assert done.stdout == (tmp_path / "hits.csv").read_text("utf-8")
    assert find(index, "purple", "--no-confirm", "-o", tmp_path / "hits.txt").exit_code == ERROR


def test_json_has_all_of_the_result(index: Path) -> None:
    done = find(index, "purple circle", "--no-confirm", "--json")
    found = json.loads(done.stdout)
    assert found["hits"][0]["path"].endswith("circle_right.mp4")
    assert found["searched"]["videos"] == 2
    empty = find(index, "zebra", "--no-confirm", "--json")
    assert (empty.exit_code, json.loads(empty.stdout)["hits"]) == (NOTHING, [])


def test_status_rebuild_and_vacuum(index: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    shutil.copyfile(index, copy)
    for tail in ("-wal", "-shm"):
        if index.with_name(index.name + tail).exists():
            shutil.copyfile(index.with_name(index.name + tail), f"{copy}{tail}")
    status = json.loads(run("index", "status", "--index", copy, "--json").stdout)
    assert (status["videos"], status["windows"], status["models"]) == (2, 2, {"nano": 2})
    assert "2, in 2 files" in run("index", "status", "--index", copy).stdout
    done = run(
        "index", "rebuild", "--index", copy, folder / "circle_right.mp4", "--max-frames", "4"
    )
    assert (done.exit_code, "1 video in" in done.stderr) == (0, True)
    assert json.loads(run("index", "status", "--index", copy, "--json").stdout)["windows"] == 2
    unknown = run("index", "rebuild", "--index", copy, "--model", "no-such-model")
    assert (unknown.exit_code, "unknown model" in unknown.stderr) == (4, True)
    assert json.loads(run("index", "status", "--index", copy, "--json").stdout)["windows"] == 2
    gone = tmp_path / "gone.mp4"
    shutil.copyfile(SAMPLES / "star_up_rotated.mp4", gone)
    assert run("index", "--index", copy, gone, "--max-frames", "2").exit_code == 0
    gone.unlink()
    assert "1 file left out" in run("index", "vacuum", "--index", copy).stdout
    assert json.loads(run("index", "status", "--index", copy, "--json").stdout)["videos"] == 2


@pytest.mark.parametrize("words", [("--ray",), ("--ray", "auto"), ("rebuild", "--ray")])
def test_cluster_without_ray_error_names_the_install_command(
    words: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smolvideo.ray_cluster.find_spec", lambda _: None)
    done = run("index", *words, folder)
    assert (done.exit_code, "pip install 'smolvideo[ray]'" in done.stderr) == (2, True)


def test_watch_is_for_this_process_alone(folder: Path) -> None:
    done = run("index", "--watch", "--ray", "auto", folder)
    assert (done.exit_code, "contradict each other" in done.stderr) == (2, True)


def test_default_index_is_in_the_data_folder(folder: Path) -> None:
    assert run("index", "status").exit_code == 5
    done = run("find", "dog")
    assert (done.exit_code, "there is no index yet" in done.stderr) == (ERROR, True)
    assert run("index", folder / "circle_right.mp4", "--max-frames", "2").exit_code == 0
    assert (data_dir() / "index.sqlite").is_file()
    assert find(data_dir() / "index.sqlite", "purple", "--no-confirm").exit_code == FOUND


def test_video_in_no_index_is_scanned_after_its_cost(folder: Path) -> None:
    video = folder / "circle_right.mp4"
    done = run("find", "a purple circle", video, "--max-frames", "4")
    assert done.exit_code == FOUND
    assert "1 video in no index: 1 window of 3 frames in all to look at" in done.stderr
    done = run("find", "a purple circle", video, "--no-confirm")
    assert (done.exit_code, "in no index" in done.stderr) == (NOTHING, True)


@pytest.mark.parametrize(
    "words",
    [
        ["--no-confirm", "--scan"],
        ["--json", "--export", "csv"],
        ["--overwrite"],
        ["--scan"],
        ["--min", "1.5"],
    ],
)
def test_contradictions_are_usage_errors(index: Path, words: list[str]) -> None:
    assert find(index, "dog", *words).exit_code == ERROR


def test_open_plays_the_hit_from_its_start(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.name == "nt":
        pytest.skip("the player of this test is a shell script")
    heard = tmp_path / "played"
    player = tmp_path / "bin" / "mpv"
    player.parent.mkdir()
    player.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{heard}"\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", f"{player.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    assert find(index, "purple", "--no-confirm", "--open", "1").exit_code == FOUND
    start, path = heard.read_text().splitlines()
    assert start == "--start=0.000"
    assert path.endswith("circle_right.mp4")
    done = find(index, "purple", "--no-confirm", "--open", "2")
    assert (done.exit_code, "no hit 2" in done.stderr) == (ERROR, True)
