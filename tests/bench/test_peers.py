"""Baselines give the answers of transformers; otherwise their speed would mean nothing."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support import tinymodels
from support.project import ROOT

from smolvideo.bench import BASELINES, BenchOptions, run_bench
from smolvideo.bench.input_videos import read_bench_frames
from smolvideo.bench.llama_cpp_export import export_llama_cpp
from smolvideo.bench.openvino_engine import export_openvino, import_openvino
from smolvideo.cli.bench import bench
from smolvideo.engines import GenerationOptions, load_engine
from smolvideo.errors import ModelError, UsageError
from smolvideo.models import open_checkpoint
from smolvideo.prompt import Message, pack_prompt

MODULES = {"openvino": ("openvino",), "llama.cpp": ("llama_cpp", "gguf")}
EXPORTS = {"openvino": export_openvino, "llama.cpp": export_llama_cpp}


def skip_without(peer: str) -> None:
    """Skip where the peer's packages are missing.

    Imports none of them: the project must be the first to import OpenVINO, whose output it
    silences.
    """
    if not all(importlib.util.find_spec(module) for module in MODULES[peer]):
        pytest.skip(f"pip install 'smolvideo[{peer.replace('.', '-')}]'")


@pytest.mark.parametrize(
    ("peer", "module", "told"),
    [
        ("openvino", "openvino", "OpenVINO is not installed"),
        ("llama.cpp", "llama_cpp", "llama.cpp is not installed"),
    ],
)
def test_missing_peer_error_names_the_install_command(
    peer: str, module: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=told) as caught:
        run_bench(BenchOptions(engines=("native", peer)))
    assert caught.value.hint is not None
    assert f"pip install 'smolvideo[{peer.replace('.', '-')}]'" in caught.value.hint


@pytest.mark.parametrize("peer", BASELINES)
def test_int8_weights_cannot_be_compared_with_a_peer(peer: str) -> None:
    arguments = ["--quantize", "int8", "--against", peer]
    with pytest.raises(UsageError, match="with and without"):
        CliRunner().invoke(bench, arguments, catch_exceptions=False)


def test_repeated_peer_is_a_usage_error() -> None:
    arguments = ["--against", "openvino", "--against", "llama.cpp", "--against", "openvino"]
    with pytest.raises(UsageError, match="named twice"):
        CliRunner().invoke(bench, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    "peer", [pytest.param("openvino"), pytest.param("llama.cpp", marks=pytest.mark.llama_cpp)]
)
class TestInstalled:
    @pytest.fixture(autouse=True)
    def _installed(self, peer: str) -> None:
        skip_without(peer)

    @pytest.mark.parametrize("family", ["smolvlm", "idefics3"])
    def test_peer_answers_equal_transformers(
        self, peer: str, family: tinymodels.Family, tmp_path: Path
    ) -> None:
        folder = self._tiny(peer, family, tmp_path)
        self._compare(peer, str(folder), tmp_path, tokens=24)

    def _tiny(self, peer: str, family: tinymodels.Family, tmp_path: Path) -> Path:
        folder = tinymodels.make_tiny(tmp_path / "tiny", family)
        if peer == "llama.cpp":  # it requires a vocabulary with merges
            tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            tokenizer["model"]["vocab"]["th"] = max(tokenizer["model"]["vocab"].values())
            tokenizer["model"]["merges"] = [["t", "h"]]
            (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        return folder

    def test_peer_answers_equal_transformers_for_nano(self, peer: str, tmp_path: Path) -> None:
        assert self._compare(peer, "nano", tmp_path, tokens=32)

    def _compare(self, peer: str, name: str, tmp_path: Path, tokens: int) -> str:
        checkpoint = open_checkpoint(name)
        EXPORTS[peer](name, tmp_path / "exported", "float32")
        engine = BASELINES[peer].load(checkpoint, tmp_path / "exported", "float32")
        reference = load_engine(checkpoint, engine="transformers", dtype="float32", device="cpu")
        frames = read_bench_frames(ROOT / "samples" / "triangle_down.mp4", checkpoint, 6).batch
        generation = GenerationOptions(max_new_tokens=tokens)
        for content in ((frames, "What is in this video?"), ("What is this?",)):
            prompt = pack_prompt([Message("user", content)], checkpoint)
            expected = reference.stream(prompt, generation).result()
            for _ in range(2):  # the second run must not depend on the first
                assert engine.stream(prompt, generation).result().text == expected.text
            if content[0] is frames:
                answered = expected.text
        return answered

    def test_peers_refuse_other_devices_than_the_cpu(self, peer: str) -> None:
        with pytest.raises(UsageError, match="measures on the CPU"):
            run_bench(BenchOptions(engines=(peer,), device="cuda", frames=1, repeats=1))

    @pytest.mark.slow
    def test_bench_prints_a_table_and_a_json_line(self, peer: str, tmp_path: Path) -> None:
        arguments = ["--against", peer, "--frames", "3", "--repeats", "1"]
        arguments += ["--max-new-tokens", "4", "--random-weights", "--config"]
        arguments.append(str(self._tiny(peer, "smolvlm", tmp_path)))
        run = CliRunner().invoke(bench, arguments, catch_exceptions=False)
        content = json.loads(run.stdout.splitlines()[-1])
        assert list(content["engines"]) == ["native", peer]
        assert content["machine"]["versions"][BASELINES[peer].package]
        assert {"encode", "first_token", "generation"} <= set(content["ratios"])
        assert {one["device"] for one in content["engines"].values()} == {"cpu"}
        told = content["engines"][peer]
        assert (told["dtype"], told["twenty_questions"]) == ("float32", None)
        assert np.isfinite(list(content["ratios"].values())).all()
        assert f"converting for {peer}\nmeasuring native, 1 of 1\n" in run.stderr
        assert f"measuring {peer}, 1 of 1" in run.stderr


def test_openvino_sends_no_telemetry() -> None:
    """Its converter reports every conversion if the telemetry package can be imported."""
    skip_without("openvino")
    import_openvino()
    ovc = importlib.import_module("openvino.tools.ovc")
    assert ovc.telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


@pytest.mark.llama_cpp
def test_files_that_llama_cpp_cannot_read_are_errors(tmp_path: Path) -> None:
    for name in ("model.gguf", "mmproj.gguf"):
        (tmp_path / name).write_bytes(b"GGUF and no more")
    with pytest.raises(ModelError, match="cannot read its files of `nano`"):
        BASELINES["llama.cpp"].load(open_checkpoint("nano"), tmp_path, "float32")
