"""LoRA adapters: merged while a checkpoint is loaded, and refused where that would be wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.adapters import write_adapter
from support.project import ROOT

import smolvideo
from smolvideo.engines import FeatureCache, load_engine
from smolvideo.errors import ModelError, SmolVideoError, UsageError
from smolvideo.models import Checkpoint, open_checkpoint, read_checkpoint
from smolvideo.network.adapter_weights import norms_fingerprint, read_merged

FEW = smolvideo.FrameSampling(max_frames=4)
SAMPLE = ROOT / "samples" / "circle_right.mp4"


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    return open_checkpoint("nano")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, nano: Checkpoint) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter"), nano, rows=(5, 7), size=1.0)


def merged_folder(folder: Path, nano: Checkpoint, adapter: Path) -> Path:
    """A checkpoint with the adapter in its weights, rounded once to their dtype."""
    assert nano.weights is not None
    folder.mkdir()
    for file in nano.folder.glob("*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(nano.weights.files[0])
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name in list(weights):
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{module}.lora_A.weight" in tensors:
            update = tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]
            weights[name] = (weights[name].float() + 2.0 * update).to(weights[name].dtype)
    rows = next(tensor for name, tensor in tensors.items() if "trainable_tokens" in name)
    table = weights["model.text_model.embed_tokens.weight"]
    table[[5, 7]] = rows.to(table.dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("native", {"dtype": "float32"}),
        ("native", {"dtype": "bfloat16"}),
        ("native", {"quantize": "int8"}),
        ("transformers", {"dtype": "float32"}),
    ],
)
def test_adapter_has_the_weights_of_the_merged_checkpoint(
    engine: str, options: dict[str, str], nano: Checkpoint, adapter: Path, tmp_path: Path
) -> None:
    folder = merged_folder(tmp_path / "merged", nano, adapter)
    with (
        load_engine("nano", engine=engine, adapter=adapter, **options) as adapted,
        load_engine(folder, engine=engine, **options) as merged,
    ):
        ours = adapted.network.state_dict()  # type: ignore[attr-defined]
        theirs = merged.network.state_dict()  # type: ignore[attr-defined]
        assert ours.keys() == theirs.keys()
        for name, weight in theirs.items():
            assert torch.equal(ours[name], weight), name
        if engine == "native":
            text = smolvideo.ask(adapted, SAMPLE, "What moves?", sampling=FEW).text
            assert text == smolvideo.ask(merged, SAMPLE, "What moves?", sampling=FEW).text


def test_adapter_of_the_decoder_shares_features_with_its_base(
    adapter: Path, nano: Checkpoint, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "features")
    with load_engine("nano", cache=cache) as base:
        first = smolvideo.ask(base, SAMPLE, "What moves?", sampling=FEW)
    with load_engine("nano", cache=cache, adapter=adapter) as adapted:
        second = smolvideo.ask(adapted, SAMPLE, "What moves?", sampling=FEW)
    assert first.usage.frames_from_cache == 0
    assert second.usage.frames_from_cache == second.usage.frames > 0
    eyes = write_adapter(tmp_path / "eyes", nano, modules=("q_proj",), part="vision_model")
    with load_engine("nano", cache=cache, adapter=eyes) as other:
        third = smolvideo.ask(other, SAMPLE, "What moves?", sampling=FEW)
    assert third.usage.frames_from_cache == 0


def test_answer_changes_and_the_record_names_the_adapter(adapter: Path) -> None:
    plain = smolvideo.ask("nano", SAMPLE, "What moves?", sampling=FEW)
    tuned = smolvideo.ask(
        "auto", SAMPLE, "What moves?", sampling=FEW, adapter=adapter
    )  # its own base is nano
    assert plain.text != tuned.text
    with load_engine("nano", adapter=adapter) as engine:
        assert engine.checkpoint.adapter is not None
        assert engine.checkpoint.adapter_sha256 == engine.checkpoint.adapter.sha256
        with pytest.raises(UsageError, match="cannot take an adapter"):
            smolvideo.ask(engine, SAMPLE, "What moves?", sampling=FEW, adapter=adapter)


def test_digest_follows_scale_and_weights(adapter: Path, nano: Checkpoint, tmp_path: Path) -> None:
    first = nano.with_adapter(adapter).adapter_sha256
    same = write_adapter(tmp_path / "same", nano, rows=(5, 7), size=1.0)
    assert nano.with_adapter(same).adapter_sha256 == first
    for name, change in {"scale": {"lora_alpha": 9}, "seed": {"seed": 1}}.items():
        other = write_adapter(tmp_path / name, nano, rows=(5, 7), size=1.0, **change)  # type: ignore[arg-type]
        assert nano.with_adapter(other).adapter_sha256 != first


def test_run_folder_stands_for_its_best_adapter(nano: Checkpoint, tmp_path: Path) -> None:
    write_adapter(tmp_path / "run" / "last", nano, seed=1)
    last = nano.with_adapter(tmp_path / "run").adapter_sha256
    write_adapter(tmp_path / "run" / "best", nano, seed=2)
    best = nano.with_adapter(tmp_path / "run").adapter_sha256
    assert last != best == nano.with_adapter(tmp_path / "run" / "best").adapter_sha256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "type 'IA3'"),
        ({"use_dora": True}, "`use_dora`"),
        ({"bias": "all"}, "`bias` 'all'"),
        ({"modules_to_save": ["lm_head"]}, "`modules_to_save`"),
        ({"alpha_pattern": {"q_proj": 3}}, "`alpha_pattern`"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base weights"),
        ({"lora_alpha": "8"}, "`lora_alpha`"),
        ({"lora_alpha": True}, "`lora_alpha`"),
        ({"lora_alpha": 1e9}, "`lora_alpha`"),
        ({"r": 0}, "broken adapter .*`r` is 0"),
        ({"r": "4"}, "broken adapter .*`r` is '4'"),
        ({"r": 10**9}, "broken adapter .*`r` is 1000000000"),
        ({"r": 16}, "broken adapter .*have the rank 4, and .* has `r` 16"),
        ({"r": 16, "rank_pattern": {"q_proj": 8}}, "have the rank 4"),
        ({"rank_pattern": {"q_proj": "8"}}, "`r` is '8'"),
        ({"use_rslora": "no"}, "`use_rslora` is 'no'"),
        ({"base_model_name_or_path": "smolvlm2-500m"}, "trained on `smolvlm2-500m`"),
        ({"trainable_token_indices": {"embed_tokens": [5]}}, "trained tokens"),
    ],
)
def test_unsupported_settings_are_refused_by_name(
    settings: dict[str, object], message: str, nano: Checkpoint, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "adapter", nano, **settings)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=message):
        nano.with_adapter(folder)


def test_broken_files_are_refused(nano: Checkpoint, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", nano)
    file = folder / "adapter_model.safetensors"
    whole, tensors = file.read_bytes(), load_file(file)

    def refused(message: str) -> None:
        with pytest.raises(SmolVideoError, match=message):
            nano.with_adapter(folder)

    name = next(iter(tensors))
    for content, message in (
        ({name.replace("lora_A", "lora_B"): tensors[name]}, "not both of A and B"),
        ({"base_model.model.model.nothing.lora_A.weight": tensors[name]}, "no weight of this"),
        ({"weight": tensors[name]}, "no weight of this"),
        ({**tensors, name: tensors[name][:, 1:].contiguous()}, "has the shape"),
        ({**tensors, name: tensors[name].int()}, "quantized weights are not read"),
        ({**tensors, name: tensors[name].double()}, "has the shape"),
        ({}, "holds no weights"),
    ):
        save_file(content, file)
        refused(message)
    for content, message in (
        (whole[:-9], "is cut short"),
        (b"nothing", "not a safetensors file"),
    ):
        file.write_bytes(content)
        refused(message)
    file.unlink()
    refused("no `adapter_model.safetensors`")
    (folder / "adapter_config.json").write_text("[]")
    refused("no JSON object")
    (folder / "adapter_config.json").unlink()
    refused("it holds no adapter")
    with pytest.raises(ModelError, match="no adapter folder"):
        nano.with_adapter(tmp_path / "none")
    with pytest.raises(ModelError, match="is a file"):
        nano.with_adapter(Path(__file__))
    with pytest.raises(ModelError, match="it holds no adapter"):
        nano.with_adapter(nano.folder)


def test_adapter_of_other_weights_is_refused(nano: Checkpoint, tmp_path: Path) -> None:
    assert nano.weights is not None
    right = {"smolvideo": json.dumps({"base_norms": norms_fingerprint(nano.weights.files)})}
    folder = write_adapter(tmp_path / "right", nano, metadata=right)
    assert read_merged(nano.weights, nano.with_adapter(folder).adapter)  # type: ignore[arg-type]
    load_engine("nano", adapter=folder).close()
    wrong = write_adapter(tmp_path / "wrong", nano, metadata={"smolvideo": '{"base_norms": "00"}'})
    for engine in ("native", "transformers"):
        with pytest.raises(ModelError, match="trained on another checkpoint"):
            load_engine("nano", adapter=wrong, engine=engine)


def test_numbers_that_are_not_finite_are_refused(nano: Checkpoint, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", nano, size=float("inf"))
    with pytest.raises(ModelError, match="not finite"):
        load_engine("nano", adapter=folder)


def test_auto_is_a_registered_base_only(nano: Checkpoint, tmp_path: Path) -> None:
    folder = write_adapter(
        tmp_path / "adapter", nano, base_model_name_or_path="https://example.org/evil"
    )
    with pytest.raises(ModelError, match="names no published checkpoint"):
        smolvideo.ask("auto", SAMPLE, "What moves?", sampling=FEW, adapter=folder)
    with pytest.raises(ModelError, match="names no published checkpoint"):
        smolvideo.load_engine("auto", adapter=folder)


def test_rank_stabilised_scale(nano: Checkpoint, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", nano, use_rslora=True)
    adapter = nano.with_adapter(folder).adapter
    assert adapter is not None
    assert {update.scale for update in adapter.updates.values()} == {8 / 4**0.5}


def test_rank_of_single_modules(nano: Checkpoint, tmp_path: Path) -> None:
    plain = nano.with_adapter(write_adapter(tmp_path / "plain", nano, rank=4))
    patterns = {"q_proj": 4, "down_proj": 4}
    other = write_adapter(tmp_path / "other", nano, rank=4, r=16, rank_pattern=patterns)
    found = nano.with_adapter(other)
    assert found.adapter_sha256 == plain.adapter_sha256, "each is scaled by its own rank"


def test_summaries_made_without_the_adapter_are_made_anew(adapter: Path, nano: Checkpoint) -> None:
    from smolvideo.summaries.options import SummaryOptions, settings_hash

    options = SummaryOptions()
    plain, tuned = options.settings(nano), options.settings(nano.with_adapter(adapter))
    assert "adapter" not in plain  # keys of earlier records stay valid
    assert settings_hash(plain) != settings_hash(tuned)


def test_adapter_is_for_checkpoints_in_folders_too(
    adapter: Path, nano: Checkpoint, tmp_path: Path
) -> None:
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in nano.folder.iterdir():
        if file.is_file():
            (copied / file.name).write_bytes(file.read_bytes())
    checkpoint = replace(read_checkpoint(copied, name="copy"), model_reason="named")
    assert checkpoint.with_adapter(adapter).adapter_sha256
    described = json.loads((adapter / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == "nano"


@pytest.mark.parametrize("text", ["{", "[]", '{"words": 3}'])
def test_broken_metadata_is_refused(text: str, nano: Checkpoint, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", nano, metadata={"smolvideo": text})
    with pytest.raises(ModelError, match="its metadata"):
        nano.with_adapter(folder)
