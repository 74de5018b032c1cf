"""Untrusted checkpoints: any file content is a ModelError or a correct network, and no memory is
allocated beyond what the weight files hold.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from support.project import ROOT
from support.toy_checkpoint import write_json

from smolvideo.engines import ENGINES, load_engine
from smolvideo.errors import ModelError
from smolvideo.models import Checkpoint
from smolvideo.models.checkpoint import read_checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weights import check_tensors, expected_shapes, read_header
from smolvideo.network import SmolVLM

NANO = ROOT / "smolvideo" / "nano"
ODD = [-1, 0, 7, 0.5, "x", None, True, False, [], {}, [3], 10**9, 10**17, -(10**17), 1e300]
RAW = ["NaN", "-Infinity", "1e999", "1" * 400, "1" * 5000, "[" * 10_000, '{"a": 1, "a": 1}']
"""Values that Python's json module cannot write, inserted verbatim."""

WRITTEN = {
    "tokenizer_config.json": {"chat_template": "{{ x }}<end_of_utterance>"},
    "processor_config.json": {"image_processor": {"size": {"longest_edge": 96}}},
}
"""Files that nano does not have; the first is read only if chat_template.json is missing."""


def copy_nano(folder: Path) -> Path:
    """Copy nano's files, with a link to the weights of the package where possible."""
    folder.mkdir()
    for file in NANO.glob("*.json"):
        shutil.copy(file, folder)
    link = shutil.copy if sys.platform == "win32" else os.symlink
    link(NANO / "model.safetensors", folder / "model.safetensors")
    return folder


def read(folder: Path) -> dict[str, Any]:
    """Return the parsed checkpoint as plain values. A ModelError must be one line with a hint."""
    try:
        checkpoint = read_checkpoint(folder, name="nano")
        config = NetworkConfig.from_json(read_json(folder / "config.json"))
        assert checkpoint.weights is not None
        check_tensors(
            folder, config, {file: read_header(file) for file in checkpoint.weights.files}
        )
    except ModelError as error:
        if not error.hint or len(str(error).splitlines()) > 1 or len(str(error)) > 600:
            pytest.fail(f"not one line with a hint: {error}")
        raise
    return {**vars(checkpoint), "network": asdict(config)}


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each value of parsed JSON, including objects and lists."""
    if path:
        yield path
    steps = content.items() if isinstance(content, dict) else []
    for key, value in steps:
        yield from places(value, (*path, key))


def with_value(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of parsed JSON with another value at ``path``."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return copy


def check_other_values(folder: Path, file: str, content: Any, baseline: dict[str, Any]) -> int:
    """Replace each value of ``file`` by odd ones: an error, or only its own field changes."""
    refused = 0
    for path in places(content):
        for value in [*ODD, *RAW]:
            if value in RAW:
                text = json.dumps(with_value(content, path, "@raw@")).replace('"@raw@"', str(value))
                (folder / file).write_text(text)
            else:
                write_json(folder / file, with_value(content, path, value))
            try:
                found = read(folder)
            except ModelError:
                refused += 1
                continue
            assert value not in RAW, (file, path, value)
            changed = [key for key in baseline if found[key] != baseline[key]]
            # One key of config.json sets two fields: of the prompt and of the network.
            assert len(changed) <= 2, (file, path, value, changed)
            for key in changed if value is not None else ():  # null counts as missing
                assert type(found[key]) is type(baseline[key]), (file, path, value, key)
    return refused


@pytest.mark.parametrize(
    "file", ["config.json", "preprocessor_config.json", "generation_config.json"]
)
def test_odd_config_values_are_errors_or_ignored(tmp_path: Path, file: str) -> None:
    folder = copy_nano(tmp_path / "nano")
    content = json.loads((folder / file).read_text())
    assert check_other_values(folder, file, content, read(folder)) > 20


CONTRADICTING = [
    *(
        ("config.json", ("text_config", key), value)
        for key, value in [
            ("sliding_window", 128), ("partial_rotary_factor", 0.5), ("rope_theta", 1),
            ("rope_theta", 999), ("rope_parameters", {"rope_theta": 1}),
            ("rope_parameters", {"rope_type": "yarn"}), ("rope_scaling", {"type": "linear"}),
            ("rope_parameters", {"rope_type": "default", "type": "linear"}),
            ("rope_parameters", {"rope_theta": 20000.0}),
            ("rope_parameters", {"partial_rotary_factor": 0.5}),
            ("rope_scaling", {"factor": 8.0}), ("rope_interleaved", True), ("mlp_bias", True),
            ("attention_bias", True), ("final_logit_softcapping", 30.0), ("num_experts", 8),
            ("embedding_multiplier", 12), ("layer_types", ["sliding_attention"] * 6),
            ("layer_types", "full_attention"), ("dtype", "x"), ("torch_dtype", 3),
            ("is_llama_config", False), ("tie_word_embeddings", False), ("hidden_act", "gelu"),
            ("model_type", "mistral"), ("use_qk_norm", True),
        ]
    ),
    *(
        ("config.json", ("vision_config", key), value)
        for key, value in [
            ("model_type", "clip_vision_model"), ("hidden_act", "gelu"), ("num_channels", 1),
            ("use_base_siglip", True), ("dtype", "int8"),
        ]
    ),
    *(
        ("config.json", (key,), value)
        for key, value in [
            ("dtype", "x"), ("torch_dtype", "float31"), ("vocab_size", 7), ("scale_factor", 2.0),
            ("is_encoder_decoder", True),
        ]
    ),
    *(
        ("preprocessor_config.json", (key,), value)
        for key, value in [
            ("do_normalize", False), ("do_rescale", False), ("do_resize", False), ("do_pad", False),
            ("do_convert_rgb", False), ("do_normalize", "no"), ("do_rescale", 1),
            ("image_std", 0), ("image_std", [0, 0, 0]), ("image_std", [0.5, 0.5]),
            ("image_std", []), ("image_std", [0.5, 0.5, "0.5"]), ("image_mean", [0.48, 0.46, 0.41]),
            ("image_mean", 0), ("rescale_factor", 1), ("rescale_factor", 0), ("resample", 3),
            ("resample", True), ("max_image_size", {"longest_edge": 95}), ("max_image_size", 96),
            ("video_sampling", {"fps": 2}), ("video_sampling", {"max_frames": 0}),
            ("video_sampling", {"video_size": {"longest_edge": 384}}), ("video_sampling", []),
            ("image_processor_type", "CLIPImageProcessor"), ("image_processor_type", 3),
        ]
    ),
    ("processor_config.json", ("image_seq_len",), 64),
    ("processor_config.json", ("image_seq_len",), "4"),
]  # fmt: skip


NAMED = {
    "rope_parameters": "rope_theta|rotary", "rope_scaling": "rotary|factor",
    "layer_types": "layer_types|full attention", "max_image_size": "max_image_size|longest_edge",
    "video_sampling": "video_s|fps|max_frames",
}  # fmt: skip


@pytest.mark.parametrize(("file", "path", "value"), CONTRADICTING)
def test_values_that_contradict_the_network_are_errors(
    tmp_path: Path, file: str, path: tuple[str, ...], value: Any
) -> None:
    folder = copy_nano(tmp_path / "nano")
    read(folder)
    content = read_json(folder / file) if (folder / file).exists() else {}
    write_json(folder / file, with_value(content, path, value))
    with pytest.raises(ModelError, match=NAMED.get(path[-1], path[-1])):
        read(folder)


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        ("config.json", ("text_config", "rope_parameters"), {"rope_type": "default"}),
        ("config.json", ("text_config", "rope_parameters"), {"rope_theta": 10000}),
        ("config.json", ("text_config", "partial_rotary_factor"), 1.0),
        ("config.json", ("text_config", "layer_types"), ["full_attention"] * 6),
        ("config.json", ("text_config", "sliding_window"), None),
        ("config.json", ("vocab_size",), 832),
        ("preprocessor_config.json", ("image_std",), 0.5),
        ("preprocessor_config.json", ("rescale_factor",), 0.00392156862745098),
        ("preprocessor_config.json", ("image_processor_type",), "SmolVLMImageProcessorFast"),
        ("preprocessor_config.json", ("video_sampling",), {"fps": 1, "max_frames": 32}),
        ("processor_config.json", ("image_seq_len",), 4),
    ],
)
def test_equivalent_values_are_accepted(
    tmp_path: Path, file: str, path: tuple[str, ...], value: Any
) -> None:
    folder = copy_nano(tmp_path / "nano")
    before = read(folder)
    content = read_json(folder / file) if (folder / file).exists() else {}
    write_json(folder / file, with_value(content, path, value))
    assert read(folder) == before


@pytest.mark.parametrize("file", list(WRITTEN))
def test_odd_values_of_other_config_files_are_errors_or_ignored(tmp_path: Path, file: str) -> None:
    folder = copy_nano(tmp_path / "nano")
    (folder / "chat_template.json").unlink()
    (folder / "preprocessor_config.json").unlink()
    write_json(folder / file, WRITTEN[file])
    assert check_other_values(folder, file, WRITTEN[file], read(folder)) > 10


def test_chat_template_must_be_text(tmp_path: Path) -> None:
    folder = copy_nano(tmp_path / "nano")
    file = "chat_template.json"
    content = json.loads((folder / file).read_text())
    assert check_other_values(folder, file, content, read(folder)) > 10
    (folder / file).unlink()
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match="not UTF-8"):
        read(folder)
    write_json(folder / "tokenizer_config.json", {"chat_template": [{"name": 3}, "x"]})
    (folder / "chat_template.jinja").unlink()
    assert read(folder)["end_of_turn_token"] == "<end_of_utterance>"


def of_tokenizer(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        change(content)
        write_json(folder / "tokenizer.json", content)

    return write


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["added_tokens"][0].update(id=-1), "malformed"),
        (lambda t: t["added_tokens"][0].update(id=1.5), "malformed"),
        (lambda t: t["added_tokens"][0].update(id=True), "malformed"),
        (lambda t: t["added_tokens"][0].update(id="0"), "malformed"),
        (lambda t: t["added_tokens"][0].update(content=3), "malformed"),
        (lambda t: t["added_tokens"][0].update(content=""), "malformed"),
        (lambda t: t["added_tokens"].append(3), "malformed"),
        (lambda t: t["added_tokens"][0].update(id=1), "two tokens of one id"),
        (lambda t: t["added_tokens"].append({"id": 9, "content": "<image>"}), "two ids"),
        (lambda t: t.update(added_tokens={}), "malformed"),
        (lambda t: t["model"]["vocab"].update(new=10**17), "goes up to token 1000"),
        (lambda t: t["model"]["vocab"].update(new=-1), "has the id -1"),
        (lambda t: t["model"]["vocab"].update(new=None), "has the id None"),
        (lambda t: t["model"].update(vocab=[]), "no vocabulary"),
        (lambda t: t.update(model=[]), "no vocabulary"),
        (lambda t: t.update(model=None), "no vocabulary"),
    ],
)
def test_odd_tokenizer_values_are_errors(
    tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    folder = copy_nano(tmp_path / "nano")
    of_tokenizer(change)(folder)
    with pytest.raises(ModelError, match=said):
        read(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["model"].update(merges=[["a", "nothing"]]),
        lambda t: t["model"].update(merges=3),
        lambda t: t.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}}),
        lambda t: t.update(decoder=5),
        lambda t: t.update(version=[]),
    ],
)
def test_unbuildable_tokenizer_is_an_error(tmp_path: Path, change: Callable[[Any], object]) -> None:
    folder = copy_nano(tmp_path / "nano")
    of_tokenizer(change)(folder)
    with pytest.raises(ModelError, match="broken tokenizer") as caught:
        _ = read_checkpoint(folder, name="nano").text_tokenizer
    assert caught.value.hint


# ----------------------------------------------------------------------- files and headers


def with_header(folder: Path, header: Any, data: bytes = b"12345678") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


def tensor(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"a": tensor(shape=[-2])}, "the shape"),
        ({"a": tensor(shape=[10**17, 10**17])}, "another length than its shape"),
        ({"a": tensor(shape=[2.0])}, "the shape"),
        ({"a": tensor(shape=[True])}, "the shape"),
        ({"a": tensor(shape=[1] * 40)}, "the shape"),
        ({"a": tensor(shape="22")}, "the shape"),
        ({"a": tensor(offsets=[8, 0])}, "the offsets"),
        ({"a": tensor(offsets=[-8, 0])}, "the offsets"),
        ({"a": tensor(offsets=[0, 8, 8])}, "the offsets"),
        ({"a": tensor(offsets={})}, "the offsets"),
        ({"a": tensor(offsets=[8, 16])}, "leave gaps"),
        ({"a": tensor(shape=[4], offsets=[0, 16])}, "is cut short"),
        ({"a": tensor(shape=[1], offsets=[0, 4])}, "4 bytes belong to no tensor"),
        ({"a": tensor(), "b": tensor()}, "overlap"),
        ({"a": tensor(dtype="F31")}, "quantized weights are not read"),
        ({"a": tensor(dtype=3)}, "the dtype 3"),
        ({"a": 3}, "no description"),
        ({"a": None}, "no description"),
        ({"__metadata__": {"a": 1}, "a": tensor()}, "__metadata__"),
        ({"__metadata__": [], "a": tensor()}, "__metadata__"),
        ({}, "holds no weights"),
        (b'{"a": 1, "a": 1}', "duplicate key 'a'"),
        (b"[" * 10_000, "nested too deeply"),
        (b"\xff\xff", "not a safetensors file"),
        (
            b'{"a": {"dtype": "F32", "shape": [%s], "data_offsets": [0, 8]}}' % (b"9" * 400),
            "digits",
        ),
    ],
)
def test_invalid_safetensors_headers_are_errors(tmp_path: Path, header: Any, said: str) -> None:
    folder = copy_nano(tmp_path / "nano")
    with_header(folder, header)
    with pytest.raises(ModelError, match=said):
        read(folder)


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, 50_000_000])
def test_false_header_length_is_an_error(tmp_path: Path, length: int) -> None:
    folder = copy_nano(tmp_path / "nano")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}" + b"0" * 64)
    with pytest.raises(ModelError, match=r"not a safetensors file|cut short"):
        read(folder)


@pytest.mark.parametrize(
    "name",
    ["../nano.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", "..\\x.safetensors", 3],
)
def test_index_names_only_files_of_its_folder(tmp_path: Path, name: Any) -> None:
    folder = copy_nano(tmp_path / "nano")
    (folder / "model.safetensors").unlink()
    shutil.copy(NANO / "model.safetensors", tmp_path / "nano.safetensors")
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": name}})
    with pytest.raises(ModelError, match="which is no shard"):
        read(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="hardware: links need a privilege there")
def test_shard_symlinks_lead_only_to_blobs_of_the_hub_cache(tmp_path: Path) -> None:
    repository = tmp_path / "models--x"
    (repository / "blobs").mkdir(parents=True)
    (repository / "snapshots").mkdir()
    shutil.copy(NANO / "model.safetensors", repository / "blobs" / "abc")
    folder = copy_nano(repository / "snapshots" / "rev")
    (folder / "model.safetensors").unlink()
    shard = folder / "model-1.safetensors"
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": shard.name}})
    shard.symlink_to("../../blobs/abc")
    assert read(folder)["weights"].files == (shard,)
    shard.unlink()
    shard.symlink_to(NANO / "model.safetensors")
    with pytest.raises(ModelError, match="leads to another folder"):
        read(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_undecodable_json_files_are_errors(
    tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_nano(tmp_path / "nano")
    (folder / file).unlink()
    (folder / file).mkdir()
    with pytest.raises(ModelError, match="is not a file"):
        read(folder)
    (folder / file).rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / file)
        with pytest.raises(ModelError, match="is not a file"):
            read(folder)
        (folder / file).unlink()
    with (folder / file).open("wb") as large:
        large.truncate(1 << 40)
    with pytest.raises(ModelError, match="larger than 64 MB"):
        read(folder)


# ------------------------------------------------------------------------------- engines


def test_expected_shapes_equal_the_network(tmp_path: Path) -> None:
    for tied in (True, False):
        content = json.loads((NANO / "config.json").read_text()) | {"tie_word_embeddings": tied}
        content["text_config"]["tie_word_embeddings"] = tied
        config = NetworkConfig.from_json(content)
        with torch.device("meta"):
            network = SmolVLM(config)
        parameters = {name: list(one.shape) for name, one in network.named_parameters()}
        assert expected_shapes(config) == parameters


BOMBS = [
    (("text_config", "num_hidden_layers"), 500),
    (("vision_config", "num_hidden_layers"), 500),
    (("text_config", "vocab_size"), 1 << 20),
    (("text_config", "hidden_size"), 1 << 16),
    (("text_config", "intermediate_size"), 1 << 16),
    (("vision_config", "intermediate_size"), 1 << 16),
    (("text_config", "head_dim"), 1 << 12),
    (("vision_config", "image_size"), 4080),
]


@pytest.mark.parametrize("name", list(ENGINES))
def test_no_memory_is_allocated_beyond_the_weight_files(tmp_path: Path, name: str) -> None:
    resource = pytest.importorskip("resource", reason="hardware: Windows has no such limits")
    folder = copy_nano(tmp_path / "nano")
    content = json.loads((folder / "config.json").read_text())
    load_engine(str(folder), engine=name, device="cpu")  # after the imports
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path, value in BOMBS:
        write_json(folder / "config.json", with_value(content, path, value))
        with pytest.raises(ModelError, match="broken checkpoint"):
            load_engine(str(folder), engine=name, device="cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


@pytest.mark.parametrize(
    "more",
    [
        {"num_labels": 10**15},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"auto_map": {"AutoConfig": "evil.Config"}},
        {"architectures": 3, "id2label": [], "torch_dtype": "float32"},
    ],
)
def test_unknown_keys_do_not_reach_transformers(tmp_path: Path, more: dict[str, Any]) -> None:
    folder = copy_nano(tmp_path / "nano")
    content = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", content | more)
    engine = load_engine(str(folder), engine="transformers", device="cpu")
    assert isinstance(engine.checkpoint, Checkpoint)
    assert engine.network.config.num_labels == 2  # type: ignore[attr-defined]
