"""The exam before and after, and the plan of memory."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.adapters import write_adapter

from smolvideo.errors import ModelError, UsageError
from smolvideo.models import Checkpoint, find_model
from smolvideo.tune import exam
from smolvideo.tune.card import lost
from smolvideo.tune.exam import check_exam, sit_exam
from smolvideo.tune.memory import TunePlan, Workload, plan_memory, trained_parameters
from smolvideo.tune.options import TuneOptions
from smolvideo.tune.run import Machine


def write_exam(data: Path, name: str, answer: str) -> Path:
    clip = json.loads(data.read_text().splitlines()[0])["video"]
    options = [answer, "a red circle", "two"]
    line = {"id": "1", "video": clip, "question": "What is it?", "options": options}
    file = data.parent / name
    file.write_text(json.dumps({**line, "answer_index": 0}) + "\n")
    return file


def test_exam_is_answered_once_for_each_checkpoint(
    data: Path, nano: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_exam(data, "exam.jsonl", "a pink diamond")
    first = sit_exam(str(file), nano, tmp_path / "before", Machine())
    assert first["all"][1] == 1
    loaded: list[Checkpoint] = []

    def refuse(checkpoint: Checkpoint, **_: object) -> None:
        loaded.append(checkpoint)
        raise ModelError("loaded again")

    monkeypatch.setattr(exam, "load_engine", refuse)
    assert sit_exam(str(file), nano, tmp_path / "before", Machine()) == first
    other = write_exam(data, "other.jsonl", "a pink circle")
    tuned = nano.with_adapter(write_adapter(tmp_path / "adapter", nano))
    for choice, checkpoint in ((str(other), nano), (str(file), tuned)):
        with pytest.raises(ModelError, match="loaded again"):
            sit_exam(choice, checkpoint, tmp_path / "before", Machine())
    assert loaded == [nano, tuned]


def test_world_is_nanos_exam(nano: Checkpoint) -> None:
    assert check_exam("world", nano) is None
    with pytest.raises(UsageError, match="nano's"):
        check_exam("world", replace(nano, layout="smolvlm2"))


def test_lost_groups_are_named_worst_first() -> None:
    before = {"all": (0.9, 100), "choice": (0.8, 10), "count": (0.7, 10)}
    after = {"all": (0.895, 100), "choice": (0.5, 10), "count": (0.6, 10)}
    assert [name for name, _ in lost(before, after)] == ["choice", "count"]


def plan(model: str, options: TuneOptions, dtype: str = "bfloat16", free: float = 16.0) -> TunePlan:
    network = find_model(model).network
    assert network is not None
    work = Workload(samples=100, tokens=830, answer_tokens=16, frames=800)
    return plan_memory(model, network, options, work, dtype=dtype, free_bytes=round(free * 1e9))


def test_counts_of_trained_parameters() -> None:
    network = find_model("smolvlm2-2.2b").network
    assert network is not None
    assert trained_parameters(network, TuneOptions(rank=8)) == 9_043_968
    full = trained_parameters(network, TuneOptions(method="full"))
    assert full == pytest.approx(1.81e9, rel=0.01)  # layers, embeddings and head


def test_lora_of_the_largest_fits_16_gb_and_full_does_not() -> None:
    lora = plan("smolvlm2-2.2b", TuneOptions())
    assert lora.fits
    assert lora.adapter_bytes == 4 * lora.trained_parameters
    lora.check()
    full = plan("smolvlm2-2.2b", TuneOptions(method="full"))
    assert 28e9 < full.peak_bytes < 33e9
    assert not full.fits
    with pytest.raises(ModelError, match="needs 3"):
        full.check()
    assert any("--method lora" in one for one in full.advice)


def test_checkpointing_and_micro_batches_take_less() -> None:
    def activations(**options: object) -> int:
        return plan("smolvlm2-256m", TuneOptions(**options)).memory["activations"]  # type: ignore[arg-type]

    kept = activations(checkpointing=False)
    assert activations(checkpointing=True) < kept / 5
    assert activations(checkpointing=False, micro_batch=1) == kept // 4
    assert activations(checkpointing=False, dropout=0.0) < kept
