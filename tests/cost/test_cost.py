"""Predicted cost: operation counts equal torch's; rates and past answers are stored and applied."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stepclock import StepClock
from support.terminals import environment
from support.tinymodels import make_tiny
from torch.utils.flop_counter import FlopCounterMode

from smolvideo.cost import (
    ModelCost,
    NumberFormat,
    PromptSize,
    RateRequest,
    Rates,
    fitting_prompt,
    kept_rates,
    measure_rates,
    predict,
    predict_first_token,
    predict_uncorrected,
    rates_for,
    remember,
)
from smolvideo.cost.operations import (
    attention_flops,
    causal_pairs,
    decode_bytes,
    encode_work,
    kv_bytes,
    parameter_count,
    prefill_work,
    weight_bytes,
)
from smolvideo.cost.rates import cost_folder, keep_rates
from smolvideo.engines import load_engine
from smolvideo.models import MODELS, Checkpoint, find_model, open_checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig, TextConfig, VisionConfig
from smolvideo.models.weights import read_header
from smolvideo.network import KVCache, SmolVLM
from smolvideo.network.model import weight_bytes as bytes_in_memory

FLOAT32 = NumberFormat("float32")
PUBLISHED = [spec for spec in MODELS.values() if spec.network is not None]
RATES = Rates("cpu", "float32", 2, 2e11, 1e11, 2e11, 5e10, 1e10, 2e9, 300_000_000, 1.7e9)


@st.composite
def networks(draw: st.DrawFn) -> NetworkConfig:
    """Strategy for any small network of the family."""
    scale, heads = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 4]))
    side, patch = scale * draw(st.integers(1, 3)), draw(st.sampled_from([4, 7]))
    groups = draw(st.sampled_from([group for group in (1, 2, 4) if heads % group == 0]))
    layers, width = st.integers(1, 3), st.integers(1, 6)
    vision = VisionConfig(
        side * patch, patch, 4 * heads * draw(width), 8 * draw(width), draw(layers), heads
    )
    text = TextConfig(
        vocab_size=8 * draw(width),
        hidden_size=8 * draw(width),
        intermediate_size=8 * draw(width),
        num_hidden_layers=draw(layers),
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=2 * draw(width),
        max_position_embeddings=64,
        rope_theta=1e4,
    )
    return NetworkConfig(vision, text, scale, draw(st.booleans()))


def counted(run: Callable[[], object]) -> int:
    """Return the operations that torch counts on the meta device, without computing."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@settings(max_examples=4)
@given(networks(), st.integers(1, 20))
def test_operations_equal_the_counts_of_torch(config: NetworkConfig, tokens: int) -> None:
    vision, text = config.vision, config.text
    with torch.device("meta"):
        network = SmolVLM(config)
        pixels = torch.empty(1, 3, vision.image_size, vision.image_size)
        x, mask = torch.empty(1, tokens, text.hidden_size), torch.empty(1, 1, tokens, tokens)
        positions = torch.empty(1, tokens)
    image = encode_work(config, FLOAT32)
    assert counted(lambda: network.encode_images(pixels)) == (
        image.product_flops + image.attention_flops
    )
    prompt = prefill_work(config, tokens, FLOAT32)
    decoder = network.model.text_model
    # With a mask every pair is computed, including the masked ones.
    pairs = text.num_hidden_layers * attention_flops(
        text.num_attention_heads, text.head_dim, tokens**2
    )
    got = counted(lambda: network.lm_head(decoder(x, positions, mask)[:, -1:]))
    assert got == prompt.product_flops + pairs
    assert prompt.attention_flops * tokens**2 == pairs * causal_pairs(tokens)


@given(st.integers(0, 60), st.integers(0, 60))
def test_causal_pairs_count_previous_tokens_and_itself(tokens: int, cached: int) -> None:
    assert causal_pairs(tokens, cached) == sum(cached + place for place in range(1, tokens + 1))
    assert causal_pairs(tokens + cached) == causal_pairs(cached) + causal_pairs(tokens, cached)


@settings(max_examples=20)
@given(networks(), st.integers(1, 100), st.sampled_from(["float32", "bfloat16"]))
def test_kv_cache_has_the_predicted_bytes(config: NetworkConfig, tokens: int, dtype: str) -> None:
    meta = torch.device("meta")
    cache = KVCache.empty(config.text, tokens, device=meta, dtype=getattr(torch, dtype))
    held = [part for layer in range(cache.layers) for part in cache.layer(layer).slice(0, tokens)]
    assert sum(part.nbytes for part in held) == kv_bytes(config, tokens, NumberFormat(dtype))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(make_tiny(tmp_path_factory.mktemp("tiny")))


def network_of(checkpoint: Checkpoint) -> NetworkConfig:
    return NetworkConfig.from_json(read_json(checkpoint.folder / "config.json"))


@pytest.mark.parametrize("quantize", ["none", "int8", "int4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_have_the_predicted_bytes(tiny: Checkpoint, dtype: str, quantize: str) -> None:
    from smolvideo.network.quantized import has_int4_matmul

    if quantize == "int4" and not has_int4_matmul():
        pytest.skip("hardware: no int4 operator")
    engine = load_engine(tiny, device="cpu", dtype=dtype, quantize=quantize)
    expected = bytes_in_memory(engine.network)  # type: ignore[attr-defined]
    assert weight_bytes(network_of(tiny), NumberFormat(dtype, quantize)) == expected


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_int8_arithmetic_has_weights_of_its_own(tiny: Checkpoint, quantize: str) -> None:
    from smolvideo.network.int8_arithmetic import MAX_LEVEL, int8_weight_levels

    if quantize == "int8" and int8_weight_levels() != MAX_LEVEL:
        pytest.skip("hardware: no VNNI, so levels are not shared")
    engine = load_engine(tiny, device="cpu", dtype="float32", quantize=quantize, arithmetic="int8")
    expected = bytes_in_memory(engine.network)  # type: ignore[attr-defined]
    numbers = NumberFormat("float32", quantize, "int8")
    assert weight_bytes(network_of(tiny), numbers) == expected


def test_parameters_equal_the_file_header(tiny: Checkpoint) -> None:
    assert tiny.weights is not None
    headers = [read_header(file) for file in tiny.weights.files]
    stored = [prod(one["shape"]) for header in headers for one in header.tensors.values()]
    assert parameter_count(network_of(tiny)) == sum(stored)


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: spec.name)
def test_registered_shapes_have_the_published_parameter_count(spec: Any) -> None:
    assert parameter_count(spec.network) == spec.parameters
    tokens = spec.network.tokens_per_image
    assert tokens < spec.tokens_per_frame < tokens + 16  # stamps and separators


def test_registered_shapes_equal_the_checkpoint(processor_files: Path) -> None:
    for folder in processor_files.glob("SmolVLM*"):
        config = NetworkConfig.from_json(read_json(folder / "config.json"))
        assert find_model(folder.name).network == config


def test_quantized_weights_reduce_memory_and_bytes_per_token() -> None:
    config = find_model("smolvlm2-2.2b").network
    assert config is not None
    formats = [NumberFormat("bfloat16", quantize) for quantize in ("none", "int8", "int4")]
    for count in (weight_bytes, lambda network, numbers: decode_bytes(network, 100, numbers)):
        plain, eight, four = (count(config, numbers) for numbers in formats)
        assert plain > eight > four > plain / 5


def test_rates_are_measured_with_given_shapes_and_clock(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("_READ_BYTES", "_COPIED_BYTES"):
        monkeypatch.setattr(f"smolvideo.cost.measure.{size}", 1 << 20)
    config = network_of(tiny)
    request = RateRequest("cpu", "float32")
    both = 2 * torch.get_num_threads()  # of two rounds, on all threads
    slow, fast = (
        measure_rates(request, config=config, clock=StepClock(s), cpu_clock=StepClock(both * s))
        for s in (2.0, 1.0)
    )
    assert (fast.device, fast.dtype, fast.threads) == ("cpu", "float32", torch.get_num_threads())
    for name in ("encode_attention", "prefill_attention", "encode_products", "read", "copy"):
        assert getattr(fast, name) == pytest.approx(2 * getattr(slow, name))
    assert fast.process_bytes > 50_000_000  # torch is loaded
    assert min(fast.start_seconds, fast.layer_seconds) > 0
    assert not fast.disturbed
    busy = measure_rates(request, config=config, clock=StepClock(1.0), cpu_clock=StepClock(0.1))
    assert busy.disturbed


def test_disturbed_rates_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    now = time.time()
    measured: list[Rates] = []
    monkeypatch.setattr("smolvideo.cost.measure.measure_rates", lambda _: measured.pop())
    request, busy = RateRequest(), replace(RATES, disturbed=True, measured_at=now)
    keep_rates(request, busy)
    assert rates_for(request) == busy  # just now
    earlier = replace(busy, measured_at=now - 601)
    keep_rates(request, earlier)
    measured.append(replace(busy, read=2 * RATES.read, copy=RATES.copy / 2))
    again = rates_for(request)
    assert (again.read, again.copy, again.disturbed) == (2 * RATES.read, RATES.copy, True)
    keep_rates(request, earlier)
    quiet = replace(busy, disturbed=False, read=RATES.read / 2)
    measured.append(quiet)
    assert rates_for(request) == quiet
    keep_rates(request, replace(quiet, measured_at=now - 86400))
    assert rates_for(request).measured_at == now - 86400


def test_start_and_compilation_are_stages_of_their_own() -> None:
    import time

    model, prompt = model_cost("smolvlm2-256m"), PromptSize(10, 800, 5)
    assert "start" not in predict(model, prompt, RATES).seconds  # not measured
    rates = replace(RATES, start_seconds=3.0, layer_seconds=0.001)
    first = predict(model, prompt, rates)
    assert (first.seconds["start"], first.seconds["compile"]) == (3.0, 12.0)  # one of two cores
    plain = predict_uncorrected(model, prompt, rates)
    assert first.first_token == pytest.approx(15 + plain.first_token)
    assert first.without_load == pytest.approx(plain.without_load)
    remember("any", "none", rates, predicted={"encode": 1.0}, measured={"encode": 1.0})
    assert "compile" in predict(model, prompt, rates).seconds
    remember(
        "any", "none", rates, predicted={"encode": 1.0}, measured={"encode": 1.0}, kernels=True
    )
    assert "compile" not in predict(model, prompt, rates).seconds
    assert "compile" in predict(replace(model, quantize="int8"), prompt, rates).seconds
    keep_rates(RateRequest(), replace(rates, measured_at=time.time()))
    chosen_by = predict_first_token(find_model(model.name), 10, quantize="int8")
    assert chosen_by is not None
    assert {*chosen_by.seconds} == {"start", "load", "encode", "prefill"}


def test_tokens_of_torch_take_the_calls_of_each_layer(tiny: Checkpoint) -> None:
    model, rates = ModelCost.of_checkpoint(tiny), replace(RATES, layer_seconds=0.001)
    plain, called = (
        predict_uncorrected(model, PromptSize(1, 20, 5), one).seconds_per_token
        for one in (RATES, rates)
    )
    assert called - plain == pytest.approx(0.003)  # two layers and the head
    for kernels in (model_cost("smolvlm2-256m"),):
        one, other = (
            predict_uncorrected(kernels, PromptSize(1, 20, 5), each) for each in (RATES, rates)
        )
        assert one.seconds_per_token == other.seconds_per_token


def test_rates_of_int8_arithmetic_are_measured_and_kept_apart(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("_READ_BYTES", "_COPIED_BYTES"):
        monkeypatch.setattr(f"smolvideo.cost.measure.{size}", 1 << 20)
    request = RateRequest("cpu", "float32", arithmetic="int8")
    rates = measure_rates(request, config=network_of(tiny))
    assert (rates.dtype, rates.arithmetic) == ("float32", "int8")
    keep_rates(RateRequest("cpu"), rates)
    assert kept_rates(request) == kept_rates(RateRequest("cpu")) == rates
    # a dtype that was named, and tiny models, have floating-point arithmetic
    for other in (RateRequest("cpu", "float32"), RateRequest("cpu", tiny=True)):
        assert kept_rates(other) is None
        assert replace(other, arithmetic="float").key == other.key


def test_int8_products_are_predicted_with_weights_of_their_own() -> None:
    model, prompt = model_cost("smolvlm2-256m"), PromptSize(10, 800, 5)
    in_float, in_int8 = (
        predict_uncorrected(model, prompt, replace(RATES, arithmetic=arithmetic))
        for arithmetic in ("float", "int8")
    )
    assert in_int8.seconds["load"] > in_float.seconds["load"]
    vision, text = (
        12 * (4 * 768**2 + 2 * 768 * 3072),
        30 * (2 * 576**2 + 2 * 576 * 192 + 3 * 576 * 1536),
    )
    smaller = 3 * vision - text  # a byte instead of four, and one more
    assert in_float.weight_bytes - in_int8.weight_bytes == pytest.approx(smaller, rel=0.05)


def test_rates_are_stored_per_machine_and_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    request, now = RateRequest(), replace(RATES, measured_at=time.time())
    assert kept_rates(request) is None
    keep_rates(request, now)
    assert rates_for(request, on_measure=pytest.fail) == now
    assert kept_rates(RateRequest(dtype="bfloat16")) is None
    keep_rates(RateRequest(dtype="bfloat16"), replace(now, dtype="bfloat16"))
    assert kept_rates(request) == now  # other requests are unchanged
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert kept_rates(request) is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("smolvideo.cost.rates.machine_key", lambda: "another")
    assert kept_rates(request) is None
    monkeypatch.undo()
    keep_rates(request, replace(now, measured_at=now.measured_at - 40 * 86400))
    assert kept_rates(request) is None  # too old


@pytest.mark.parametrize(
    "change",
    [
        {"read": 0},
        {"read": -1.0},
        {"read": float("nan")},
        {"read": "fast"},
        {"read": True},
        {"read": 1e300},
        {"threads": 0.5},
        {"dtype": "int3"},
        {"arithmetic": "int4"},
        {"device": 5},
        {"more": 1},
    ],
    ids=str,
)
def test_invalid_entries_are_ignored(change: dict[str, Any]) -> None:
    import time

    keep_rates(RateRequest(), replace(RATES, measured_at=time.time()))
    file = cost_folder() / "rates.json"
    content = json.loads(file.read_text())
    content["rates"][RateRequest().key] |= change
    file.write_text(json.dumps(content))
    assert kept_rates() is None


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"version": 1}', "[" * 100_000, "\xff"])
def test_broken_files_are_ignored(broken: str) -> None:
    cost_folder().mkdir(parents=True)
    for name in ("rates.json", "past.jsonl"):
        (cost_folder() / name).write_text(broken, encoding="latin-1")
    assert kept_rates() is None
    model = model_cost("smolvlm2-256m")
    assert predict(model, PromptSize(1, 100), RATES).corrected_by == 0


@pytest.mark.skipif(os.name == "nt", reason="hardware: folders without write permission are POSIX")
def test_unwritable_folder_is_ignored() -> None:
    folder = cost_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file in the folder's place")
    keep_rates(RateRequest(), RATES)
    remember("nano", "none", RATES, predicted={"encode": 1.0}, measured={"encode": 2.0})
    assert kept_rates() is None
    assert stat.S_ISREG(folder.stat().st_mode)


def model_cost(name: str) -> ModelCost:
    model = ModelCost.of_spec(find_model(name))
    assert model is not None
    return model


def test_predicted_seconds_are_operations_over_rates() -> None:
    model = model_cost("smolvlm2-256m")
    prompt = fitting_prompt(find_model(model.name), 10, text_tokens=30, new_tokens=20)
    assert prompt == PromptSize(10, 800, 20)
    got = predict_uncorrected(model, prompt, RATES)
    image = encode_work(model.network, FLOAT32)
    seconds = image.product_flops / 2e11 + image.attention_flops / 1e11
    assert got.seconds["encode"] == pytest.approx(10 * seconds)
    odd = predict_uncorrected(model, replace(prompt, from_cache=1), RATES)
    assert odd.seconds["encode"] == pytest.approx(10 * seconds)  # 9 on 2 threads: as 10
    cached = predict_uncorrected(model, replace(prompt, from_cache=10), RATES)
    assert cached.seconds["encode"] == 0
    length = prompt.tokens + 10
    assert got.seconds_per_token == decode_bytes(model.network, length, FLOAT32) / 1e10
    later = predict(model, prompt, RATES, measured={"decode": 99.0, "preprocess": 1.0})
    assert later.first_token == pytest.approx(100 + got.seconds["encode"] + got.seconds["prefill"])


@settings(max_examples=20)
@given(st.integers(1, 400), st.integers(1, 400))
def test_predicted_cost_is_monotonic_in_the_frames(one: int, other: int) -> None:
    for spec in PUBLISHED:
        few, many = (
            predict_uncorrected(model_cost(spec.name), fitting_prompt(spec, frames), RATES)
            for frames in sorted((one, other))
        )
        assert few.first_token <= many.first_token
        assert few.memory_bytes <= many.memory_bytes
        assert many.prompt.tokens <= spec.context_tokens  # type: ignore[operator]


def test_past_answers_correct_a_prediction_and_outliers_do_not() -> None:
    model, prompt = model_cost("smolvlm2-256m"), PromptSize(10, 800)
    raw = predict_uncorrected(model, prompt, RATES)

    def answered(factor: float) -> None:
        measured = {stage: value * factor for stage, value in raw.seconds.items()}
        remember(model.name, "none", RATES, predicted=raw.seconds, measured=measured)

    answered(1.5)
    first = predict(model, prompt, RATES)
    assert first.seconds["encode"] == pytest.approx(1.25 * raw.seconds["encode"])
    for factor in (50.0, 1.5):
        answered(factor)
    got = predict(model, prompt, RATES)
    assert got.corrected_by == 3
    assert got.seconds["encode"] == pytest.approx(1.5 * raw.seconds["encode"])
    assert got.memory_bytes == raw.memory_bytes
    # other rates, models and formats are not corrected
    others = [
        predict(model, prompt, replace(RATES, measured_at=1.0)),
        predict(replace(model, quantize="int8"), prompt, RATES),
        predict(model_cost("smolvlm2-500m"), prompt, RATES),
    ]
    assert [other.corrected_by for other in others] == [0, 0, 0]
    with (cost_folder() / "past.jsonl").open("a") as file:
        file.writelines([json.dumps({"key": "another", "ratios": {"encode": 1.0}}) + "\n"] * 300)
    remember("nano", "none", RATES, predicted={"token": 0.001}, measured={"token": 0.002})
    assert len((cost_folder() / "past.jsonl").read_text().splitlines()) == 200


def test_first_token_of_every_published_model_is_predicted_without_torch() -> None:
    import time

    assert predict_first_token(find_model("smolvlm2-500m"), 50) is None  # not measured yet
    keep_rates(RateRequest(), replace(RATES, measured_at=time.time()))
    script = """
import sys
from smolvideo.cost import predict_first_token
from smolvideo.models.registry import MODELS
for spec in MODELS.values():
    got = predict_first_token(spec, 50)
    print(spec.name, got and round(got.first_token))
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=environment() | {"SMOLVIDEO_CACHE_DIR": os.environ["SMOLVIDEO_CACHE_DIR"]},
    )
    *lines, has_torch = done.stdout.splitlines()
    seconds = dict(line.split() for line in lines)
    assert has_torch == "False"
    assert seconds.pop("nano") == "None"
    assert int(seconds["smolvlm2-256m"]) < int(seconds["smolvlm2-500m"])
    assert int(seconds["smolvlm2-500m"]) < int(seconds["smolvlm2-2.2b"])
