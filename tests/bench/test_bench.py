"""The bench: measurements of small networks, and the arithmetic of its report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support import tinymodels
from support.project import ROOT
from support.record_schemas import validate_line

from smolvideo.bench import BenchOptions, run_bench
from smolvideo.bench import report as bench_report
from smolvideo.bench.input_videos import read_bench_frames, write_noise_video
from smolvideo.bench.measure import (
    BenchTask,
    Measurement,
    logprob_error,
    measure,
    save_logprobs,
)
from smolvideo.bench.report import medians, ratios, write_random_weights
from smolvideo.cli.bench import bench
from smolvideo.errors import ModelError, SourceError, UsageError
from smolvideo.models import open_checkpoint

ONE = Measurement(
    engine="native",
    device="cpu",
    dtype="float32",
    threads=2,
    frames=50,
    prompt_tokens=100,
    load=1.0,
    decode=0.5,
    preprocess=0.5,
    encode=2.0,
    prefill=1.0,
    first_token=3.0,
    tokens_per_second=40.0,
    one_question=4.0,
    next_question=0.1,
    twenty_questions=6.0,
    peak_memory_bytes=1000,
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    folder = tinymodels.make_tiny(tmp_path / "tiny")
    (folder / "model.safetensors").unlink()
    return folder


def test_medians_are_taken_field_by_field() -> None:
    runs = [
        replace(ONE, encode=encode, peak_memory_bytes=peak)
        for encode, peak in ((2.0, 10), (9.0, 30), (3.0, 20))
    ]
    assert medians(runs) == replace(ONE, encode=3.0, peak_memory_bytes=20)
    assert medians([replace(ONE, twenty_questions=None)] * 2).twenty_questions is None


def test_ratios_are_speed_ups_of_the_first() -> None:
    peer = replace(
        ONE,
        engine="transformers",
        encode=5.0,
        first_token=6.0,
        tokens_per_second=5.0,
        next_question=6.0,
        twenty_questions=None,
    )
    assert ratios([ONE, peer]) == pytest.approx(
        {
            "encode": 2.5,
            "first_token": 2.0,
            "generation": 8.0,
            "next_question": 60.0,
            "next_question_sooner": 30.0,
            "twenty_questions": 1.5,
        }
    )
    assert ratios([ONE]) == pytest.approx({"next_question_sooner": 30.0, "twenty_questions": 1.5})


@pytest.mark.slow
def test_last_line_is_one_json_object(tiny: Path, tmp_path: Path) -> None:
    arguments = ["--random-weights", "--config", str(tiny), "--frames", "3"]
    arguments += ["--max-new-tokens", "4", "--repeats", "1", "--device", "cpu"]
    kept = tmp_path / "bench.json"
    run = CliRunner().invoke(bench, [*arguments, "--output", str(kept)], catch_exceptions=False)
    content = validate_line("bench", run.stdout.splitlines()[-1])
    assert json.loads(kept.read_text("utf-8")) == content
    assert set(content["engines"]) == {"native", "transformers"}
    assert {"encode", "first_token", "generation", "next_question"} <= set(content["ratios"])
    assert content["peak_memory_bytes"]["native"] > 10_000_000
    native = content["engines"]["native"]
    assert native["frames"] == 3
    assert min(native["decode"], native["preprocess"]) > 0
    assert native["first_token"] == pytest.approx(native["encode"] + native["prefill"])
    assert native["twenty_questions"] > native["one_question"] > native["first_token"]
    assert "20 questions" in run.stderr


@pytest.fixture
def _measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process; subprocesses are used by ``test_last_line_is_one_json_object`` and
    ``test_peers.py``.
    """

    def run(
        module: str, arguments: Sequence[str], what: str, environment: Mapping[str, str]
    ) -> list[str]:
        assert module == "smolvideo.bench.measure"
        measured = measure(BenchTask(**json.loads(arguments[0])))
        return [json.dumps(asdict(measured))]

    monkeypatch.setattr(bench_report, "_run", run)


@pytest.mark.parametrize("model", [(), ("--model", "AUTO")], ids=str)
def test_without_a_model_here_nano_is_measured(
    model: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[BenchOptions] = []

    def note(options: BenchOptions, _: object) -> None:
        measured.append(options)
        raise KeyboardInterrupt

    monkeypatch.delenv("SMOLVIDEO_MODEL", raising=False)
    monkeypatch.setattr("smolvideo.cli.bench.run_bench", note)
    run = CliRunner().invoke(bench, [*model])
    assert "no model for real footage is on this machine: `nano` is measured" in run.stderr
    run = CliRunner().invoke(bench, [*model, "--video", str(ROOT / "samples" / "circle_right.mp4")])
    assert "model nano: all videos are drawn" in run.stderr
    assert [options.model for options in measured] == ["nano", "nano"]


@pytest.mark.usefixtures("_measured_here")
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_quantized_weights_are_compared_with_float_weights(tiny: Path, quantize: str) -> None:
    arguments = ["--random-weights", "--config", str(tiny), "--frames", "3", "--quantize", quantize]
    arguments += ["--max-new-tokens", "4", "--repeats", "1", "--device", "cpu"]
    run = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    content = validate_line("bench", run.stdout.splitlines()[-1])
    engines = content["engines"]
    assert list(engines) == [f"native {quantize}", "native"]
    assert [told["quantize"] for told in engines.values()] == [quantize, "none"]
    assert 0 < engines[f"native {quantize}"]["weight_bytes"] < engines["native"]["weight_bytes"]
    error = content["log_probability_error"]
    assert error["largest"] > error["mean"] > 0
    assert error["kl_divergence"] > 0
    assert {"encode", "first_token", "generation"} <= set(content["ratios"])
    assert f"off by {error['largest']:.3g} at most" in " ".join(run.stderr.split())
    with pytest.raises(UsageError, match="with and without"):
        CliRunner().invoke(
            bench, ["--quantize", quantize, "--engine", "native"], catch_exceptions=False
        )


def test_error_of_log_probabilities(tmp_path: Path) -> None:
    scores = torch.tensor([1.0, 2.0, 0.5, -3.0])
    for name, others in (("same", scores + 5), ("others", torch.tensor([1.5, 2.0, 0.0, -3.0]))):
        save_logprobs(others, tmp_path / f"{name}.npy")
    save_logprobs(scores, tmp_path / "scores.npy")
    same = logprob_error(tmp_path / "same.npy", tmp_path / "scores.npy")
    assert same == pytest.approx({"largest": 0, "mean": 0, "kl_divergence": 0}, abs=1e-6)
    got = logprob_error(tmp_path / "others.npy", tmp_path / "scores.npy")
    expected, other = scores.log_softmax(-1), torch.tensor([1.5, 2.0, 0.0, -3.0]).log_softmax(-1)
    off = (other - expected).abs()
    assert got["largest"] == pytest.approx(float(off.max()), abs=1e-6)
    assert got["mean"] == pytest.approx(float(off.mean()), abs=1e-6)
    kl = torch.nn.functional.kl_div(other, expected, log_target=True, reduction="sum")
    assert got["kl_divergence"] == pytest.approx(float(kl), abs=1e-6)


@pytest.mark.usefixtures("_measured_here")
def test_frames_are_taken_from_a_video(tmp_path: Path) -> None:
    rendered = tmp_path / "rendered.mp4"
    write_noise_video(rendered, 3)
    checkpoint = open_checkpoint("nano")
    footage = read_bench_frames(rendered, checkpoint, 5)
    assert footage.batch.images.shape == (5, checkpoint.image_size, checkpoint.image_size, 3)
    assert footage.batch.metadata.duration_seconds == pytest.approx(3.0, abs=0.11)
    assert all((one != next_one).mean() > 0.1 for one, next_one in pairwise(footage.batch.images))
    options = BenchOptions(engines=("native",), video=rendered, frames=2, new_tokens=2, repeats=1)
    report = run_bench(options)
    assert report.measured[0].frames == 2
    assert json.loads(report.to_json())["options"]["video"] == str(rendered)


def test_random_weights_are_written_for_a_configuration(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_random_weights(tiny, tmp_path / "random")))
    assert checkpoint.weights is not None
    with pytest.raises(ModelError, match="no folder"):
        write_random_weights(tmp_path / "absent", tmp_path / "other")


def test_invalid_tasks_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="measuring `native` failed"):
        run_bench(BenchOptions(model=str(tmp_path), repeats=1))
    film = tmp_path / "film.mp4"
    film.write_bytes(b"a film")
    for arguments in (
        ["--random-weights"],
        ["--engine", "vllm"],
        ["--engine", "native,native"],
        ["--overwrite"],
        ["--video", str(film), "--output", str(film), "--overwrite"],
    ):
        with pytest.raises(UsageError):
            CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert film.read_bytes() == b"a film"
    absent = ["--video", str(tmp_path / "absent.mp4")]
    with pytest.raises(SourceError, match="no such file"):
        CliRunner().invoke(bench, absent, catch_exceptions=False)
