"""FrameEncoder with a feature cache: bit-equal features, and no frame encoded twice."""

import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tinymodels
from support.tinymodels import frames_prompt, make_tiny, random_images

from smolvideo.engines import (
    FeatureCache,
    GenerationOptions,
    NativeEngine,
    feature_keys,
    load_engine,
)
from smolvideo.engines.feature_keys import ScopedFeatureCache, weight_files_stat, weights_digest
from smolvideo.errors import UsageError
from smolvideo.models import open_checkpoint
from smolvideo.progress import Progress

SHORT = GenerationOptions(max_new_tokens=12)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("recall") / "tiny")


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features")


def load(folder: Path, cache: FeatureCache | None, dtype: str = "float32") -> NativeEngine:
    engine = load_engine(str(folder), device="cpu", dtype=dtype, cache=cache)
    assert isinstance(engine, NativeEngine)
    return engine


@contextmanager
def encoded(engine: NativeEngine) -> Iterator[list[int]]:
    """Record how many frames each call of the vision tower encodes."""
    sizes: list[int] = []
    hook = engine.network.model.vision_model.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0]))
    )
    yield sizes
    hook.remove()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_second_engine_encodes_no_cached_frame(tiny: Path, cache: FeatureCache, dtype: str) -> None:
    images = random_images(7)
    expected = load(tiny, None, dtype).encode(images)
    first = load(tiny, cache, dtype).encode(images)
    engine = load(tiny, FeatureCache(cache.folder), dtype)
    with encoded(engine) as seen:
        again, from_cache = engine.encoder.encode(images)
    assert (seen, from_cache) == ([], 7)
    assert torch.equal(first, expected)
    assert torch.equal(again, expected)
    assert again.dtype is expected.dtype


def test_answers_from_cache_are_equal_and_report_their_cache_hits(
    tiny: Path, cache: FeatureCache
) -> None:
    plain, kept = load(tiny, None), load(tiny, cache)
    for count, old in ((5, 0), (5, 5), (8, 5), (3, 3), (0, 0)):
        prompt = frames_prompt(kept.checkpoint, random_images(8)[:count])
        answer = kept.stream(prompt, SHORT).result()
        assert answer.text == plain.stream(prompt, SHORT).result().text
        assert (answer.usage.frames, answer.usage.frames_from_cache) == (count, old)


def test_only_missing_frames_are_encoded_and_progress_counts_all(
    tiny: Path, cache: FeatureCache
) -> None:
    images = random_images(11)
    engine = load(tiny, cache)
    engine.encode(images[::3])
    reports: list[Progress] = []
    with encoded(engine) as seen:
        features, from_cache = engine.encoder.encode(images, on_progress=reports.append)
    assert (sum(seen), from_cache) == (7, 4)
    assert torch.equal(features, load(tiny, None).encode(images))
    done = [report.done for report in reports]
    assert (done[0], done[-1], done) == (4, 11, sorted(done))
    assert {(report.stage, report.total) for report in reports} == {("encode", 11)}


def test_session_uses_cached_features(tiny: Path, cache: FeatureCache) -> None:
    images = random_images(6)
    load(tiny, cache).encode(images)
    engine = load(tiny, cache)
    first, second = (frames_prompt(engine.checkpoint, images, text) for text in ("Who?", "Why?"))
    session = engine.start_session(frames_prompt(engine.checkpoint, images[:2], "Who?"))
    assert session.stream(first, SHORT).result().usage.frames_from_cache == 4
    answer = session.stream(second, SHORT).result()
    assert answer.usage.frames_from_cache == 0, "they were in the session's memory"
    assert answer.text == load(tiny, None).stream(second, SHORT).result().text


def test_one_changed_pixel_is_a_miss(tiny: Path, cache: FeatureCache) -> None:
    engine = load(tiny, cache)
    images = random_images(1)
    engine.encode(images)
    changed = images.copy()
    changed[0, 31, 31, 2] ^= 1
    assert engine.encoder.encode(changed)[1] == 0
    # Equal bytes in another shape are another image.
    assert engine.encoder.encode(np.ascontiguousarray(images.transpose(0, 2, 1, 3)))[1] == 0
    assert engine.encoder.encode(images[:, :, ::1].copy(order="F"))[1] == 1


def test_other_weights_have_other_keys(tiny: Path, cache: FeatureCache, tmp_path: Path) -> None:
    images = random_images(3)
    load(tiny, cache).encode(images)
    other = make_tiny(tmp_path / "tiny", seed=1)
    engine = load(other, cache)
    features, from_cache = engine.encoder.encode(images)
    assert from_cache == 0
    assert torch.equal(features, load(other, None).encode(images))
    same = make_tiny(tmp_path / "copy")
    assert load(same, cache).encoder.encode(images)[1] == 3, "the same weights in another folder"


def test_weights_changed_in_place_have_other_keys(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size, inode and mtime stay the same, and the digest of the old weights is in the cache."""
    images = random_images(3)
    folder, other = make_tiny(tmp_path / "tiny"), make_tiny(tmp_path / "other", seed=5)
    file = folder / "model.safetensors"
    os.utime(file, (1000, 1000))
    with monkeypatch.context() as later:
        now = time.time()
        later.setattr(time, "time", lambda: now + 3600)
        load(folder, cache).encode(images)
    assert cache.stats().entries == 3 + 1
    before = file.stat()
    with file.open("r+b") as stream:
        stream.write((other / "model.safetensors").read_bytes())
    os.utime(file, (1000, 1000))
    after = file.stat()
    assert (after.st_size, after.st_ino, after.st_mtime) == (before.st_size, before.st_ino, 1000)
    features, from_cache = load(folder, cache).encoder.encode(images)
    assert from_cache == 0
    assert torch.equal(features, load(other, None).encode(images))


def test_features_are_shared_by_models_with_equal_vision_weights(
    tiny: Path, cache: FeatureCache, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    images = random_images(3)
    load(tiny, cache).encode(images)
    folder = make_tiny(tmp_path / "tiny")
    for changed, hits in (
        ("lm_head.weight", 3),
        ("model.connector.modality_projection.proj.weight", 0),
    ):
        weights = load_file(folder / "model.safetensors")
        weights[changed][0, 0] += 1
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        assert load(folder, cache).encoder.encode(images)[1] == hits


def test_sharded_weights_have_the_same_keys(
    tiny: Path, cache: FeatureCache, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_tiny(tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: weights[name] for name in held}, folder / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    tinymodels.write_json(folder / "model.safetensors.index.json", index)
    whole, sharded = open_checkpoint(tiny).weights, open_checkpoint(folder).weights
    assert whole is not None
    assert sharded is not None
    assert weights_digest(whole, cache) == weights_digest(sharded, cache)


def test_dtype_configuration_and_versions_enter_the_key(
    tiny: Path, cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    images = random_images(2)
    load(tiny, cache).encode(images)
    for dtype in ("bfloat16", "float16"):  # of the same length
        assert load(tiny, cache, dtype).encoder.encode(images)[1] == 0
    folder = make_tiny(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["layer_norm_eps"] = 0.1
    tinymodels.write_json(folder / "config.json", config)
    assert load(folder, cache).encoder.encode(images)[1] == 0
    # For a cache shared by machines: torch may name both AVX-512 and Arm "default".
    machine = platform.machine
    monkeypatch.setattr(platform, "machine", lambda: f"another {machine()}")
    assert load(tiny, cache).encoder.encode(images)[1] == 0
    monkeypatch.setattr(torch, "__version__", "2.0.0")
    assert load(tiny, cache).encoder.encode(images)[1] == 0
    # Attention compiled by numba rounds differently, so installing numba changes the key.
    monkeypatch.setattr("smolvideo.network.SmolVLM.attention_backend_name", "tiles")
    assert load(tiny, cache).encoder.encode(images)[1] == 0


def test_weights_digest_is_cached_once_the_mtime_is_old(
    cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = open_checkpoint(make_tiny(tmp_path / "tiny")).weights
    assert weights is not None
    digest = weights_digest(weights, cache)
    assert cache.stats().entries == 0, "it may change again within one tick"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert weights_digest(weights, cache) == digest
    assert cache.stats().entries == 1
    monkeypatch.delattr("smolvideo.engines.feature_keys._hash_weights")
    assert weights_digest(weights, FeatureCache(cache.folder)) == digest


def test_weights_replaced_during_loading_disable_the_cache(
    cache: FeatureCache, tmp_path: Path
) -> None:
    weights = open_checkpoint(make_tiny(tmp_path / "tiny")).weights
    assert weights is not None
    before = weight_files_stat(weights)
    make_tiny(tmp_path / "tiny", seed=1)
    engine = load(tmp_path / "tiny", None)
    kept = ScopedFeatureCache.of_network(cache, weights, before, engine.network)
    assert kept is None


def test_damaged_entries_are_encoded_again(tiny: Path, cache: FeatureCache) -> None:
    images = random_images(4)
    expected = load(tiny, cache).encode(images)
    for path in cache.folder.glob("??/*"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    engine = load(tiny, cache)
    features, from_cache = engine.encoder.encode(images)
    assert from_cache == 0
    assert torch.equal(features, expected)
    assert engine.encoder.encode(images)[1] == 4


def test_nan_features_are_not_stored(tiny: Path, cache: FeatureCache) -> None:
    engine = load(tiny, cache)
    broken = engine.network.model.connector.register_forward_hook(
        lambda module, args, output: output * float("nan")
    )
    images = random_images(2)
    assert not engine.encode(images).isfinite().any()
    broken.remove()
    features, from_cache = engine.encoder.encode(images)
    assert from_cache == 0
    assert features.isfinite().all()


def test_transformers_engine_refuses_a_feature_cache(tiny: Path, cache: FeatureCache) -> None:
    with pytest.raises(UsageError, match="keeps no features"):
        load_engine(str(tiny), engine="transformers", device="cpu", cache=cache)


def test_no_file_is_written_without_a_cache(tiny: Path, tmp_path: Path) -> None:
    load(tiny, None).encode(random_images(2))
    assert not (tmp_path / "cache").exists()


def test_cached_frames_are_not_held_twice(
    tiny: Path, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries are read directly into their slice of the result."""
    engine = load(tiny, cache)
    images = random_images(64)
    engine.encode(images)
    read, places = FeatureCache.read, []

    def watched(self: FeatureCache, key: bytes, into: memoryview) -> bool:
        places.append((np.frombuffer(into, np.uint8).ctypes.data, into.nbytes))
        return read(self, key, into)

    monkeypatch.setattr(FeatureCache, "read", watched)
    features, from_cache = engine.encoder.encode(images)
    assert from_cache == 64
    row = tinymodels.TOKENS_PER_IMAGE * 64 * 4
    assert features.nbytes == 64 * row
    assert sorted(places) == [(features.data_ptr() + at * row, row) for at in range(64)]


def test_source_of_the_network_enters_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change in any module of the network changes the key, from any current folder."""
    import smolvideo.network

    folder = Path(smolvideo.network.__file__).parent
    copied = tmp_path / "network"
    shutil.copytree(folder, copied, ignore=shutil.ignore_patterns("__pycache__"))
    digest = feature_keys.code_digest.__wrapped__
    monkeypatch.setattr(smolvideo.network, "__file__", str(copied / "__init__.py"))
    before = digest()
    monkeypatch.chdir(tmp_path)
    assert digest() == before
    for file in (copied / "vision.py", copied / "attention.py", copied / "kernels" / "decode.py"):
        content = file.read_bytes()
        file.write_bytes(content + b"#")
        assert digest() != before, file.name
        file.write_bytes(content)
        assert digest() == before
