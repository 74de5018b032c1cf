"""What a run leaves: the adapter in peft's format, and on request a merged checkpoint.

Folders are written beside their place and renamed, so that a killed process leaves the old one, the
new one, or, for a moment, the old one under another name, which the next start puts back.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from smolvideo.errors import RecordError
from smolvideo.models import Checkpoint
from smolvideo.models.adapter import CONFIG_FILE, METADATA_KEY, WEIGHTS_FILE
from smolvideo.models.json_files import read_json
from smolvideo.network.adapter_weights import merge_update, norms_fingerprint
from smolvideo.sanitize import display_path

_WORD = re.compile(r"[^\W\d_]+")


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside ``target`` that takes its place at the end of the block.

    Raises RecordError where the disk refuses.
    """
    part, old = (target.with_name(f".{target.name}.{end}") for end in ("part", "old"))
    try:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if target.exists():
            target.rename(old)
        part.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise RecordError(f"cannot write {display_path(target)}: {reason or error}") from error


def put_back(target: Path) -> None:
    """Undo the half of a replacement that a killed process left."""
    old = target.with_name(f".{target.name}.old")
    if old.is_dir() and not target.exists():
        old.rename(target)
    shutil.rmtree(target.with_name(f".{target.name}.part"), ignore_errors=True)


def words_of(texts: Iterator[str]) -> list[str]:
    """Words of the data, in lower case and sorted."""
    return sorted({word for text in texts for word in _WORD.findall(text.lower())})


def adapter_writer(
    checkpoint: Checkpoint, lora_config: Any, words: list[str]
) -> Callable[[Path, Mapping[str, Tensor]], None]:
    """Return the function that writes tensors as an adapter of ``checkpoint`` into a folder."""
    assert checkpoint.weights is not None
    about = {
        "base_norms": norms_fingerprint(checkpoint.weights.files),
        "words": " ".join(words) if checkpoint.is_nano else "",
    }
    metadata = {METADATA_KEY: json.dumps(about)}
    described = {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in lora_config.to_dict().items()
    }
    # Its own name, not the folder of this machine.
    described |= {"base_model_name_or_path": checkpoint.name, "inference_mode": True}
    content = json.dumps(described, indent=2, sort_keys=True) + "\n"

    def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
        with replaced_folder(folder) as part:
            save_file(dict(tensors), part / WEIGHTS_FILE, metadata=metadata)
            (part / CONFIG_FILE).write_text(content, encoding="utf-8")
            _sync(part)

    return write


def write_merged(
    target: Path,
    checkpoint: Checkpoint,
    *,
    trained: Mapping[str, Tensor] | None = None,
    words: list[str] | None = None,
) -> None:
    """Write a checkpoint with the weights of its adapter, or of ``trained``, merged.

    Files of the base are copied as they are, shard by shard; only changed tensors differ, in the
    dtype of the base, rounded once from float32. What transformers would write in their place has
    another configuration and no tokenizer.
    """
    assert checkpoint.weights is not None
    with replaced_folder(target) as part:
        for file in sorted(checkpoint.folder.iterdir()):
            if file.is_file() and file.suffix in (".json", ".jinja", ".txt", ".model"):
                shutil.copyfile(file, part / file.name)
        if checkpoint.is_nano and words:
            _add_words(part / "training.json", words)
        for file in checkpoint.weights.files:
            tensors = load_file(file)
            for name, tensor in tensors.items():
                if trained is not None and name in trained:
                    tensors[name] = trained[name].to(tensor.dtype).contiguous()
                elif checkpoint.adapter is not None:
                    tensors[name] = merge_update(name, tensor, checkpoint.adapter)
            save_file(tensors, part / file.name, metadata={"format": "pt"})
        _sync(part)


def _add_words(file: Path, words: list[str]) -> None:
    if file.is_file():
        content = read_json(file)
        content["words"] = sorted({*map(str, content.get("words", [])), *words})
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _sync(folder: Path) -> None:
    """Have the files on the disk before the rename makes them valid."""
    for file in folder.iterdir():
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
