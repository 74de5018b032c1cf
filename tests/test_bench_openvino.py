"""OpenVINO as a peer: it answers what transformers answers, or its speed would mean nothing."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tinymodels
from click.testing import CliRunner
from conftest import ROOT

from smolvideo.bench import BenchOptions, run_bench
from smolvideo.bench.footage import read_footage
from smolvideo.bench.openvino_engine import OpenVinoEngine
from smolvideo.bench.openvino_export import export_openvino, import_openvino
from smolvideo.cli.bench import bench
from smolvideo.engines import GenerationOptions, load_engine
from smolvideo.errors import UsageError
from smolvideo.models import open_checkpoint
from smolvideo.prompt import Message, pack_prompt


def test_an_absent_peer_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match="OpenVINO is not installed") as caught:
        run_bench(BenchOptions(engines=("native", "openvino")))
    assert caught.value.hint == "pip install 'smolvideo[openvino]'"


def test_int8_weights_have_no_peer() -> None:
    arguments = ["--quantise", "int8", "--against", "openvino"]
    with pytest.raises(UsageError, match="with and without"):
        CliRunner().invoke(bench, arguments, catch_exceptions=False)


class TestInstalled:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("openvino", reason="pip install 'smolvideo[openvino]'")

    def test_nothing_is_told_to_anybody(self) -> None:
        """Its converter reports every conversion where the package for it can be imported."""
        import_openvino()
        from openvino.tools.ovc import telemetry_utils

        assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"

    @pytest.mark.parametrize("family", ["smolvlm", "idefics3"])
    def test_same_answers_as_transformers(self, family: tinymodels.Family, tmp_path: Path) -> None:
        folder = tinymodels.make_tiny(tmp_path / "tiny", family)
        self._compare(str(folder), tmp_path, tokens=24)

    def test_same_answers_as_transformers_of_nano(self, tmp_path: Path) -> None:
        assert self._compare("nano", tmp_path, tokens=32)

    def _compare(self, name: str, tmp_path: Path, tokens: int) -> str:
        checkpoint = open_checkpoint(name)
        export_openvino(name, tmp_path / "exported", "float32")
        peer = OpenVinoEngine(checkpoint, tmp_path / "exported", "float32")
        reference = load_engine(checkpoint, engine="transformers", dtype="float32", device="cpu")
        frames = read_footage(ROOT / "samples" / "triangle_down.mp4", checkpoint, 6).batch
        generation = GenerationOptions(max_new_tokens=tokens)
        for content in ((frames, "What is in this video?"), ("What is this?",)):
            prompt = pack_prompt([Message("user", content)], checkpoint)
            expected = reference.stream(prompt, generation).result()
            for _ in range(2):  # the second time without anything of the first
                assert peer.stream(prompt, generation).result().text == expected.text
            if content[0] is frames:
                answered = expected.text
        return answered

    def test_another_device_than_the_cpu_is_refused(self) -> None:
        with pytest.raises(UsageError, match="measures on the CPU"):
            run_bench(BenchOptions(engines=("openvino",), device="cuda", frames=1, repeats=1))

    def test_a_table_and_a_line(self, tmp_path: Path) -> None:
        arguments = ["--against", "openvino", "--frames", "3", "--repeats", "1"]
        arguments += ["--max-new-tokens", "4"]
        run = CliRunner().invoke(bench, arguments, catch_exceptions=False)
        content = json.loads(run.stdout.splitlines()[-1])
        assert list(content["engines"]) == ["native", "openvino"]
        assert content["machine"]["versions"]["openvino"]
        assert {"encode", "first_token", "generation"} <= set(content["ratios"])
        assert {one["device"] for one in content["engines"].values()} == {"cpu"}
        told = content["engines"]["openvino"]
        assert (told["dtype"], told["twenty_questions"]) == ("float32", None)
        assert np.isfinite(list(content["ratios"].values())).all()
        assert "measuring openvino, 1 of 1" in run.stderr
