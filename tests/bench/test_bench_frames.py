"""Frame bench: readers against the lower bound, on small files."""

from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from support import clipmaker
from support.record_schemas import validate_line

from smolvideo.bench.input_videos import SyntheticVideo, write_synthetic_video
from smolvideo.cli.main import cli
from smolvideo.readers import open_video


def test_frames_bench_reports_ratio_to_the_lower_bound(tmp_path: Path) -> None:
    path = clipmaker.write_clip(tmp_path / "a.mp4", clipmaker.evenly(60, 20), gop=20).path
    done = CliRunner().invoke(
        cli,
        ["bench", "frames", str(path), "--max-frames", "5", "--repeats", "1", "--way", "auto"],
    )
    assert done.exit_code == 0, done.stderr
    (file,) = validate_line("bench-frames", done.stdout.splitlines()[-1])["files"]
    assert 5 <= file["must_decode"] <= 60
    (way,) = file["ways"]
    assert (way["way"], way["frames"], way["error"]) == ("auto", 5, None)
    assert file["times_floor"]["auto"] > 0
    assert "must be decoded" in done.stderr


def test_unknown_methods_are_usage_errors(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["bench", "frames", "--way", "torchcodec"])
    assert done.exit_code == 2
    assert "unknown way" in done.stderr


def test_non_video_is_an_error(tmp_path: Path) -> None:
    still, moving = tmp_path / "still.png", tmp_path / "moving.webp"
    pictures = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    pictures[0].save(still)
    pictures[0].save(moving, save_all=True, append_images=pictures[1:], duration=500)
    for path, what in ((still, "picture"), (moving, "picture"), (tmp_path, "folder")):
        done = CliRunner().invoke(cli, ["bench", "frames", str(path)])
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"is a {what}, and only videos are measured\nhint: name a video file" in done.stderr
    done = CliRunner().invoke(cli, ["bench", "frames", str(tmp_path / "none.mp4")])
    assert (done.exit_code, done.stderr[:18]) == (3, "Error: no such fil")


def test_synthetic_videos_have_the_given_key_frame_interval(tmp_path: Path) -> None:
    film = SyntheticVideo("a.mp4", 64, 48, seconds=70, fps=5, key_interval=50)
    with open_video(write_synthetic_video(film, tmp_path)) as video:
        assert video.metadata.duration_seconds == pytest.approx(70, abs=1)
        keys = video.key_frame_times()
    assert [later - earlier for earlier, later in pairwise(keys)] == pytest.approx(
        [10.0] * (len(keys) - 1)
    )
