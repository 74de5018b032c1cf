"""The loop: functions of (seed, step), resumed to the same bits; what a run leaves."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from smolvideo.engines import load_engine
from smolvideo.errors import ModelError, RecordError, UsageError
from smolvideo.models import Checkpoint, read_checkpoint
from smolvideo.tune.items import Items, read_items
from smolvideo.tune.options import TuneOptions
from smolvideo.tune.rehearsal import open_rehearsal
from smolvideo.tune.run import TuneRequest, merge, tune
from smolvideo.tune.samples import Sample
from smolvideo.tune.scores import Score
from smolvideo.tune.training import TuneProgress, batch_of, micro_batches, weighted_quality


class Killed(Exception):
    """Stands for SIGKILL after a step."""


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, items: Items, nano: Checkpoint, options: TuneOptions
) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    result = tune(TuneRequest(items, nano, options, out))
    assert result.course.step == 4
    assert result.frames_encoded + result.frames_from_cache == 15
    return out


def test_run_that_was_killed_goes_on_to_the_same_bits(
    undisturbed: Path,
    items: Items,
    nano: Checkpoint,
    options: TuneOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = TuneRequest(items, nano, options, tmp_path / "out")

    def killed_after(step: int) -> None:
        def stop(progress: TuneProgress) -> None:
            if progress.step == step:
                raise Killed

        with pytest.raises(Killed):
            tune(request, on_step=stop)

    killed_after(1)  # nothing was saved yet
    monkeypatch.setattr("smolvideo.tune.training.SAVE_SECONDS", -1.0)
    killed_after(3)  # in the middle of an interval
    # A replacement of `best` that was cut in two.
    (request.out / "best").rename(request.out / ".best.old")
    encoded: list[int] = []
    monkeypatch.setattr(
        "smolvideo.engines.frame_encoder.FrameEncoder.encode",
        lambda *_, **__: encoded.append(1),
    )
    result = tune(request)
    assert not encoded
    assert result.course.step == 4
    for name in ("curve.jsonl", "best/adapter_model.safetensors", "last/adapter_model.safetensors"):
        assert (request.out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    again = tune(request)  # finished: nothing is trained
    assert again.course.step == 4


def test_folder_of_another_run_is_refused(
    undisturbed: Path, items: Items, nano: Checkpoint, options: TuneOptions, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"another run \(rank 4, now 8\)"):
        tune(TuneRequest(items, nano, replace(options, rank=8), undisturbed))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="holds a checkpoint"):
        tune(TuneRequest(items, nano, options, tmp_path))


def test_merged_checkpoint_has_the_adapter_and_the_files_of_its_base(
    undisturbed: Path, items: Items, nano: Checkpoint, options: TuneOptions
) -> None:
    folder = merge(TuneRequest(items, nano, options, undisturbed))
    for file in nano.folder.glob("*.json"):
        if file.name != "training.json":  # has the new words, too
            assert (folder / file.name).read_bytes() == file.read_bytes()
    assert nano.weights is not None
    base, merged = load_file(nano.weights.files[0]), load_file(folder / "model.safetensors")
    assert base.keys() == merged.keys()
    changed = [name for name in base if not torch.equal(base[name], merged[name])]
    assert all(name.startswith("model.text_model.") for name in changed)
    assert len(changed) == 6 * 7 + 1  # and rows of the embedding
    adapted = load_file(undisturbed / "best" / "adapter_model.safetensors")
    name = changed[-1]
    module = f"base_model.model.{name.removesuffix('.weight')}"
    update = adapted[f"{module}.lora_B.weight"] @ adapted[f"{module}.lora_A.weight"]
    expected = (base[name].float() + 2.0 * update).to(base[name].dtype)
    assert torch.equal(merged[name], expected)
    tuned = read_checkpoint(folder, name="merged")
    assert tuned.training_vocabulary is not None
    assert "pink" in tuned.training_vocabulary
    adapter = nano.with_adapter(undisturbed)
    assert adapter.training_vocabulary == tuned.training_vocabulary
    with load_engine(tuned) as ours, load_engine(adapter) as theirs:
        for (one, weight), other in zip(
            ours.network.state_dict().items(),  # type: ignore[attr-defined]
            theirs.network.state_dict().values(),  # type: ignore[attr-defined]
            strict=True,
        ):
            assert torch.equal(weight, other), one


def test_adapter_is_one_that_peft_loads(undisturbed: Path, nano: Checkpoint) -> None:
    import peft

    from smolvideo.engines.transformers import load_network, quiet_transformers

    network = load_network(nano, torch.device("cpu"), torch.float32)
    with quiet_transformers():
        model = peft.PeftModel.from_pretrained(network, str(undisturbed / "best"))
    loaded = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    stored = load_file(undisturbed / "best" / "adapter_model.safetensors")
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)


def test_full_tuning_leaves_a_checkpoint(
    items: Items, nano: Checkpoint, options: TuneOptions, tmp_path: Path
) -> None:
    full = replace(options, method="full", steps=1, eval_interval=1)
    tune(TuneRequest(items, nano, full, tmp_path / "out"))
    base, tuned = (
        load_file(file)
        for file in (nano.folder / "model.safetensors", tmp_path / "out/best/model.safetensors")
    )
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert changed
    assert all(name.startswith("model.text_model.") for name in changed)
    assert tuned[next(iter(changed))].dtype == base[next(iter(changed))].dtype
    load_engine(tmp_path / "out" / "best").close()


def test_faulty_lines_stop_a_run_before_it_trains(
    data: Path, nano: Checkpoint, options: TuneOptions, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(data.parent, clips)
    (clips / "broken.mp4").write_bytes(b"\0" * 500)
    good = data.read_text().splitlines()
    clip = json.loads(good[0])["video"]
    bad = [
        {"video": "broken.mp4", "question": "?", "answer": "x"},
        {"video": clip, "start": 900, "question": "?", "answer": "x"},
        {"video": clip, "question": "?", "answer": "word " * 3000},
        {"video": clip, "question": "?", "answer": ""},
    ]
    (clips / "data.jsonl").write_text("\n".join([*good, *map(json.dumps, bad)]) + "\n")
    items = read_items(clips / "data.jsonl")
    request = TuneRequest(items, nano, replace(options, steps=1), tmp_path / "out")
    with pytest.raises(RecordError) as caught:
        tune(request)
    first = len(good) + 1
    for number, reason in enumerate(
        ("", "beyond|after|outside|only|long", "room for 2,048", "the answer is empty"), start=first
    ):
        assert f"line {number}: " in str(caught.value)
        if number > first + 1:
            assert reason in str(caught.value)
    assert not (tmp_path / "out" / "state.pt").exists()
    # Nothing was trained: other options may be given for the same folder.
    other = replace(request.options, seed=3)
    result = tune(replace(request, options=other, skip_faulty=True))
    assert sum(result.counts.values()) == len(good)


def sample(number: int, length: int = 3) -> Sample:
    return Sample((number,) * length, (number,) * length, (), "train")


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 9))
def test_every_epoch_has_every_sample_once(samples: int, count: int, seed: int) -> None:
    pool = [sample(number) for number in range(samples)]
    epochs = 3
    chosen: Iterator[Sample] = (
        one
        for step in range(samples * epochs // count + 1)
        for one in batch_of(pool, count, step, seed)
    )
    first = [next(chosen).token_ids[0] for _ in range(samples * epochs)]
    assert set(Counter(first).values()) == {epochs}
    for epoch in range(epochs):
        assert sorted(first[epoch * samples : (epoch + 1) * samples]) == list(range(samples))
    assert batch_of(pool, count, 2, seed) == batch_of(pool, count, 2, seed)


def test_micro_batches_hold_every_sample_once() -> None:
    pool = [sample(number, 1 + number % 5) for number in range(11)]
    parts = micro_batches(pool, 4)
    assert sorted(one.token_ids for part in parts for one in part) == sorted(
        one.token_ids for one in pool
    )
    assert max(map(len, parts)) == 4


def test_checkpoints_are_weighed_by_what_they_forget() -> None:
    def scores(new: float, choice: float, other: float) -> dict[str, dict[str, Score]]:
        kinds = {"choice": Score(0.1, choice, 1), "count": Score(0.1, other, 9)}
        return {
            "held-out": {"all": Score(0.1, new, 10)},
            "rehearsal": {"all": Score(0.1, other, 10), **kinds},
        }

    # A rare kind counts as much as a frequent one.
    assert weighted_quality(scores(1, 0, 1), 0.5) < weighted_quality(scores(0.9, 1, 1), 0.5)
    assert weighted_quality({**scores(1, 0, 0), "rehearsal": {}}, 0.5) == pytest.approx(
        Score(0.1, 1, 1).quality
    )


@given(st.integers(1, 500), st.integers(0, 499))
def test_rate_rises_then_falls_to_a_tenth(steps: int, step: int) -> None:
    options = TuneOptions(warmup=0.1)
    scale = options.rate_scale(min(step, steps - 1), steps)
    assert 0 < scale <= 1
    assert options.rate_scale(steps, steps) == pytest.approx(0.1) or steps == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"rank": 0},
        {"epochs": float("nan")},
        {"learning_rate": 0},
        {"dropout": 1},
        {"held_out": -0.1},
        {"parts": ("eyes",)},
        {"parts": ()},
        {"seed": -1},
        {"base_weight": float("inf")},
    ],
)
def test_invalid_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        TuneOptions(**wrong)  # type: ignore[arg-type]


def test_missing_peft_is_named_before_anything_is_encoded(
    items: Items,
    nano: Checkpoint,
    options: TuneOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match="not installed") as caught:
        tune(TuneRequest(items, nano, options, tmp_path / "out"))
    assert caught.value.hint == "pip install 'smolvideo[tune]'"
    assert not (tmp_path / "out").exists()


def test_faulty_lines_of_a_rehearsal_file_stop_the_run(
    data: Path, items: Items, nano: Checkpoint, options: TuneOptions, tmp_path: Path
) -> None:
    file = data.parent / "rehearsal.jsonl"
    lines = [*data.read_text().splitlines()[:2], json.dumps({"question": "?"})]
    file.write_text("\n".join(lines) + "\n")
    rehearsal = open_rehearsal(str(file), nano, media=None, allow_outside=False)
    request = TuneRequest(items, nano, options, tmp_path / "out", rehearsal=rehearsal)
    with pytest.raises(RecordError, match=r"rehearsal.jsonl` cannot be used: line 3: `answer`"):
        tune(request)
