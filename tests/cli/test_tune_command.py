"""``smolvideo tune`` as a command, on nano and three clips."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.newwords import write_clips, write_pairs

from smolvideo.cli.main import cli


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), clips=3, questions=2, size=48)


SHORT = ("--steps", "1", "--batch-size", "2", "--rank", "2", "--max-frames", "2")


def test_clips_are_tuned_and_asked_about_with_the_adapter(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    command = ("tune", data, "--model", "nano", "--rehearse", "none", "--out", out, *SHORT)
    done = run(*command, "--held-out", "0.3", "--merge", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["samples"] == {
        "train": 4,
        "held_out": 2,
        "rehearse": 0,
        "rehearse_held_out": 0,
    }
    card = (out / "README.md").read_text("utf-8")
    assert "| held-out videos of the data |" in card
    assert result["data"] in card
    assert (out / "curves.svg").read_text("utf-8").startswith("<svg")
    clip = next(data.parent.glob("*.mp4"))
    asked = run("ask", "--adapter", out, clip, "What is it?", "--json", "--no-keep")
    assert asked.exit_code == 0, asked.output
    record = json.loads(asked.stdout)
    assert len(record["adapter"]) == 64
    assert record["model"] == "nano"
    merged = run("ask", "--model", out / "merged", clip, "What is it?", "--json", "--no-keep")
    assert json.loads(merged.stdout)["text"] == record["text"]
    again = run(*command, "--held-out", "0.2")
    assert again.exit_code == 2
    assert "another run (held_out 0.3, now 0.2)" in again.stderr


def test_dry_run_predicts_and_refuses_before_any_download(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smolvideo.tune.memory.free_memory_bytes", lambda: 24_000_000_000)
    planned = run("tune", data, "--model", "smolvlm2-256m", "--dry-run", "--json")
    assert planned.exit_code == 0, planned.output
    plan = json.loads(planned.stdout)
    assert plan["fits"]
    assert plan["peak_bytes"] >= sum(plan["memory"].values())
    refused = run("tune", data, "--model", "smolvlm2-2.2b", "--method", "full")
    assert refused.exit_code == 4
    assert "`full` of `smolvlm2-2.2b` needs 3" in refused.stderr
    assert "--method lora" in refused.stderr


def test_faulty_lines_are_named(data: Path, tmp_path: Path) -> None:
    file = data.parent / "faulty.jsonl"
    file.write_text(data.read_text() + '{"video": "none.mp4", "question": "?", "answer": "x"}\n')
    refused = run(
        *("tune", file, "--model", "nano", "--rehearse", "none", "--out", tmp_path / "x", *SHORT)
    )
    assert refused.exit_code == 5
    assert "1 line of 7" in refused.stderr
    assert "line 7: no such file" in refused.stderr


def test_dry_run_refuses_what_the_run_refuses(data: Path, tmp_path: Path) -> None:
    missing = '{"video": "none.mp4", "question": "?", "answer": "x"}\n'
    file = data.parent / "mostly_faulty.jsonl"
    file.write_text(missing * 12 + data.read_text())
    dry = ("--model", "nano", "--dry-run")
    refused = run("tune", file, *dry)
    assert refused.exit_code == 5
    assert "12 lines of 18" in refused.stderr
    assert "and 4 more" in refused.stderr
    assert not refused.stdout
    planned = run("tune", file, *dry, "--skip-faulty")
    assert planned.exit_code == 0, planned.output
    assert planned.stderr.count("left out: line") == 8
    assert "left out: 4 more lines" in planned.stderr
    file.write_text(missing)
    assert run("tune", file, *dry, "--skip-faulty").exit_code == 5
    clip = next(data.parent.glob("*.mp4"))
    refused = run("tune", clip, *dry)
    assert refused.exit_code == 5
    assert len(refused.stderr) < 2000
    for option, code in (("--rehearse", 5), ("--exam", 3)):
        refused = run("tune", data, *dry, option, tmp_path / "none.jsonl")
        assert refused.exit_code == code
        assert "none.jsonl" in refused.stderr
        refused = run("tune", data, "--model", "smolvlm2-256m", "--dry-run", option, "world")
        assert refused.exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "full", "--rank", "4"), "`--rank` is LoRA's"),
        (("--steps", "3", "--epochs", "2"), "`--steps` and `--epochs`"),
        (("--train", "eyes"), "unknown part `eyes`"),
        (("--rehearse", "none", "--base-weight", "2"), "`--base-weight` has no effect"),
    ],
)
def test_contradictory_options_are_refused(
    words: tuple[str, ...], message: str, data: Path
) -> None:
    refused = run("tune", data, "--model", "nano", *words)
    assert refused.exit_code == 2
    assert message in refused.stderr


@pytest.mark.parametrize("name", ["file", "file/inside"])
def test_file_in_place_of_the_folder_is_refused_first(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in (("tune",), ("tune", "align")):
        refused = run(*command, tmp_path / "none.jsonl", "--out", tmp_path / name)
        assert refused.exit_code == 5
        assert "file` is a file, not a folder" in refused.stderr


def test_adapter_and_model_must_belong_together(tmp_path: Path) -> None:
    missing = run("ask", "--adapter", tmp_path, "samples/circle_right.mp4", "What moves?")
    assert missing.exit_code == 4
    assert "it holds no adapter" in missing.stderr


def test_pairs_are_aligned(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "clips", clips=3, size=48)
    out = tmp_path / "out"
    words = ("tune", "align", pairs, "--model", "nano", "--out", out, "--max-frames", "2")
    done = run(*words, "--steps", "1", "--batch-size", "2", "--held-out", "0.3", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["beta"] == 0.1
    assert json.loads((out / "result.json").read_text("utf-8")) == result
    assert (out / "best" / "adapter_config.json").exists()
    assert "| rejected answers to the same |" in (out / "README.md").read_text("utf-8")


def test_aligning_without_held_out_pairs_says_so(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "clips", clips=1, size=48)
    pairs.write_text('{"video": "none.mp4"}\n' + pairs.read_text().splitlines()[0] + "\n")
    words = ("tune", "align", pairs, "--model", "nano", "--out", tmp_path / "out")
    done = run(*words, "--max-frames", "1", "--steps", "1", "--batch-size", "1", "--skip-faulty")
    assert done.exit_code == 0, done.output
    assert "no clip was held out" in done.stderr
    assert "left out: line 1" in done.stderr
    assert "exact answers" not in done.stderr
