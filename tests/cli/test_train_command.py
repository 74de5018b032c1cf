"""``smolvideo train`` as a command; training itself is tested in test_train and test_world."""

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from smolvideo.cli.main import cli
from smolvideo.show.console import Output
from smolvideo.show.training import TrainingProgress, show_scores, sparkline
from smolvideo.train.schedule import TrainOptions, TrainProgress


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["train", *map(str, words)])


def screen_of(*, terminal: bool = False, quiet: bool = False) -> Output:
    def console() -> Console:
        return Console(file=io.StringIO(), width=80, force_terminal=terminal)

    return Output(console(), console(), quiet=quiet)


def said_by(screen: Output) -> str:
    assert isinstance(screen.err.file, io.StringIO)
    return screen.err.file.getvalue()


def test_help_lists_the_recipes() -> None:
    text = run("--help").stdout
    assert "knows nothing of real footage" in " ".join(text.split())
    assert "nano     Train nano from scratch" in text
    assert "samples  Render the sample videos" in text


def test_help_of_nano_shows_every_default() -> None:
    text = " ".join(run("nano", "--help").stdout.split())
    assert f"[default: {TrainOptions().minutes}; x>0]" in text
    assert "[default: runs/nano]" in text
    assert "[default: one per core with that much free memory; x>=1]" in text
    assert "RANGE" not in text


@pytest.mark.parametrize(
    "words", [("--minutes", "0"), ("--minutes", "inf"), ("--processes", "0"), ("--seed", "x")]
)
def test_invalid_numbers_are_usage_errors(words: tuple[str, str]) -> None:
    done = run("nano", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"Error: invalid value for `{words[0]}`" in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [(("nano", "--out"), "is a file, not a folder"), (("samples",), "cannot write ")],
)
def test_uncreatable_folder_is_an_error(
    command: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = run(*command, tmp_path / "file" / "folder")
    assert (done.exit_code, done.stdout) == (5, "")
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr


NEWS = TrainProgress(
    stage="see", seconds=90.0, total_seconds=600.0, step=7, loss=1.5, scores={"all": 0.25}
)


def test_progress_is_a_line_without_a_terminal() -> None:
    screen = screen_of()
    with TrainingProgress(screen) as progress:
        progress.show(NEWS)
    assert said_by(screen) == "   1.5 min  see     step     7  loss 1.500  all 0.25\n"


def test_quiet_training_prints_nothing(tmp_path: Path) -> None:
    screen = screen_of(terminal=True, quiet=True)
    with TrainingProgress(screen) as progress:
        progress.show(NEWS)
    show_scores(screen, tmp_path)
    assert said_by(screen) == ""


def test_show_scores_prints_accuracies_and_sparkline(tmp_path: Path) -> None:
    folder = tmp_path / "nano"
    folder.mkdir()
    facts = {"held_out": {"all": 0.98}, "held_out_grey": {"all": 0.25}}
    (folder / "training.json").write_text(json.dumps(facts))
    curve = [{"scores": {}}, {"scores": {"all": 0.0}}, {"scores": {"all": 1.0}}]
    (tmp_path / "curve.jsonl").write_text("".join(json.dumps(one) + "\n" for one in curve))
    screen = screen_of()
    show_scores(screen, folder)
    assert "all           98.0%   (25.0%)" in said_by(screen)
    assert said_by(screen).endswith("accuracy over time: ▁█\n")


def test_sparkline() -> None:
    assert sparkline([None, 0.0, 0.5, 1.0]) == "▁▅█"
