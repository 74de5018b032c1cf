"""Model names and checkpoint folders: complete, unusual and broken ones."""

import json
import shutil
from pathlib import Path

import pytest
from support.toy_checkpoint import write_json, write_toy_checkpoint

from smolvideo.errors import ModelError
from smolvideo.models import (
    MODELS,
    checkpoint_size_bytes,
    find_model,
    lookup_model,
    open_checkpoint,
)

END, TEXT_END = "<end_of_utterance>", "<|endoftext|>"
PUBLISHED = {
    # folder: layout, tokens per image, context, image token, eos, turn end, resize edge, dtype
    "SmolVLM-Instruct": ("smolvlm", 81, 16384, 49153, (49154,), END, 1536, "bfloat16"),
    "SmolVLM-Base": ("smolvlm", 81, 16384, 49153, (0, 49154), TEXT_END, 1536, "bfloat16"),
    "SmolVLM-256M-Instruct": ("smolvlm", 64, 8192, 49190, (49279,), END, 2048, "bfloat16"),
    "SmolVLM2-256M-Video-Instruct": ("smolvlm2", 64, 8192, 49190, (49279,), END, 2048, "float32"),
    "SmolVLM2-500M-Video-Instruct": ("smolvlm2", 64, 8192, 49190, (49279,), END, 2048, "float32"),
    "SmolVLM2-2.2B-Instruct": ("smolvlm2", 81, 8192, 49190, (49279,), END, 1536, "float32"),
}


@pytest.mark.checkpoints
@pytest.mark.parametrize("folder", PUBLISHED)
def test_published_checkpoints_are_parsed(processor_files: Path, folder: str) -> None:
    checkpoint = open_checkpoint(str(processor_files / folder), weights=False)
    assert (
        checkpoint.layout,
        checkpoint.tokens_per_image,
        checkpoint.context_tokens,
        checkpoint.image_token_id,
        checkpoint.eos_token_ids,
        checkpoint.end_of_turn_token,
        checkpoint.resize_edge,
        checkpoint.stored_dtype,
    ) == PUBLISHED[folder]
    assert checkpoint.pad_token_id == 2
    spec = find_model(folder)
    assert (spec.layout, spec.context_tokens) == (checkpoint.layout, checkpoint.context_tokens)
    assert spec.stored_dtype == checkpoint.stored_dtype


def test_every_published_size_is_registered() -> None:
    gigabytes = {name: round((spec.download_bytes or 0) / 1e9, 2) for name, spec in MODELS.items()}
    assert gigabytes == {
        "nano": 0.0,
        "smolvlm2-256m": 1.03,
        "smolvlm2-500m": 2.03,
        "smolvlm2-2.2b": 8.99,
        "smolvlm-2.2b": 4.49,
        "smolvlm-2.2b-synthetic": 4.49,
        "smolvlm-2.2b-base": 4.49,
        "smolvlm-500m": 1.01,
        "smolvlm-500m-base": 1.01,
        "smolvlm-256m": 0.51,
        "smolvlm-256m-base": 0.51,
    }


@pytest.mark.parametrize(
    "name",
    [
        "smolvlm2-256m",
        "SmolVLM2-256M",
        "HuggingFaceTB/SmolVLM2-256M-Video-Instruct",
        " SmolVLM2-256M-video-instruct ",
    ],
)
def test_model_is_found_by_its_three_names(name: str) -> None:
    assert find_model(name) is MODELS["smolvlm2-256m"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("smolvlm2-265m", "smolvlm2-256m"),
        ("nan", "nano"),
        ("500M", "smolvlm2-500m"),
        ("smolvlm-2.2b-bsae", "smolvlm-2.2b-base"),
    ],
)
def test_misspelt_name_has_a_suggestion(typed: str, meant: str) -> None:
    assert lookup_model(typed) is None
    with pytest.raises(ModelError, match=f"unknown model `{typed}`") as caught:
        open_checkpoint(typed)
    assert f"did you mean `{meant}`?" in str(caught.value.hint)
    assert "smolvideo models list" in str(caught.value.hint)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "   ",
        "~nobody-here/x",
        "x" * 5000,
        "a\0b",
        "zzzzzz",
        "a b c",
        "../nowhere",
        "/no/such/folder",
        "a/b/c",
    ],
)
def test_unknown_name_has_no_suggestion(typed: str) -> None:
    with pytest.raises(ModelError) as caught:
        open_checkpoint(typed)
    assert "\n" not in str(caught.value)
    assert "did you mean" not in str(caught.value.hint)


# ---------------------------------------------------------------- folders


def test_local_folder_is_parsed(tmp_path: Path) -> None:
    folder = write_toy_checkpoint(tmp_path / "mine")
    checkpoint = open_checkpoint(str(folder))
    assert (checkpoint.name, checkpoint.layout, checkpoint.tokens_per_image) == (
        "mine",
        "smolvlm2",
        4,
    )
    assert checkpoint.pad_token_id == 2  # 128002 of the top level is not in the vocabulary
    assert checkpoint.eos_token_ids == (0, 6)  # the declared one and <end_of_utterance>
    assert checkpoint.weights is not None
    assert checkpoint.weights.parameters == 15
    assert checkpoint.weights.size_bytes == (folder / "model.safetensors").stat().st_size
    assert checkpoint_size_bytes(checkpoint) > checkpoint.weights.size_bytes
    assert (
        checkpoint.tokenizer.decode([*checkpoint.tokenizer.encode("Frame from").ids])
        == "Frame from"
    )


def test_layout_follows_the_family_and_its_key(tmp_path: Path) -> None:
    v1 = write_toy_checkpoint(tmp_path / "v1", model_type="idefics3")
    nano = write_toy_checkpoint(tmp_path / "nano", layout="nano")
    assert open_checkpoint(str(v1)).layout == "smolvlm"
    assert open_checkpoint(str(nano)).layout == "nano"
    assert open_checkpoint(str(nano)).is_nano


def test_missing_keys_have_the_defaults_of_transformers(tmp_path: Path) -> None:
    folder = write_toy_checkpoint(tmp_path / "bare", vision_config={}, text_config={})
    (folder / "preprocessor_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["scale_factor"]
    config["vision_config"] = {"image_size": 256}
    write_json(folder / "config.json", config)
    checkpoint = open_checkpoint(str(folder))
    assert (checkpoint.patch_size, checkpoint.scale_factor) == (32, 2)
    assert (checkpoint.context_tokens, checkpoint.resize_edge) == (2048, 1024)


def test_processor_file_of_transformers_5(tmp_path: Path) -> None:
    folder = write_toy_checkpoint(tmp_path / "saved")
    (folder / "preprocessor_config.json").unlink()
    settings = {"size": {"longest_edge": 96}, "do_image_splitting": False}
    write_json(folder / "processor_config.json", {"image_processor": settings})
    checkpoint = open_checkpoint(str(folder))
    assert (checkpoint.resize_edge, checkpoint.splits_images) == (96, False)


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_end_of_turn_token_is_read_from_any_template_file(tmp_path: Path, file: str) -> None:
    folder = write_toy_checkpoint(tmp_path / "saved")
    (folder / "chat_template.json").unlink()
    template = "{% for message in messages %}<|endoftext|>\n{% endfor %}"
    if file.endswith(".jinja"):
        (folder / file).write_text(template)
    else:
        write_json(folder / file, {"chat_template": template})
    assert open_checkpoint(str(folder)).end_of_turn_token == "<|endoftext|>"


def test_sharded_checkpoint(tmp_path: Path) -> None:
    folder = write_toy_checkpoint(tmp_path / "sharded")
    first = folder / "model-00001-of-00002.safetensors"
    shutil.copy(folder / "model.safetensors", folder / "model-00002-of-00002.safetensors")
    (folder / "model.safetensors").rename(first)
    shards = {"a": first.name, "b": "model-00002-of-00002.safetensors"}
    write_json(folder / "model.safetensors.index.json", {"weight_map": shards})
    weights = open_checkpoint(str(folder)).weights
    assert weights is not None
    assert (len(weights.files), weights.parameters) == (2, 30)
    first.unlink()
    with pytest.raises(ModelError, match=r"no `model-00001-of-00002\.safetensors`"):
        open_checkpoint(str(folder))
    write_json(
        folder / "model.safetensors.index.json", {"weight_map": {"a": "../elsewhere.safetensors"}}
    )
    with pytest.raises(ModelError, match="which is no shard"):
        open_checkpoint(str(folder))


def _break(folder: Path, how: str) -> None:
    """Damage a checkpoint in one way."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    weights = folder / "model.safetensors"
    match how:
        case "no config":
            (folder / "config.json").unlink()
        case "config is no JSON":
            (folder / "config.json").write_text("{")
        case "config is a list":
            (folder / "config.json").write_text("[]")
        case "config is binary":
            (folder / "config.json").write_bytes(b"\xff\xfe\x00")
        case "no text_config":
            write_json(
                folder / "config.json", {k: v for k, v in config.items() if k != "text_config"}
            )
        case "another family":
            write_json(folder / "config.json", config | {"model_type": "llava"})
        case "no family":
            write_json(
                folder / "config.json", {k: v for k, v in config.items() if k != "model_type"}
            )
        case "unknown layout":
            write_json(folder / "config.json", config | {"smolvideo_layout": "huge"})
        case "scale factor 0":
            write_json(folder / "config.json", config | {"scale_factor": 0})
        case "scale factor 3":
            write_json(folder / "config.json", config | {"scale_factor": 3})
        case "wrong image token":
            write_json(folder / "config.json", config | {"image_token_id": 17})
        case "a list for a family":
            write_json(folder / "config.json", config | {"model_type": ["smolvlm"]})
        case "nested too deeply":
            (folder / "config.json").write_text("[" * 100_000)
        case "a word for the vocabulary":
            config["text_config"]["vocab_size"] = "many"
            write_json(folder / "config.json", config)
        case "vocabulary too small":
            config["text_config"]["vocab_size"] = 300
            write_json(folder / "config.json", config)
        case "an object for the end":
            write_json(folder / "generation_config.json", {"eos_token_id": {"a": 1}})
        case "no longest edge":
            write_json(folder / "preprocessor_config.json", {"size": {"longest_edge": 0}})
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "tokenizer without <image>":
            tokens = [t for t in tokenizer["added_tokens"] if t["content"] != "<image>"]
            write_json(folder / "tokenizer.json", tokenizer | {"added_tokens": tokens})
        case "malformed added_tokens":
            write_json(folder / "tokenizer.json", tokenizer | {"added_tokens": [{"id": 3}]})
        case "no weights":
            weights.unlink()
        case "only .bin weights":
            weights.rename(folder / "pytorch_model.bin")
        case "empty weights":
            weights.write_bytes(b"")
        case "truncated weights":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "truncated header":
            weights.write_bytes(weights.read_bytes()[:20])
        case "LFS pointer":
            weights.write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
            )
        case "a word for a shape":
            header = b'{"a":{"dtype":"F32","shape":"x","data_offsets":[0,4]}}'
            weights.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
        case "no shape":
            header = b'{"a":{"dtype":"F32","data_offsets":[0,4]}}'
            weights.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
        case "a list for a dtype":
            header = b'{"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}}'
            weights.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
        case "int8 weights":
            header = b'{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}'
            weights.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
        case "words for offsets":
            header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":["0","4"]}}'
            weights.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
        case "weights are text":
            weights.write_text("hello, this is not a safetensors file at all")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no config", "no `config.json`"),
        ("config is no JSON", "config.json` is not valid JSON"),
        ("config is a list", "holds no JSON object"),
        ("config is binary", "not valid JSON"),
        ("no text_config", "has no `text_config`"),
        ("another family", "type `llava`, not a SmolVLM"),
        ("no family", "not a SmolVLM"),
        ("unknown layout", "`smolvideo_layout`"),
        ("scale factor 0", "`scale_factor`"),
        ("scale factor 3", "do not divide"),
        ("wrong image token", "`<image>` is token 5 in tokenizer.json, but 17 in config.json"),
        ("a list for a family", "not a SmolVLM"),
        ("nested too deeply", "not valid JSON"),
        ("a word for the vocabulary", "`vocab_size`"),
        ("vocabulary too small", "`vocab_size` in config.json is 300"),
        ("an object for the end", "which token ends an answer"),
        ("no longest edge", "image processor's `longest_edge`"),
        ("no tokenizer", "no `tokenizer.json`"),
        ("tokenizer without <image>", "has no `<image>`"),
        ("malformed added_tokens", "`added_tokens` is malformed"),
        ("no weights", "no `model.safetensors`"),
        ("only .bin weights", "no `model.safetensors`"),
        ("empty weights", "not a safetensors file"),
        ("truncated weights", "is cut short"),
        ("truncated header", "is cut short"),
        ("LFS pointer", "Git LFS pointer"),
        ("a word for a shape", "not a safetensors file"),
        ("no shape", "not a safetensors file"),
        ("a list for a dtype", "not a safetensors file"),
        ("int8 weights", "as I8: quantized weights are not read"),
        ("words for offsets", "not a safetensors file"),
        ("weights are text", "not a safetensors file"),
    ],
)
def test_broken_checkpoint_error_names_the_fault(tmp_path: Path, how: str, said: str) -> None:
    folder = write_toy_checkpoint(tmp_path / "broken")
    _break(folder, how)
    with pytest.raises(ModelError) as caught:
        open_checkpoint(str(folder))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    if how == "only .bin weights":
        assert "can run code" in str(caught.value.hint)


def test_broken_tokenizer_is_an_error_when_used(tmp_path: Path) -> None:
    folder = write_toy_checkpoint(tmp_path / "broken")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    write_json(folder / "tokenizer.json", tokenizer | {"model": {"type": "Nonsense"}})
    with pytest.raises(ModelError, match="broken tokenizer"):
        _ = open_checkpoint(str(folder)).tokenizer


def test_path_is_never_a_model_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no folder"):
        open_checkpoint(Path("nano"))
    write_toy_checkpoint(tmp_path / "nano")
    assert open_checkpoint(Path("nano")).layout == "smolvlm2"
    assert open_checkpoint("nano").layout == "nano"


def test_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    file = write_toy_checkpoint(tmp_path / "toy") / "model.safetensors"
    with pytest.raises(ModelError, match="is a file; a checkpoint is a folder"):
        open_checkpoint(str(file))


def test_folder_with_a_revision_is_an_error(tmp_path: Path) -> None:
    folder = write_toy_checkpoint(tmp_path / "toy")
    with pytest.raises(ModelError, match="no revision `v2`"):
        open_checkpoint(str(folder), revision="v2")
