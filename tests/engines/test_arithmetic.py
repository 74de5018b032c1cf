"""The choice between int8 and floating-point arithmetic, on random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import tinymodels

from smolvideo.engines import FeatureCache, arithmetic, load_engine, settled_arithmetic
from smolvideo.engines.arithmetic import (
    ArithmeticVerdict,
    block_errors,
    choose_arithmetic,
    compare_arithmetics,
    describe_arithmetic,
    generated_pictures,
)
from smolvideo.engines.native import NativeEngine
from smolvideo.errors import UsageError
from smolvideo.models import open_checkpoint
from smolvideo.models.weights import WeightFiles
from smolvideo.network import SmolVLM, int8_arithmetic
from smolvideo.network.int8_arithmetic import RowPasses
from smolvideo.network.linear import int8_linears
from smolvideo.network.loading import load_network
from smolvideo.network.model import weight_bytes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("tiny"), "smolvlm")


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes with torch operators: the choice does not depend on kernels."""
    monkeypatch.setattr(int8_arithmetic, "row_passes", RowPasses)


@pytest.fixture(autouse=True)
def _tiny_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny checkpoints take part in ``auto``."""
    monkeypatch.setattr(arithmetic, "TINY_PARAMETERS", 0)


def both(folder: Path) -> SmolVLM:
    weights = WeightFiles((folder / "model.safetensors",), parameters=1)
    return load_network(folder, weights, device=CPU, dtype=torch.float32, arithmetic="both")


def pixels(network: SmolVLM) -> torch.Tensor:
    pictures = generated_pictures(network.config.vision.image_size)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def plant_outlier(network: SmolVLM, layer: int, size: float) -> None:
    """Let one channel of the activations of an MLP be ``size`` times the others."""
    norm = network.model.vision_model.encoder.layers[layer].layer_norm2
    with torch.no_grad():
        norm.weight[0] *= size


@torch.inference_mode()
def test_int8_arithmetic_where_little_is_lost(folder: Path) -> None:
    network = both(folder)
    verdict = compare_arithmetics(network, pixels(network))
    assert verdict.arithmetic == "int8"
    assert not verdict.float_layers
    assert 0 < verdict.feature_error < arithmetic.MAX_FEATURE_ERROR


@torch.inference_mode()
def test_blocks_with_outliers_stay_in_floating_point(folder: Path) -> None:
    network = both(folder)
    plant_outlier(network, 0, 300)
    in_tower, _ = block_errors(network, pixels(network))
    first, second = (f"model.vision_model.encoder.layers.{block}." for block in (0, 1))
    assert in_tower[first] > 2 * in_tower[second]
    verdict = compare_arithmetics(network, pixels(network))
    assert verdict.arithmetic == "int8"
    assert f"{first}mlp.fc1" in verdict.float_layers
    assert f"{second}mlp.fc1" not in verdict.float_layers
    used = {name for name, part in int8_linears(network).items() if part.uses_int8}
    assert used == set(int8_linears(network)) - set(verdict.float_layers)


@torch.inference_mode()
def test_floating_point_where_no_choice_is_within_the_bounds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = both(folder)
    monkeypatch.setattr(arithmetic, "MAX_HIDDEN_ERROR", 1e-6)
    exact = network.encode_images(pixels(network))
    verdict = compare_arithmetics(network, pixels(network))
    assert verdict.arithmetic == "float"
    assert torch.equal(network.encode_images(pixels(network)), exact)


def test_verdict_is_stored_and_loads_the_same_network(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path / "features")
    images = tinymodels.random_images(3)
    checkpoint = open_checkpoint(str(folder))
    assert describe_arithmetic(checkpoint, cache).startswith("not compared yet")
    first = load_engine(str(folder), cache=cache)
    assert isinstance(first, NativeEngine)
    assert first.arithmetic == "auto"
    assert "float32 with arithmetic not chosen yet" in repr(first)
    features = first.encode(images)
    assert first.arithmetic == "int8"
    assert "float32 with int8 arithmetic" in repr(first)
    assert describe_arithmetic(checkpoint, cache).startswith("int8 arithmetic (features differ by ")
    assert describe_arithmetic(checkpoint, None).startswith("not compared yet")

    def fail(*_: object) -> ArithmeticVerdict:
        raise AssertionError("compared again")

    monkeypatch.setattr(arithmetic, "compare_arithmetics", fail)
    again = load_engine(str(folder), cache=cache)
    assert isinstance(again, NativeEngine)
    assert again.arithmetic == "int8"
    assert torch.equal(again.encode(images), features)
    assert weight_bytes(again.network) == weight_bytes(first.network)
    exact = load_engine(str(folder), arithmetic="float", cache=cache)
    assert isinstance(exact, NativeEngine)
    error = (exact.encode(images) - features).norm() / features.norm()
    assert 1e-4 < float(error) < arithmetic.MAX_FEATURE_ERROR  # no feature of the other's key


def test_arithmetic_is_settled_before_there_are_frames(folder: Path) -> None:
    engine = load_engine(str(folder))
    assert settled_arithmetic(engine) == engine.arithmetic == "int8"
    assert settled_arithmetic(load_engine(str(folder), arithmetic="float")) == "float"
    assert settled_arithmetic(load_engine(str(folder), engine="transformers")) == "float"


def test_damaged_verdict_is_made_anew(folder: Path, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features")
    engine = load_engine(str(folder), cache=cache)
    assert isinstance(engine, NativeEngine)
    check = engine.encoder._check
    assert check is not None
    cache.write(check._key, memoryview(b"[]".ljust(16384)))
    assert check.stored() is None
    assert settled_arithmetic(load_engine(str(folder), cache=cache)) == "int8"


@pytest.mark.parametrize(
    ("asked", "device", "dtype", "auto_dtype", "parameters", "expected"),
    [
        ("auto", "cpu", torch.float32, True, 10**8, "auto"),
        ("auto", "cpu", torch.bfloat16, True, 10**8, "auto"),
        ("auto", "cpu", torch.float32, False, 10**8, "float"),
        ("auto", "cuda", torch.bfloat16, True, 10**8, "float"),
        ("float", "cpu", torch.float32, True, 10**8, "float"),
        ("int8", "cpu", torch.float32, False, 10**6, "int8"),
        ("int8", "cuda", torch.bfloat16, True, 10**8, None),
        ("int8", "cpu", torch.float16, False, 10**8, None),
        ("int4", "cpu", torch.float32, True, 10**8, None),
    ],
)
def test_choice_by_device_and_dtype(
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    device: str,
    dtype: torch.dtype,
    auto_dtype: bool,
    parameters: int,
    expected: str | None,
) -> None:
    monkeypatch.setattr(arithmetic, "has_fast_int8", lambda: True)

    def chosen() -> str:
        return choose_arithmetic(
            asked,
            device=torch.device(device),
            dtype=dtype,
            is_auto_dtype=auto_dtype,
            parameters=parameters,
        )

    if expected is None:
        with pytest.raises(UsageError, match="arithmetic"):
            chosen()
    else:
        assert chosen() == expected


@pytest.mark.parametrize("missing", ["numba", "product", "instructions"])
def test_auto_is_floating_point_where_int8_does_not_pay(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(arithmetic, "has_fast_int8", lambda: missing != "instructions")
    monkeypatch.setattr("smolvideo.network.compilation.has_numba", lambda: missing != "numba")
    levels = None if missing == "product" else 127
    monkeypatch.setattr(int8_arithmetic, "int8_weight_levels", lambda: levels)
    got = choose_arithmetic(
        "auto", device=CPU, dtype=torch.float32, is_auto_dtype=True, parameters=10**8
    )
    assert got == "float"


def test_tiny_checkpoints_stay_in_floating_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    engine = load_engine("nano")
    assert engine.arithmetic == "float"
    engine.close()


def test_generated_pictures_are_the_same_everywhere() -> None:
    pictures = generated_pictures(64)
    assert pictures.shape == (2, 64, 64, 3)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, generated_pictures(64))
    assert (pictures[1, :32] == pictures[1, 0, 0]).all()
    assert 40 < pictures[0].std() < 90
