"""``smolvideo summarise`` from the command line to files and exit codes."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.project import ROOT
from support.webserver import Content, WebServer

from smolvideo.cli.main import cli
from smolvideo.summaries import FORMATS

SAMPLES = ROOT / "samples"
CIRCLE = "A purple circle moves right on a brown background."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "videos"
    base.mkdir()
    for name in ("circle_right.mp4", "cross_and_circle.mp4"):
        shutil.copyfile(SAMPLES / name, base / name)
    return base


def run(*words: str | Path, command: str = "summarise") -> Result:
    return CliRunner().invoke(cli, [command, "--max-frames", "6", *map(str, words)])


def test_summary_of_one_video_is_on_stdout() -> None:
    done = run(SAMPLES / "circle_right.mp4")
    assert (done.exit_code, done.stdout, done.stderr) == (0, CIRCLE + "\n", "")
    assert run(SAMPLES / "circle_right.mp4", command="summarize").stdout == CIRCLE + "\n"


def test_several_summaries_are_labelled_and_counted(folder: Path) -> None:
    done = run(folder)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"circle_right.mp4\n  {CIRCLE}\n\ncross_and_circle.mp4\n")
    assert done.stderr.startswith("2 videos in ")
    assert done.stderr.endswith(": 2 summarised\n")


def test_bad_file_is_reported_and_the_run_continues(folder: Path, tmp_path: Path) -> None:
    (folder / "a broken.mp4").write_bytes(b"")
    out = tmp_path / "out"
    done = run("--out", out, "--format", "txt,json", folder)
    assert done.exit_code == 6
    assert done.stdout == ""
    failed, counts = done.stderr.splitlines()
    assert failed.startswith("failed: `")
    assert "a broken.mp4` is empty (0 bytes) (was its download" in failed
    assert counts.endswith(": 2 summarised · 1 failed")
    assert json.loads((out / "circle_right.summary.json").read_text())["text"] == CIRCLE
    again = run("--out", out, "--format", "txt,json", folder)
    assert again.stderr.splitlines()[-1].endswith(": 2 done before · 1 failed")


def test_single_video_gives_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"")
    done = run(tmp_path / "x.mp4")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: `")
    assert "hint: was its download" in done.stderr


def test_fail_fast_ends_at_the_first_failure(folder: Path) -> None:
    (folder / "a broken.mp4").write_bytes(b"")
    done = run("--fail-fast", folder)
    assert (done.exit_code, done.stdout) == (6, "")
    assert done.stderr.splitlines()[-1].endswith(": 1 failed")


def test_records_through_a_pipe(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.mp4").write_bytes(b"")
    done = run("--jsonl", "-", "--quiet", folder)
    assert done.exit_code == 6
    assert done.stderr == ""
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["text"] is None for record in records] == [True, False, False]
    kept = tmp_path / "records.jsonl"
    assert run("--jsonl", kept, folder).stdout == ""
    assert len(kept.read_text("utf-8").splitlines()) == 3
    # A second run resumes from these files and still writes every record to the pipe.
    both = run("--jsonl", "-", "--out", tmp_path / "out", folder)
    again = run("--jsonl", "-", "--out", tmp_path / "out", folder)
    assert again.stdout == both.stdout


def test_every_format_writes_its_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    video = SAMPLES / "square_then_circle.mp4"
    done = run("--out", out, "--format", ",".join(FORMATS), "--style", "chapters", video)
    assert done.exit_code == 0, done.stderr
    names = {path.name.removeprefix("square_then_circle.summary.") for path in out.iterdir()}
    assert names == {
        *("txt", "md", "json", "srt", "vtt", "chapters.txt", "ffmetadata", "html"),
        *("summaries.jsonl", ".summaries.jsonl.lock"),
    }
    assert (out / "square_then_circle.summary.txt").read_text().count("\n0:0") == 2


@pytest.mark.parametrize("wanted", ["md", "json", "srt", "vtt"])
def test_one_format_on_stdout(wanted: str) -> None:
    done = run("--format", wanted, SAMPLES / "circle_right.mp4")
    assert done.exit_code == 0
    assert "purple circle" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to summarise"),
        (("--format", "txt,md", "x.mp4"), "needs a place"),
        (("--format", "html", "x.mp4"), "is a file"),
        (("--format", "pdf", "x.mp4"), "unknown format `pdf`"),
        (("--out", "a", "--beside", "x.mp4"), "contradict"),
        (("--overwrite", "x.mp4"), "no effect"),
        (("--watch", "--dry-run", "x"), "contradict"),
        (("--newer-than", "soon", "x.mp4"), "no age"),
        (("--newer-than", "7d", "https://example.org/v"), "an address has none"),
        (("--beside", "https://example.org/v.mp4"), "an address has no folder"),
        (("--window", "50%", "x.mp4"), "share"),
        (("--window", "0:00", "x.mp4"), "1 second"),
        (("--style", "long", "x.mp4"), "long"),
        (("--cookies", "c.txt", "x.mp4"), "no source is a URL"),
        (("--seed", "1", "x.mp4"), "no effect"),
        (("--quiet", "--verbose", "x.mp4"), "contradict"),
        (("--prompt", " ", "x.mp4"), "no text"),
        (("--ray-workers", "2", "x.mp4"), "no effect without `--ray`"),
    ],
)
def test_incompatible_options_are_usage_errors(words: tuple[str, ...], message: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("words", [("--ray", "x"), ("x", "--ray"), ("--ray", "auto", "x")])
def test_cluster_without_ray_error_names_the_install_command(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smolvideo.ray_cluster.find_spec", lambda _: None)
    done = run(*words)
    assert done.exit_code == 2
    assert "pip install 'smolvideo[ray]'" in done.stderr


def test_dry_run_writes_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("--dry-run", "--out", out, folder)
    assert done.exit_code == 0
    assert "circle_right.mp4" in done.stdout
    assert "new" in done.stdout
    assert done.stderr.startswith("2 of 2 videos to do: 12 frames")
    assert not out.exists()
    run("--out", out, folder)
    assert "0 of 2 videos to do" in run("--dry-run", "--out", out, folder).stderr


def test_source_lists_and_playlists(folder: Path, tmp_path: Path) -> None:
    data = (SAMPLES / "circle_right.mp4").read_bytes()
    with WebServer() as server:
        video = server.serve("/talk.mp4", Content(data, "video/mp4"))
        feed = f"<rss version='2.0'><channel><title>T</title><item><title>a</title><link>{video}"
        feed += f"</link></item><item><title>b</title><link>{server.url('/gone.mp4')}"
        body = f"{feed}</link></item></channel></rss>".encode()
        url = server.serve("/feed", Content(body, "application/rss+xml"))
        listed = tmp_path / "list.txt"
        listed.write_text(f"{url}\n{folder / 'circle_right.mp4'}\n")
        done = run("--list", listed, "--out", tmp_path / "out")
    assert done.exit_code == 6, done.stderr
    lines = (tmp_path / "out" / "summaries.jsonl").read_text("utf-8").splitlines()
    fetched, gone, local = (json.loads(line) for line in lines)
    assert fetched["text"] == CIRCLE
    assert fetched["source"]["url"] == video
    assert "404" in gone["error"]
    assert local["same_as"] == video
    assert (tmp_path / "out" / "talk.summary.txt").exists()


def test_watch_ends_with_its_limit(folder: Path, tmp_path: Path) -> None:
    done = run("--watch", "--limit", "2", "--out", tmp_path / "out", folder)
    assert done.exit_code == 0
    assert len(list((tmp_path / "out").glob("*.summary.txt"))) == 2


def test_verbose_reports_stage_seconds(folder: Path) -> None:
    done = run("--verbose", folder)
    assert "waiting for frames" in done.stderr
