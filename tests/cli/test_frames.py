"""``smolvideo frames``: the frames of ``ask``, without a network."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from support import tinymodels
from support.clipmaker import HEIGHT, WIDTH, evenly, number_of, write_clip

from smolvideo.cli.frames import _file_names
from smolvideo.cli.main import cli
from smolvideo.frames import FrameBatch, VideoMetadata


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", evenly(40, 10)).path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["frames", *map(str, words)])


def test_table_of_times(tiny: Path, video: Path) -> None:
    done = run(video, "--model", tiny, "--max-frames", "3")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "frame    time  seconds\n"
        "    1  0:00.0    0.000\n"
        "    2  0:01.9    1.900\n"
        "    3  0:03.9    3.900\n"
    )


def test_json_has_the_frames_of_a_model(tiny: Path, video: Path) -> None:
    done = run(video, "--model", tiny, "--max-frames", "3", "--json")
    found = json.loads(done.stdout)
    assert (found["model"], found["geometry"]) == ("tiny", "official")
    assert found["frame_times"] == [0.0, 1.9, 3.9]
    assert (found["metadata"]["width"], found["metadata"]["height"]) == (WIDTH, HEIGHT)


def test_frames_equal_those_of_ask(tiny: Path, video: Path) -> None:
    # More frames than fit: both report the reduction and take the same frames.
    words = [str(video), "--model", str(tiny), "--json"]
    shown = json.loads(run(*words).stdout)
    asked = CliRunner().invoke(
        cli, ["ask", "-q", "What happens in this video?", *words, "--device", "cpu"]
    )
    record = json.loads(asked.stdout)
    assert shown["frame_times"] == record["sources"][0]["frame_times"]
    # Answers of random weights have further notices.
    on_frames = [notice for notice in record["notices"] if not notice.startswith("the answer ")]
    assert shown["notices"] == on_frames


def test_written_frames_as_shown_by_a_player(video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "frames"
    done = run(video, "--geometry", "none", "--max-frames", "3", "--output", folder)
    assert done.exit_code == 0
    names = ["frame_1_0m00.000s.png", "frame_2_0m01.900s.png", "frame_3_0m03.900s.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for name, number in zip(names, (0, 19, 39), strict=True):
        with Image.open(folder / name) as picture:
            assert picture.size == (WIDTH, HEIGHT)
            assert number_of(np.asarray(picture)) == number
        assert str(folder / name) in done.stdout


def test_written_frames_as_input_to_the_model(tiny: Path, video: Path, tmp_path: Path) -> None:
    done = run(video, "-m", tiny, "--max-frames", "2", "--output", tmp_path / "out", "--json")
    files = json.loads(done.stdout)["files"]
    assert len(files) == 2
    with Image.open(files[0]) as picture:
        assert picture.size == (tinymodels.IMAGE_SIZE, tinymodels.IMAGE_SIZE)


def test_file_names_carry_rounded_seconds_over() -> None:
    metadata = VideoMetadata(width=1, height=1, duration_seconds=61.0)
    images = np.zeros((2, 1, 1, 3), dtype=np.uint8)
    assert _file_names(FrameBatch(images, (0.0, 59.9996), metadata)) == [
        "frame_1_0m00.000s.png",
        "frame_2_1m00.000s.png",
    ]


def test_contact_sheet_is_written(video: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.jpg"
    words = (video, "--geometry", "none", "--max-frames", "4", "--sheet", sheet)
    assert run(*words).stderr == f"note: the contact sheet is `{sheet}`\n"
    with Image.open(sheet) as picture:
        assert picture.width > 2 * WIDTH
    assert run(*words).exit_code == 5
    assert run(*words, "--overwrite").exit_code == 0


def test_large_frames_are_downscaled_for_the_filmstrip(tmp_path: Path) -> None:
    wide = np.zeros((60, 1600, 3), np.uint8)
    path = write_clip(tmp_path / "wide.mp4", evenly(2, 5), images=[wide, wide]).path
    folder = tmp_path / "frames"
    done = run(path, "--geometry", "none", "--output", folder, "--filmstrip", "blocks")
    assert done.exit_code == 0
    assert "wide.mp4 · 0:00 · 1600×60" in done.stderr  # noqa: RUF001
    with Image.open(next(folder.iterdir())) as picture:
        assert picture.size == (1600, 60)  # written at full size


def test_non_empty_folder_is_refused(video: Path, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    done = run(video, "--geometry", "none", "--output", tmp_path)
    assert done.exit_code == 5
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["diary.txt"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--geometry", "none", "--model", "smolvlm2-256m"), "for no model"),
        (("--sheet", "sheet.gif"), "`--sheet` is written as"),
        (("--overwrite",), "no effect"),
    ],
)
def test_incompatible_options_are_usage_errors(
    video: Path, words: tuple[str, ...], says: str
) -> None:
    done = run(video, *words)
    assert done.exit_code == 2
    assert says in done.stderr


def test_one_video_at_a_time(video: Path) -> None:
    for copy in ("second.mp4", "third.mp4"):
        (video.parent / copy).write_bytes(video.read_bytes())
    done = run(video.parent, "--geometry", "none")
    assert done.exit_code == 2
    assert "holds 3 videos" in done.stderr


def test_folder_of_frames_has_no_clock(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (32, 24), (number * 90, 0, 0)).save(tmp_path / f"frame{number}.png")
    done = run(tmp_path, "--geometry", "none", "--filmstrip", "times")
    assert done.stdout == "frame\n    1\n    2\n    3\n"
    assert "#1  #2  #3" in done.stderr


@pytest.mark.parametrize("geometry", ["none", "official"])
def test_window_requires_a_video(tiny: Path, tmp_path: Path, geometry: str) -> None:
    picture = tmp_path / "still.png"
    Image.new("RGB", (32, 24), "red").save(picture)
    model = ("--model", tiny) if geometry != "none" else ()
    done = run(picture, "--geometry", geometry, "--start", "0:01", *model)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "`still.png` is a still picture" in done.stderr


@pytest.mark.parametrize("words", [("--model", "nano"), ("--revision", "main")])
def test_geometry_none_refuses_model_options(video: Path, words: tuple[str, str]) -> None:
    done = run(video, "--geometry", "none", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"`{words[0]}` is about one" in done.stderr


def test_geometry_none_ignores_the_default_model(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOLVIDEO_MODEL", "smolvlm2-256m")
    assert run(video, "--geometry", "none", "--max-frames", "2").exit_code == 0


def test_folder_of_videos_error_names_the_first(video: Path, tmp_path: Path) -> None:
    for name in ("a b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(video.read_bytes())
    done = run(tmp_path)
    assert done.exit_code == 2
    assert f"hint: `smolvideo frames '{tmp_path}/a b.mp4'` shows the first" in done.stderr


def test_source_is_not_overwritten(tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    shot = shots / "1.png"
    Image.new("RGB", (8, 8)).save(shot)
    before = shot.read_bytes()
    for source, option, written in [
        (shot, "--sheet", shot),
        (shots, "--sheet", shot),
        (shots, "--output", shots),
    ]:
        done = run(source, option, written, "--overwrite")
        assert done.exit_code == 2
        assert f"`{option}` would write over the source" in done.stderr
    assert (shot.read_bytes(), list(shots.iterdir())) == (before, [shot])


def test_contact_sheet_too_high_for_webp_is_an_error(video: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.webp"
    done = run(video, "--sheet", sheet, "--max-frames", "2")
    assert done.exit_code == 0
    sheet.unlink()
    long = write_clip(tmp_path / "long.mp4", evenly(1600, 25)).path
    done = run(long, "--geometry", "none", "--sheet", sheet, "--max-frames", "1600")
    assert (done.exit_code, sheet.exists()) == (5, False)
    assert "cannot write" in done.stderr
