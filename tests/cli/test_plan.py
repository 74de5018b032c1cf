"""``smolvideo plan`` and ``ask --dry-run``: predicted cost of an answer before weights are read."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from support.project import ROOT
from support.terminals import environment

from smolvideo.cli.main import cli
from smolvideo.cost import RateRequest, Rates
from smolvideo.cost.rates import keep_rates

SAMPLES = ROOT / "samples"
SAMPLE = SAMPLES / "circle_right.mp4"
RATES = Rates("cpu", "float32", 1, 2e11, 1e11, 2e11, 5e10, 1e10, 2e9, 300_000_000, 1.7e9)


@pytest.fixture(autouse=True)
def _measured() -> None:
    """Store measured rates of this machine."""
    now = replace(RATES, measured_at=time.time())
    for request in (RateRequest(), RateRequest(tiny=True)):
        keep_rates(request, now)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


def planned(*words: str | Path) -> dict[str, Any]:
    done = run("plan", "--json", *words)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_plan_has_the_prompt_of_ask() -> None:
    options = ["--max-frames", "10", "--max-new-tokens", "3", "--model", "nano"]
    plan = planned(*options, SAMPLE, "What moves?")
    asked = run("ask", "--json", "--no-keep", *options, SAMPLE, "What moves?")
    record = json.loads(asked.stdout)
    prediction = plan["prediction"]
    assert plan["sources"][0]["frame_times"] == pytest.approx(
        record["sources"][0]["frame_times"], abs=0.1
    )
    assert (prediction["frames"], prediction["tokens"]) == (10, record["tokens"]["prompt"])
    assert prediction["max_new_tokens"] == 3
    assert {*prediction["seconds"]} == {"decode", "preprocess", "load", "encode", "prefill"}
    assert min(prediction["seconds"].values()) > 0
    frames = [one["frames"] for one in plan["smaller"]]
    assert frames == [8]  # of 8, 16 and 32 the only one below 10


def test_past_answers_correct_later_plans() -> None:
    words = ["--max-frames", "4", "--max-new-tokens", "8", "--model", "nano", SAMPLE, "What moves?"]
    assert planned(*words)["prediction"]["past_answers"] == 0
    run("ask", "--no-keep", "--no-cache", *words)
    assert planned(*words)["prediction"]["past_answers"] == 0
    run("ask", "--no-keep", *words)
    assert planned(*words)["prediction"]["past_answers"] == 1


def test_dry_run_equals_plan() -> None:
    words = ["--max-frames", "5", "--model", "nano", SAMPLE, "What moves?"]
    dry = json.loads(run("ask", "--dry-run", "--json", *words).stdout)
    plan = planned(*words)
    for found in (dry, plan):
        for one in (found["prediction"], *found["others"], *found["smaller"]):
            for measured in ("seconds", "first_token_seconds", "answer_seconds"):
                del one[measured]
    assert dry == plan


def test_missing_model_is_planned_by_its_registered_shapes() -> None:
    plan = planned("--model", "smolvlm2-500m", SAMPLE, "What moves?")
    assert not plan["tokens_are_exact"]
    names = [one["model"] for one in plan["others"]]
    assert names == ["smolvlm2-256m", "smolvlm2-2.2b", "smolvlm-2.2b", "smolvlm-500m", *names[4:]]
    seconds = {one["model"]: one["first_token_seconds"] for one in plan["others"]}
    assert seconds["smolvlm2-256m"] < plan["prediction"]["first_token_seconds"]
    assert seconds["smolvlm2-2.2b"] > plan["prediction"]["first_token_seconds"]


def test_plan_of_quantized_weights() -> None:
    plain, eight = (
        planned("--model", "smolvlm2-2.2b", "--quantize", quantize, SAMPLE)["prediction"]
        for quantize in ("none", "int8")
    )
    assert eight["weight_bytes"] < plain["weight_bytes"] / 3
    assert eight["seconds_per_token"] < plain["seconds_per_token"] / 2
    assert eight["seconds"]["prefill"] > plain["seconds"]["prefill"]


def test_image_is_planned_in_the_tiles_of_each_model(tmp_path: Path) -> None:
    Image.new("RGB", (320, 240)).save(tmp_path / "wide.png")
    plan = planned("--model", "nano", tmp_path / "wide.png", "What is this?")
    assert plan["prediction"]["frames"] == 1  # nano has no tiles
    assert plan["smaller"] == []
    # 2048 by 1536 pixels are four by three tiles and the downscaled image.
    assert {one["frames"] for one in plan["others"]} == {13}
    joined = planned("--model", "smolvlm2-256m", "--no-split-images", tmp_path / "wide.png")
    assert joined["prediction"]["frames"] == 1


def test_plan_tolerates_corrupt_first_frames(clips: Path) -> None:
    words = ["--max-frames", "4", "--model", "nano", clips / "d_bitflip60.mp4"]
    assert run("frames", "--json", *words).exit_code == 0
    assert planned(*words)["prediction"]["frames"] == 4


def test_plan_tables() -> None:
    done = run("plan", "--model", "smolvlm2-2.2b", SAMPLE, "What moves?")
    assert done.exit_code == 0
    assert "circle_right.mp4  0:06, 320 by 240: 50 frames from 0:00.0 to 0:05.9" in done.stdout
    heads = [line for line in done.stdout.splitlines() if line.startswith(("stage", "frames  "))]
    assert len(heads) == 2
    assert "about " in done.stdout  # estimated token counts are marked
    assert "GFLOP/s" not in done.stdout
    verbose = run("plan", "-v", SAMPLE, "What moves?")
    assert "cpu, float32, 1 thread: 200 and 100 GFLOP/s in frames" in verbose.stdout


def test_videos_without_a_question_have_a_total(tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    for name in ("circle_right.mp4", "number_42.mp4"):
        (folder / name).write_bytes((SAMPLES / name).read_bytes())
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and nothing more")
    done = run("plan", "--json", "--max-frames", "4", "--model", "nano", folder)
    assert done.exit_code == 6
    found = json.loads(done.stdout)
    errors = {item["name"]: item.get("error") for item in found["items"]}
    assert [name for name, error in errors.items() if error] == ["broken.mp4"]
    assert (found["total"]["videos"], found["total"]["frames"]) == (2, 8)
    table = run("plan", "--max-frames", "4", "--model", "nano", folder)
    assert table.stdout.splitlines()[0].split()[-1] == "problem"
    assert table.stdout.splitlines()[-1].split()[:2] == ["all", "8"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "no video to ask about"),
        (("What happens?",), 2, "no video to ask `What happens?` about"),
        (("missing.mp4",), 3, "no such file or folder: `missing.mp4`"),
        (("missing.mp4", "What?"), 3, "no such file or folder: `missing.mp4`"),
        (("https://example.com/a.mp4", "What?"), 3, "is not downloaded"),
        (("--engine", "transformers", SAMPLE), 2, "the cost of the engine `transformers`"),
        (("--model", "me/mine", SAMPLE), 4, "`me/mine` is not on this machine"),
        (("--model", "smolvlm3", SAMPLE), 4, "unknown model `smolvlm3`"),
        (("--max-frames", "1", SAMPLE, SAMPLE, "What?"), 2, "2 sources need 2 frames"),
        (("-m", "smolvlm2-256m", "--max-frames", "1", SAMPLE, SAMPLE, "What?"), 2, "2 sources"),
    ],
)
def test_plan_errors(words: tuple[str | Path, ...], code: int, message: str) -> None:
    done = run("plan", *words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr


@pytest.mark.parametrize("option", [["--continue"], ["--save", "a.jsonl"], ["--output", "a.txt"]])
def test_dry_run_writes_nothing(
    option: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("ask", "--dry-run", *option, SAMPLE, "What moves?")
    assert done.exit_code == 2
    assert f"`{option[0]}` is for answers" in done.stderr
    assert not [*tmp_path.glob("a.*")]


def test_plan_imports_no_torch_where_rates_are_stored() -> None:
    script = """
import sys
from smolvideo.cli.main import cli
code = cli.main(sys.argv[1:], standalone_mode=False)
print(code, "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "plan", "--model", "nano", str(SAMPLE), "What moves?"],
        capture_output=True,
        text=True,
        check=True,
        env=environment(OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "")),
    )
    assert done.stdout.splitlines()[-1] == "0 False"
