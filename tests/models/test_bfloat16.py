"""Conversion of checkpoints to bfloat16: round to nearest, verified, and safe against
interruption.
"""

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import tinymodels
from support.hub_server import COMMIT, HubServer, serve_hub

from smolvideo.engines import load_engine
from smolvideo.errors import ModelError
from smolvideo.models import bfloat16, list_local, open_checkpoint, pull
from smolvideo.models.local_cache import repository_folder
from smolvideo.progress import Progress

REPO = "HuggingFaceTB/SmolVLM2-256M-Video-Instruct"
NAME = "smolvlm2-256m"


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint whose weights need the full float32 mantissa."""
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("model") / "float32")
    weights = folder / "model.safetensors"
    random = torch.Generator().manual_seed(1)
    finer = {
        name: tensor.float() * (1 + torch.rand(tensor.shape, generator=random) / 300)
        for name, tensor in load_file(weights).items()
    }
    save_file(finer, weights, metadata={"format": "pt"})
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, float32: Path) -> Iterator[HubServer]:
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.repositories[REPO] = float32
        yield server


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_rounding_equals_torch_and_other_values_fail_verification(numbers: list[int]) -> None:
    bits = np.array(numbers, "<u4")
    values = bits.view("<f4")
    if np.isnan(values).any():
        with pytest.raises(ModelError, match="no numbers"):
            bfloat16._rounded(bits.tobytes(), "weight", Path("file"))
        return
    copy = bfloat16._rounded(bits.tobytes(), "weight", Path("file"))
    rounded = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.int16)
    assert copy == rounded.numpy().astype("<i2").tobytes()
    assert bfloat16._is_nearest(bits.tobytes(), copy)
    for step in (-1, 1, 1 << 15):
        other = (np.frombuffer(copy, "<u2") + np.array(step).astype("<u2")).astype("<u2")
        assert not bfloat16._is_nearest(bits.tobytes(), other.tobytes())
    assert not bfloat16._is_nearest(bits.tobytes(), copy[:-2])


def test_copy_replaces_its_original_by_default(hub: HubServer, float32: Path) -> None:
    steps: list[Progress] = []
    copy = pull(NAME, dtype="bfloat16", on_progress=steps.append)
    assert copy.folder.parent.parent == repository_folder(REPO, copy=True)
    assert (copy.name, copy.revision) == (NAME, f"{COMMIT}+bfloat16")
    before, after = (load_file(one / "model.safetensors") for one in (float32, copy.folder))
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert torch.equal(tensor.to(torch.bfloat16), after[name])
    with safe_open(copy.folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert json.loads((copy.folder / "config.json").read_text())["torch_dtype"] == "bfloat16"
    record = json.loads((copy.folder / "conversion.json").read_text())
    original = repository_folder(REPO) / "snapshots" / COMMIT
    assert record["files"]["model.safetensors"]["sha256"] == (
        (original / "model.safetensors").resolve().name
    )
    assert record["tensors"] == record["rounded"] == len(before)
    assert {step.stage for step in steps} == {"download", "convert"}
    # the copy is the default now; the original stays available
    assert open_checkpoint(NAME) == copy
    assert open_checkpoint(NAME, revision=f"{COMMIT}+bfloat16", offline=True) == copy
    assert open_checkpoint(NAME, revision=COMMIT, offline=True).folder == original
    (local,) = list_local()
    assert (local.name, local.revision, local.problem) == (NAME, copy.revision, None)
    assert local.size_bytes > 1.4 * (local.size_bytes - local.copy_bytes) > local.copy_bytes
    # nothing is downloaded or written again
    written = (copy.folder / "model.safetensors").stat()
    assert pull(NAME, dtype="bfloat16", replace=True) == copy
    assert (copy.folder / "model.safetensors").stat() == written
    assert not original.exists()
    assert open_checkpoint(NAME, offline=True) == copy
    assert hub.files().count("model.safetensors") == 1


def test_answers_in_bfloat16_are_the_same(hub: HubServer) -> None:
    images = tinymodels.random_images(2)
    scores = []
    for dtype in (None, "bfloat16"):
        checkpoint = pull(NAME, dtype=dtype)
        engine = load_engine(checkpoint, dtype="bfloat16", device="cpu")
        prompt = tinymodels.frames_prompt(checkpoint, images)
        scores.append(engine.score(prompt, ["yes", "no"]))
    assert scores[0] == scores[1]


def test_shards_keep_their_names(hub: HubServer, float32: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    for file in float32.glob("*.json"):
        (sharded / file.name).write_bytes(file.read_bytes())
    tensors = load_file(float32 / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-00001-of-00002": names[::2], "model-00002-of-00002": names[1::2]}
    places = {}
    for shard, held in shards.items():
        # One tensor is stored in bfloat16 already and is copied unchanged.
        kept = {n: tensors[n].bfloat16() if n == names[0] else tensors[n] for n in held}
        save_file(kept, sharded / f"{shard}.safetensors")
        places |= dict.fromkeys(held, f"{shard}.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.repositories[REPO] = sharded
    copy = pull(NAME, dtype="bfloat16", replace=True)
    index = json.loads((copy.folder / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == places
    assert copy.weights is not None
    stored = {}
    for file in copy.weights.files:
        stored |= load_file(file)
    assert all(torch.equal(stored[name], tensors[name].to(torch.bfloat16)) for name in names)


def _interrupt(_: pytest.MonkeyPatch) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.stage == "convert" and progress.label == "comparing":
            raise KeyboardInterrupt

    return stop


def _fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Progress], None]:
    """Limit file size once the conversion begins, which acts like a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write = bfloat16._Conversion.convert

    def convert(*arguments: Path) -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            return write(*arguments)  # type: ignore[arg-type]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(bfloat16._Conversion, "convert", convert)
    return lambda _: None


def _flip_a_bit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Progress], None]:
    rounded = bfloat16._rounded

    def wrong(*arguments: object) -> bytes:
        copy = bytearray(rounded(*arguments))  # type: ignore[arg-type]
        copy[-2] ^= 1
        return bytes(copy)

    monkeypatch.setattr(bfloat16, "_rounded", wrong)
    return lambda _: None


@pytest.mark.parametrize(
    ("break_it", "error", "said"),
    [
        (_interrupt, KeyboardInterrupt, None),
        (_fill_disk, ModelError, "cannot write the bfloat16 copy"),
        (_flip_a_bit, ModelError, "differs from what was to be written"),
    ],
)
def test_failed_conversion_leaves_the_original(
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[pytest.MonkeyPatch], Callable[[Progress], None]],
    error: type[BaseException],
    said: str | None,
) -> None:
    with monkeypatch.context() as broken, pytest.raises(error, match=said):
        pull(NAME, dtype="bfloat16", replace=True, on_progress=break_it(broken))
    repository = repository_folder(REPO, copy=True)
    assert [one.name for one in repository.iterdir()] == [".lock"]
    assert open_checkpoint(NAME, offline=True).revision == COMMIT
    (repository / ".0123.part").mkdir()  # left by a killed process
    assert pull(NAME, dtype="bfloat16", replace=True).revision == f"{COMMIT}+bfloat16"
    assert not list(repository.glob(".*.part"))
    assert hub.files().count("model.safetensors") == 1


def test_modified_weights_are_not_converted(hub: HubServer) -> None:
    checkpoint = pull(NAME)
    blob = (checkpoint.folder / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ModelError, match="damaged: its SHA-256"):
        pull(NAME, dtype="bfloat16", replace=True)
    assert checkpoint.folder.is_dir()


def test_bfloat16_checkpoint_needs_no_copy(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[REPO] = tinymodels.make_tiny(tmp_path / "tiny")
    assert pull(NAME, dtype="bfloat16", replace=True).revision == COMMIT
    assert open_checkpoint(NAME, offline=True).weights is not None
