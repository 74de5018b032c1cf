"""``smolvideo eval`` on the command line, with nano and the benchmark of the samples."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.project import ROOT
from support.terminals import run_process

from smolvideo.cli.main import cli
from smolvideo.train.samples import CATEGORY_OF, drawn_clips
from smolvideo.train.world.multiple_choice import OPTIONS

BENCHMARK = ROOT / "samples" / "benchmark" / "cinepile.json"
FAST = ("--device", "cpu", "--max-frames", "6", "--limit", "12")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["eval", *map(str, words)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval") / "run"
    words = ("cinepile", BENCHMARK, "--scoring", "options", "--control", "blind", "--run", folder)
    done = run(*words, *FAST)
    assert done.exit_code == 0, done.stderr
    assert "prompt open, scoring options: not an official protocol" in done.stdout
    assert "12 of 24 answers" not in done.stdout, "progress is for stderr"
    return folder


def test_run_is_a_folder(finished: Path) -> None:
    info = json.loads((finished / "run.json").read_text())
    assert info["model"]["name"] == "nano"
    assert len(info["model"]["revision"] or info["model"]["weights"]) >= 12
    assert info["settings"]["sampling"]["max_frames"] == 6
    assert "torch" in info["versions"]
    answers = (finished / "answers.jsonl").read_text().splitlines()
    assert len(answers) == 24
    assert list((finished / "frames").glob("*.jpg"))


def test_repeated_command_computes_nothing(finished: Path) -> None:
    before = (finished / "answers.jsonl").read_bytes()
    words = ("cinepile", BENCHMARK, "--scoring", "options", "--control", "blind", "--run", finished)
    done = run(*words, *FAST, "--json")
    assert (finished / "answers.jsonl").read_bytes() == before
    report = json.loads(done.stdout)
    assert report["conditions"]["main"]["overall"]["answered"] == 12
    other = run(*words, *FAST, "--seed", "3")
    assert other.exit_code == 2
    assert "holds a run with other settings (seed: 0, now 3)" in other.stderr


@pytest.mark.parametrize("form", ["charts", "markdown", "html", "csv", "json"])
def test_report_formats(finished: Path, form: str, tmp_path: Path) -> None:
    done = run("report", finished, "--format", form)
    assert done.exit_code == 0, done.stderr
    assert "nano" in done.stdout or form == "csv"
    path = tmp_path / "report"
    assert run("report", finished, "--format", form, "-o", path).exit_code == 0
    assert path.stat().st_size > 500
    again = run("report", finished, "--format", form, "-o", path)
    assert (again.exit_code, "exists already" in again.stderr) == (5, True)
    assert run("report", finished, "--format", form, "-o", path, "--overwrite").exit_code == 0


def test_compare_and_export(finished: Path, tmp_path: Path) -> None:
    done = run("compare", finished, finished, "--second-condition", "blind")
    assert done.exit_code == 0, done.stderr
    assert "McNemar" in done.stdout
    content = run("compare", finished, finished, "--second-condition", "blind", "--json").stdout
    assert json.loads(content)["overall"]["questions"] == 12
    assert run("compare", finished, finished).exit_code == 2
    done = run("export", finished, tmp_path)
    assert [Path(line).is_file() for line in done.stdout.splitlines()] == [True, True]
    assert run("export", finished, tmp_path).exit_code == 5


def test_jsonl_file_as_a_benchmark(tmp_path: Path) -> None:
    line = {"video": "circle_right.mp4", "question": "What moves?", "answer_index": 0}
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(line | {"options": ["a purple circle", "a red star"]}))
    words = ("--prompt", "open", "--videos", ROOT / "samples", "--run", tmp_path / "run")
    done = run(path, *words, "--device", "cpu", "--quiet")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "nano on jsonl: 100.0 %" in done.stdout


def test_missing_videos_are_exit_code_six(tmp_path: Path) -> None:
    for clip in drawn_clips()[:2]:
        shutil.copyfile(
            BENCHMARK.parent / f"{clip.video_id}.mp4", tmp_path / f"{clip.video_id}.mp4"
        )
    (tmp_path / "drawn002.mp4").write_bytes(b"no video")
    words = ("--videos", tmp_path, "--run", tmp_path / "run", "--scoring", "options")
    done = run("cinepile", BENCHMARK, *words, "--device", "cpu", "--max-frames", "4")
    assert done.exit_code == 6, done.stderr
    text = " ".join(done.stdout.split())
    assert re.search(r"coverage: \d+ of 308 questions, 2 of 28 videos", text)
    assert re.search(r"without an answer: \d+ with no video, \d+ with a broken video", text)
    assert "if they were all wrong" in text
    assert run("report", tmp_path / "run").exit_code == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cinema",), "no such benchmark: `cinema`"),
        (("mvbench", "x.json", "--prompt", "official"), "no such file"),
        (
            ("cinepile", str(BENCHMARK), "--extractor", "official", "--scoring", "options"),
            "no effect",
        ),
        (("cinepile", str(BENCHMARK), "--max-height", "240"), "no effect without `--download`"),
        (("cinepile", str(BENCHMARK), "--data-version", "v1"), "FILE names another"),
        (("cinepile", str(BENCHMARK), "--only-failed", "--run", "absent"), "holds none yet"),
        (("cinepile", str(BENCHMARK), "--subtitles", "frames", "--run", "absent"), "no times"),
        (("report", "absent"), "is no run"),
        (("report", "absent", "--overwrite"), "without `--output`"),
    ],
)
def test_invalid_commands_are_errors(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.exit_code in (2, 3, 5)
    assert (done.stdout, said in done.stderr) == ("", True), done.stderr
    assert not Path("absent").exists()


def test_help_loads_no_network_library() -> None:
    from project.test_imports import modules_after

    loaded = modules_after("eval", "cinepile", "--help")
    assert loaded.isdisjoint({"av", "arro3", "tokenizers", "torch", "transformers", "yt_dlp"})


def test_completion_of_subcommands() -> None:
    done = run_process(
        _SMOLVIDEO_COMPLETE="bash_complete", COMP_WORDS="smolvideo eval c", COMP_CWORD="2"
    )
    assert {line.partition(",")[2] for line in done.stdout.split()} == {"cinepile", "compare"}


def test_sample_benchmark_is_held_out_and_complete() -> None:
    rows = json.loads(BENCHMARK.read_text())
    assert len(rows) >= 200
    assert all(clip.scene.held_out() for clip in drawn_clips())
    assert {row["question_category"] for row in rows} == set(CATEGORY_OF.values())
    assert {row["hard_split"] for row in rows} == {"True", "False"}
    assert all(row["subtitles"].startswith("<subtitle> ") for row in rows)
    for row in rows:
        assert len(set(row["choices"])) == OPTIONS
        assert row["choices"][row["answer_key_position"]] == row["answer_key"]
    places = [row["answer_key_position"] for row in rows]
    assert all(0.12 < places.count(place) / len(rows) < 0.28 for place in range(OPTIONS))
    size = sum(file.stat().st_size for file in BENCHMARK.parent.iterdir())
    assert size < 1_500_000


@pytest.mark.slow
def test_nano_scores_well_with_frames_and_near_chance_blind(tmp_path: Path) -> None:
    """On the first questions, which cover all categories."""
    words = ("--scoring", "options", "--control", "blind", "--device", "cpu", "--json", "--quiet")
    done = run("cinepile", BENCHMARK, *words, "--limit", "40", "--run", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    scores = json.loads(done.stdout)["conditions"]
    assert scores["main"]["overall"]["accuracy"] >= 0.95
    # Above chance: some answers follow from the kinds of the options.
    assert scores["blind"]["overall"]["accuracy"] <= 0.33
    assert scores["main"]["overall"]["chance"] == pytest.approx(0.2)
    assert len(scores["main"]["groups"]["category"]) == 5
