"""``smolvideo cache``, and the feature cache shared by calls of ``ask``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from support import tinymodels
from support.clipmaker import evenly, write_clip

from smolvideo.cli.main import cli
from smolvideo.cost import RateRequest, Rates, remember
from smolvideo.cost.rates import keep_rates
from smolvideo.sanitize import display_path
from smolvideo.source import cache_dir
from smolvideo.source.download_cache import download_folder, write_entry

RATES = Rates("cpu", "float32", 1, 2e11, 1e11, 2e11, 5e10, 1e10, 2e9, 300_000_000, 1.7e9)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", evenly(40, 10)).path


def words_of(model: Path, video: Path, *words: str) -> list[str]:
    options = ["--model", str(model), "--device", "cpu", "--max-new-tokens", "8", "--json"]
    return ["ask", str(video), *options, *(words or ("--question", "What happens?"))]


def ask(model: Path, video: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words_of(model, video, "--question", "What happens?", *words)])


def notes_on_features(done: Result) -> list[str]:
    """Return the notices of stderr about the cache, without those of random weights."""
    return [line for line in done.stderr.splitlines() if not line.startswith("note: the answer ")]


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *words])


def facts() -> dict[str, dict[str, int]]:
    done = run("info", "--json")
    assert done.exit_code == 0, done.stderr
    content: dict[str, dict[str, int]] = json.loads(done.stdout)
    return content


def test_second_question_encodes_nothing(tiny: Path, video: Path) -> None:
    first, second, third = (
        json.loads(ask(tiny, video, *more).stdout)
        for more in (
            ("--max-frames", "6"),
            ("--max-frames", "6"),
            ("--no-cache", "--max-frames", "6"),
        )
    )
    found = [record["frames_from_cache"] for record in (first, second, third)]
    assert found == [0, 6, 0]
    assert first["text"] == second["text"] == third["text"]


def test_another_process_uses_the_cache_offline(tiny: Path, video: Path) -> None:
    assert json.loads(ask(tiny, video).stdout)["frames_from_cache"] == 0
    words = words_of(tiny, video, "What else happens?", "--offline")
    done = subprocess.run(
        [sys.executable, "-m", "smolvideo", *words], check=True, capture_output=True, text=True
    )
    record = json.loads(done.stdout)
    assert record["frames_from_cache"] == len(record["sources"][0]["frame_times"]) > 0


def test_another_geometry_is_a_miss(tiny: Path, video: Path) -> None:
    ask(tiny, video, "--max-frames", "4", "--geometry", "direct")
    kept = json.loads(ask(tiny, video, "--max-frames", "4", "--geometry", "pad").stdout)
    plain = ask(tiny, video, "--max-frames", "4", "--geometry", "pad", "--no-cache")
    assert kept["frames_from_cache"] == 0
    assert kept["text"] == json.loads(plain.stdout)["text"]


def test_higher_rate_reuses_shared_frames(tiny: Path, video: Path) -> None:
    ask(tiny, video, "--fps", "2")
    record = json.loads(ask(tiny, video, "--fps", "4").stdout)
    frames = len(record["sources"][0]["frame_times"])
    assert 0 < record["frames_from_cache"] < frames


@pytest.mark.parametrize("words", [("--no-cache",), ("--engine", "transformers")])
def test_no_cache_stores_nothing(tiny: Path, video: Path, words: tuple[str, ...]) -> None:
    assert ask(tiny, video, *words).exit_code == 0
    assert not cache_dir().exists()


def test_unwritable_cache_is_one_notice(tiny: Path, video: Path) -> None:
    plain = ask(tiny, video, "--no-cache")
    cache_dir().mkdir(parents=True)
    (cache_dir() / "features").write_text("in the way")
    done = ask(tiny, video)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["text"] == json.loads(plain.stdout)["text"]
    (line,) = notes_on_features(done)
    assert line.startswith("note: frame features are not kept in `")


def test_missing_cache_folder_is_one_notice(
    tiny: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOLVIDEO_CACHE_DIR", "~nobody-of-that-name/cache")
    done = ask(tiny, video)
    assert done.exit_code == 0
    (line,) = notes_on_features(done)
    assert line.startswith("note: frame features are not kept: no home folder of that user")


def test_footer_names_cached_frames(tiny: Path, video: Path) -> None:
    ask(tiny, video, "--max-frames", "5")
    assert "5 frames, all from the cache · " in ask(tiny, video, "--max-frames", "5", "-v").stderr


def test_size_limit_comes_from_the_environment(
    tiny: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(tiny, video)
    whole = facts()["features"]
    limit = whole["size_bytes"] // 4 // 1024
    assert limit >= 2
    monkeypatch.setenv("SMOLVIDEO_CACHE_SIZE", f"{limit}KiB")
    run("clear", "--features")
    ask(tiny, video)
    found = facts()["features"]
    assert found["limit_bytes"] == limit * 1024
    assert found["size_bytes"] <= found["limit_bytes"]
    assert 1 <= found["entries"] <= whole["entries"] // 3
    monkeypatch.setenv("SMOLVIDEO_CACHE_SIZE", "much")
    for done in (ask(tiny, video), run("info")):
        assert done.exit_code == 2
        assert "SMOLVIDEO_CACHE_SIZE: `much` is no size" in done.stderr


def test_info_and_clear_of_an_empty_cache(tmp_path: Path) -> None:
    lines = run("info").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["what", "features", "downloads", "cost"]
    assert lines[1].split() == [
        "features",
        "0",
        "0",
        "B",
        "4.0",
        "GB",
        str(cache_dir() / "features"),
    ]
    assert run("clear").stdout == (
        "features: 0 entries deleted, 0 B freed\ndownloads: 0 entries deleted, 0 B freed\n"
        "cost: 0 entries deleted, 0 B freed\n"
    )
    assert not cache_dir().exists()


def keep_a_download(url: str) -> Path:
    folder = download_folder(url)
    folder.mkdir(parents=True)
    file = folder / "video.18.mp4"
    file.write_bytes(b"x" * 5000)
    write_entry(url, file, title="A film", height=None, max_height=None)
    (folder / "video.22.mp4.part").write_bytes(b"y" * 700)
    return file


def test_freed_bytes_exclude_folders() -> None:
    """A folder within a download was made by another program."""
    film = keep_a_download("https://example.org/film")
    files = sum(path.stat().st_size for path in film.parent.iterdir())
    (film.parent / "folder").mkdir()
    assert facts()["downloads"]["size_bytes"] == files
    freed = json.loads(run("clear", "--downloads", "--json").stdout)
    assert freed["downloads"]["freed_bytes"] == files
    assert not film.parent.exists()


def test_info_and_clear_of_both(tiny: Path, video: Path) -> None:
    ask(tiny, video, "--max-frames", "5")
    film = keep_a_download("https://example.org/film")
    kept = facts()
    assert kept["features"]["entries"] >= 5
    assert kept["features"]["oldest"] is not None
    assert kept["downloads"]["entries"] == 1
    assert kept["downloads"]["size_bytes"] > 5700
    assert kept["downloads"]["limit_bytes"] is None
    freed = json.loads(run("clear", "--features", "--json").stdout)
    assert freed == {
        "features": {
            "entries": kept["features"]["entries"],
            "freed_bytes": kept["features"]["size_bytes"],
        }
    }
    assert film.exists()
    assert facts()["features"]["entries"] == 0
    done = run("clear", "--downloads")
    assert done.stdout.startswith("downloads: 1 entry deleted, 6.")  # the film and its entry
    assert not film.exists()
    assert facts()["downloads"] == {
        "entries": 0,
        "size_bytes": 0,
        "oldest": None,
        "limit_bytes": None,
    }


def test_info_prints_a_table(tiny: Path, video: Path) -> None:
    ask(tiny, video, "--max-frames", "5")
    lines = run("info").stdout.splitlines()
    assert lines[0].split() == ["what", "entries", "size", "limit", "oldest", "folder"]
    assert lines[1].endswith(str(cache_dir() / "features"))
    assert lines[2].split()[:4] == ["downloads", "0", "0", "B"]


def test_completion_of_the_cache_command() -> None:
    def offered(args: list[str], incomplete: str) -> list[str]:
        complete = ShellComplete(cli, {}, "smolvideo", "_SMOLVIDEO_COMPLETE")
        return [item.value for item in complete.get_completions(args, incomplete)]

    assert offered([], "ca") == ["cache"]
    assert offered(["cache"], "") == ["clear", "info"]
    assert set(offered(["cache", "clear"], "--")) >= {
        "--features",
        "--downloads",
        "--cost",
        "--json",
    }
    assert "--no-cache" in offered(["ask"], "--no-c")


def test_clear_keeps_other_files_in_the_folder() -> None:
    cache_dir().mkdir(parents=True)
    letter = cache_dir() / "letter.txt"
    letter.write_text("mine")
    os.mkdir(cache_dir() / "features")
    assert run("clear").exit_code == 0
    assert letter.read_text() == "mine"


def test_rates_and_past_answers_are_cleared_separately(tiny: Path, video: Path) -> None:
    keep_rates(RateRequest(), RATES)
    remember("nano", "none", RATES, predicted={"encode": 1.0}, measured={"encode": 2.0})
    ask(tiny, video, "--max-frames", "5")
    kept = facts()["cost"]
    assert (kept["entries"], kept["size_bytes"] > 300, kept["limit_bytes"]) == (2, True, None)
    freed = json.loads(run("clear", "--cost", "--json").stdout)
    assert freed == {"cost": {"entries": 2, "freed_bytes": kept["size_bytes"]}}
    assert not (cache_dir() / "cost").exists()
    assert facts()["features"]["entries"] >= 5


@pytest.mark.parametrize("name", ["features", "downloads", "cost"])
def test_clear_keeps_a_file_in_place_of_a_folder(name: str) -> None:
    file = cache_dir() / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    done = run("clear", f"--{name}")
    assert (done.exit_code, done.stdout, file.read_text()) == (3, "", "mine")
    assert done.stderr == (
        f"Error: {display_path(file)} is a file, and no folder of the cache\nhint: move it away\n"
    )
