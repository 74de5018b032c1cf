"""int8 and int4 weights: quantization error, memory, answers, and errors where unsupported."""

import gc
import json
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support import tinymodels
from support.project import ROOT
from support.tinymodels import frames_prompt, make_cut, make_tiny, random_images
from torch.nn import functional as F

from smolvideo.cli.main import cli
from smolvideo.engines import FeatureCache, GenerationOptions, NativeEngine, load_engine
from smolvideo.engines.devices import check_quantize
from smolvideo.errors import UsageError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.run import open_run
from smolvideo.evals.settings import EvalSettings
from smolvideo.models import open_checkpoint
from smolvideo.models.weight_formats import INT4_GROUP_SIZE
from smolvideo.network import SmolVLM, loading, quantized
from smolvideo.network.linear import Linear, concat_linear
from smolvideo.network.loading import weight_formats
from smolvideo.network.model import weight_bytes
from smolvideo.network.quantized import (
    INT4_PACKINGS,
    Int4Packing,
    Int4Weight,
    Int8Weight,
    has_int4_matmul,
    has_int8_matmul,
)
from smolvideo.pipeline import prepare
from smolvideo.prompt import Message, Prompt, pack_prompt
from smolvideo.summaries import SummaryOptions, summarise

SAMPLES = ROOT / "samples"
SHORT = GenerationOptions(max_new_tokens=12)
DTYPES = [torch.float32, torch.bfloat16]
KINDS = [Int8Weight, Int4Weight]
ROWS = [1, 3, 32, 33, 128, 129, 200]
"""Numbers of rows on both sides of the switch between the two products."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("quantized") / "tiny")


@pytest.fixture(scope="module")
def cut(processor_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("quantized") / "cut"
    name = "SmolVLM2-256M-Video-Instruct"
    yield make_cut(processor_files / name, folder, vision_layers=2, text_layers=4)
    shutil.rmtree(folder)


def load(
    folder: Path | str,
    quantize: str = "int8",
    dtype: str = "float32",
    cache: FeatureCache | None = None,
) -> NativeEngine:
    engine = load_engine(str(folder), device="cpu", dtype=dtype, quantize=quantize, cache=cache)
    assert isinstance(engine, NativeEngine)
    return engine


# ------------------------------------------------------------------------------ arithmetic


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 40)),
    seed=st.integers(0, 2**32),
    exponents=st.lists(st.integers(-45, 30), min_size=6, max_size=6),
    stored=st.sampled_from([torch.float32, torch.bfloat16]),
    dtype=st.sampled_from(DTYPES),
)
def test_int8_error_is_at_most_half_a_scale(
    shape: tuple[int, int],
    seed: int,
    exponents: list[int],
    stored: torch.dtype,
    dtype: torch.dtype,
) -> None:
    """Rows of any magnitude, down to those whose scale underflows, and rows of zeros."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([10.0**e for e in exponents[: shape[0]]])
    weight = (torch.randn(shape, generator=random) * sizes[:, None]).to(stored)
    if seed % 3 == 0:
        weight[0] = 0
    quantized = Int8Weight.from_float(weight, dtype)
    assert quantized.scales.dtype is dtype
    assert int(quantized.qweight.abs().max()) <= 127
    scales = quantized.scales.double()[:, None]
    off = (weight.double() - quantized.qweight.double() * scales).abs()
    assert bool((off <= scales / 2 * (1 + 1e-4)).all())  # divided in float32
    assert torch.equal(Int8Weight.from_float(-weight, dtype).qweight, -quantized.qweight)


def test_nan_and_infinite_weights_stay_non_finite() -> None:
    for odd in (float("nan"), float("inf")):
        weight = torch.ones(64, 2 * INT4_GROUP_SIZE)
        weight[1, 3] = odd
        for kind, spoilt in ((Int8Weight, slice(None)), (Int4Weight, slice(INT4_GROUP_SIZE))):
            made = kind.from_float(weight, torch.float32).dequantize()
            assert bool(made[0].isfinite().all())
            assert not bool(made[1, spoilt].isfinite().any())


@settings(max_examples=100, deadline=None)
@given(
    tiles=st.integers(1, 3),
    groups=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    size=st.integers(-30, 30),
    middle=st.sampled_from([0.0, 1.0, -30.0]),
    stored=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_int4_error_is_at_most_that_of_scales_by_extremes(
    tiles: int, groups: int, seed: int, size: int, middle: float, stored: torch.dtype
) -> None:
    """Of each group, in squares; constant groups are kept up to bfloat16's rounding."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn((64 * tiles, INT4_GROUP_SIZE * groups), generator=random) + middle
    weight = (weight * 10.0**size).to(stored)
    weight[0, :INT4_GROUP_SIZE] = weight[0, 0]
    quantized = Int4Weight.from_float(weight, torch.float32)
    got = squares(quantized.dequantize(), weight)
    expected = squares(scaled_by_extremes(weight), weight)
    assert bool((got <= expected * 1.001).all())
    assert float(got[0, 0]) <= INT4_GROUP_SIZE * float(weight[0, 0].double() * 2**-8) ** 2
    if middle == 0:
        assert float(got.sum()) < 0.92 * float(expected.sum())


def squares(got: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sum the square errors of each group."""
    return (got.double() - weight.double()).square().unflatten(1, (-1, INT4_GROUP_SIZE)).sum(2)


def scaled_by_extremes(weight: torch.Tensor) -> torch.Tensor:
    """Quantize groups so that their extremes are the first and the last of 16 values."""
    numbers = weight.float().unflatten(1, (-1, INT4_GROUP_SIZE))
    low, high = numbers.amin(2, keepdim=True), numbers.amax(2, keepdim=True)
    scale = ((high - low) / 15).bfloat16().double()
    offset = (low + 8 * scale.float()).bfloat16().double()
    levels = ((numbers.double() - offset) / scale.where(scale > 0, 1)).round().clamp(-8, 7)
    return (levels * scale + offset).flatten(1)


@pytest.mark.parametrize("layout", INT4_PACKINGS, ids=str)
def test_unpack_inverts_pack(layout: Int4Packing) -> None:
    levels = torch.randint(0, 16, (192, 96), dtype=torch.uint8)
    packed = layout.pack(levels)
    assert packed.shape == (192, 48)
    assert torch.equal(layout.unpack(packed, torch.float32).t(), levels.float())


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="hardware: names of x86")
@pytest.mark.parametrize(("capability", "told"), [("avx2", "32 True"), ("default", "refused")])
def test_int4_packing_follows_the_cpu_capability(capability: str, told: str) -> None:
    """ATEN_CPU_CAPABILITY makes torch use the operators of a lesser processor."""
    script = """
import torch
from smolvideo.engines.devices import check_quantize
from smolvideo.errors import UsageError
from smolvideo.network.quantized import Int4Weight, int4_packing
weight, x = torch.randn(192, 96), torch.randn(3, 96).bfloat16()
quantized = Int4Weight.from_float(weight, torch.bfloat16)
plain = x.float() @ quantized.dequantize().float().t()
try:
    check_quantize("int4", torch.device("cpu"), torch.bfloat16)
    got = quantized.matmul(x, None).float()
    print(int4_packing().rows, torch.allclose(got, plain, rtol=0.05, atol=0.2))
except UsageError as error:
    assert "AVX2" in str(error)
    print("refused")
"""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == told


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "out", "width"),
    # For int8 the last two are not multiples of the block size.
    [
        *((Int8Weight, 72, width) for width in (48, 576, 40, 37)),
        *((Int4Weight, 128, width) for width in (32, 576)),
    ],
)
@pytest.mark.parametrize("has_bias", [True, False])
def test_quantized_linear_equals_the_float_product(
    dtype: torch.dtype, kind: type[Int8Weight | Int4Weight], out: int, width: int, has_bias: bool
) -> None:
    random = torch.Generator().manual_seed(width)
    linear = Linear(width, out, bias=has_bias).requires_grad_(False).to(dtype)
    linear.quantize(torch.randn(out, width, generator=random), dtype, kind)
    assert isinstance(linear.quantized_weight, kind)
    weight = linear.quantized_weight.dequantize().double()
    if isinstance(linear.quantized_weight, Int8Weight):
        quantized = linear.quantized_weight
        exact = quantized.qweight.double() * quantized.scales.double()[:, None]
        torch.testing.assert_close(weight, exact, rtol=0.01, atol=0)
        weight = exact
    bias = None if linear.bias is None else linear.bias.double()
    # Products of a few rows with int4 weights are always computed in bfloat16.
    close = 0.02 if dtype is torch.bfloat16 or kind is Int4Weight else 1e-5
    for rows in ROWS:
        x = torch.randn(2, rows, width, generator=random).to(dtype)[:1]
        to = torch.randn(1, rows, out, generator=random).to(dtype)
        plain = F.linear(x.double(), weight, bias)
        with torch.inference_mode():
            got = linear(x), linear.forward_gelu(x), linear.forward_add(x, to)
        wanted = plain, F.gelu(plain, approximate="tanh"), to.double() + plain
        for one, other in zip(got, wanted, strict=True):
            assert one.dtype is dtype
            assert one.shape == other.shape
            assert float((one.double() - other).abs().max()) < close * float(other.abs().max())


def test_torch_has_the_int8_operator_for_bfloat16() -> None:
    """Without it the fallback is used, which the test above covers at odd widths."""
    assert has_int8_matmul(torch.bfloat16)
    assert not has_int8_matmul(torch.float32), "slow there"


@pytest.mark.needs("int4")
def test_torch_has_the_int4_operator() -> None:
    assert has_int4_matmul()


def test_int4_checks_cpu_features_before_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has the operator on every CPU, with wrong results where it is not implemented."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(
        quantized, "_is_read_in", lambda layout: pytest.fail("the operator was tried")
    )
    assert not quantized.is_known_processor()
    assert not has_int4_matmul.__wrapped__()


@pytest.mark.parametrize("kind", KINDS)
def test_concatenated_quantized_layers_equal_their_parts(
    kind: type[Int8Weight | Int4Weight],
) -> None:
    parts = [Linear(32, out).requires_grad_(False) for out in (64, 128, 64)]
    for part in parts:
        part.quantize(part.weight, torch.float32, kind)
    whole = concat_linear(*parts)
    x = torch.randn(2, 3, 32)
    with torch.inference_mode():
        apart = torch.cat([part(x) for part in parts], dim=-1)
        torch.testing.assert_close(whole(x), apart)


@pytest.mark.parametrize(("quantize", "close"), [("int8", 1e-4), ("int4", 0.05)])
@pytest.mark.parametrize("frames", [0, 9])
def test_quantized_network_equals_a_network_with_dequantized_weights(
    tiny: Path, tmp_path: Path, frames: int, quantize: str, close: float
) -> None:
    """Only weights of linear layers are quantized; products of a few rows with int4 are in
    bfloat16.
    """
    rounded = tmp_path / "rounded"
    shutil.copytree(tiny, rounded)
    weights = load_file(rounded / "model.safetensors")
    kinds = weight_formats(SmolVLM(load(tiny, "none").network.config), quantize)
    assert len(kinds) == 2 * 6 + 2 * 7 + 1
    # Key and value projections of the tiny network are smaller than an int4 tile: int8.
    assert (
        Counter(kinds.values())
        == {
            "int8": {Int8Weight: 27},
            "int4": {Int8Weight: 21, Int4Weight: 6},
        }[quantize]
    )
    for name, kind in kinds.items():
        weights[name] = kind.from_float(weights[name], torch.float32).dequantize().contiguous()
    save_file(weights, rounded / "model.safetensors", metadata={"format": "pt"})
    plain, quantized = load(rounded, "none"), load(tiny, quantize)
    prompt = frames_prompt(plain.checkpoint, random_images(frames))
    expected, got = log_probabilities(plain, prompt), log_probabilities(quantized, prompt)
    torch.testing.assert_close(got, expected, rtol=close, atol=close)
    if quantize == "int8":
        answers = [engine.stream(prompt, SHORT).result().text for engine in (plain, quantized)]
        assert answers[0] == answers[1]


def log_probabilities(engine: NativeEngine, prompt: Prompt) -> torch.Tensor:
    return engine.start_session(prompt).prefill(prompt).double().log_softmax(-1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("quantize", "divergence"), [("int8", 0.02), ("int4", 0.2)])
def test_int8_log_probabilities_of_nano_are_close(
    dtype: str, quantize: str, divergence: float
) -> None:
    checkpoint = open_checkpoint("nano")
    size = checkpoint.image_size
    plain, quantized = load("nano", "none", dtype), load("nano", quantize, dtype)
    for count in (0, 3, 12):
        prompt = frames_prompt(checkpoint, random_images(count, size=size))
        expected, got = log_probabilities(plain, prompt), log_probabilities(quantized, prompt)
        off = (got - expected).abs()
        assert 0 < float(off.max()) < 50 * divergence
        assert float((expected.exp() * (expected - got)).sum()) < divergence


@cache
def logits_of_a_frame(folder: Path, quantize: str, dtype: str) -> torch.Tensor:
    engine = load(folder, quantize, dtype)
    prompt = frames_prompt(engine.checkpoint, random_images(1, size=512))
    return engine.start_session(prompt).prefill(prompt)


@pytest.mark.checkpoints
@pytest.mark.slow
@pytest.mark.usefixtures("_no_decode_kernel")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("quantize", "error"), [("int8", 0.1), ("int4", 0.4)])
def test_log_probabilities_of_a_published_shape_are_close(
    cut: Path, dtype: str, quantize: str, error: float
) -> None:
    expected, got = logits_of_a_frame(cut, "none", dtype), logits_of_a_frame(cut, quantize, dtype)
    assert 0 < float((got - expected).float().norm() / expected.float().norm()) < error


# ------------------------------------------------------------------------------ memory


def quantizable_layers(network: SmolVLM) -> dict[str, Linear]:
    """Collect the linear layers that may be quantized, fused ones included."""
    return {
        name: part
        for name, part in network.named_modules()
        if isinstance(part, Linear)
        and (".layers." in name or (name == "lm_head" and not network.config.tie_word_embeddings))
    }


def live_int8_weights() -> int:
    gc.collect()
    return sum(type(one) is Int8Weight for one in gc.get_objects())


@pytest.mark.checkpoints
@pytest.mark.usefixtures("_no_decode_kernel")
def test_int8_layers_take_half_the_memory(cut: Path) -> None:
    plain, quantized = (load(cut, how, "bfloat16").network for how in ("none", "int8"))
    maps = sum(part.weight_bytes for part in quantizable_layers(plain).values())
    halved = sum(part.weight_bytes for part in quantizable_layers(quantized).values())
    assert maps > 100_000_000
    assert 0.5 < halved / maps < 0.505  # the scales
    others = weight_bytes(plain) - maps
    assert weight_bytes(quantized) == others + halved
    assert all(part.quantized_weight is not None for part in quantizable_layers(quantized).values())


@pytest.mark.needs("int4")
@pytest.mark.checkpoints
@pytest.mark.usefixtures("_no_decode_kernel")
def test_int4_decoder_layers_take_a_third_of_the_memory(cut: Path) -> None:
    plain, quantized = (load(cut, how, "bfloat16").network for how in ("none", "int4"))
    before, after = quantizable_layers(plain), quantizable_layers(quantized)
    for name, part in after.items():
        is_int4 = "text_model" in name and name.endswith(("o_proj", "gate_up_proj"))
        kind, share = (Int4Weight, 0.3125) if is_int4 else (Int8Weight, 0.5)
        assert isinstance(part.quantized_weight, kind)
        assert part.weight_bytes / before[name].weight_bytes == pytest.approx(share, rel=0.01)


def test_tied_head_is_not_quantized(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tied", tied=True)
    engine = load(folder)
    assert engine.network.lm_head.quantized_weight is None
    assert len(quantizable_layers(engine.network)) == 2 * (2 + 2) + 2 * (2 + 2)  # joined
    prompt = frames_prompt(engine.checkpoint, random_images(2))
    assert engine.stream(prompt, SHORT).result().usage.answer_tokens > 0


def test_loading_quantizes_each_weight_before_reading_the_next(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float network is never in memory as a whole, and the parts of fused layers are freed."""
    plain: Counter[int] = Counter()
    before, alive = live_int8_weights(), 0
    networks: list[torch.nn.Module] = []
    read = loading._read

    def watched(headers, **how):  # type: ignore[no-untyped-def]
        for tensor in read(headers, **how):
            weights = [part.weight for part in quantizable_layers(networks[0]).values()]  # type: ignore[arg-type]
            plain[sum(weight is not None and not weight.is_meta for weight in weights)] += 1
            yield tensor
        nonlocal alive
        alive = live_int8_weights() - before

    def seen(network, quantize):  # type: ignore[no-untyped-def]
        networks.append(network)
        return weight_formats(network, quantize)

    monkeypatch.setattr(loading, "_read", watched)
    monkeypatch.setattr(loading, "weight_formats", seen)
    engine = load(tiny)
    assert set(plain) == {0}
    assert plain[0] > 40
    assert alive == len(quantizable_layers(engine.network))


# ------------------------------------------------------------------------------ answers


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_quantized_answers_are_deterministic_and_equal_in_a_batch(
    tiny: Path, quantize: str
) -> None:
    for folder, size in ((tiny, tinymodels.IMAGE_SIZE), ("nano", None)):
        engine, again = load(folder, quantize), load(folder, quantize)
        images = random_images(3, size=size or engine.checkpoint.image_size)
        words = ("Who?", "What is it, and why does it move?", "Where?", "W" * 60)
        prompts = [frames_prompt(engine.checkpoint, images, text) for text in words]
        alone = [engine.stream(prompt, SHORT).result().text for prompt in prompts]
        assert [again.stream(prompt, SHORT).result().text for prompt in prompts] == alone
        assert [answer.text for answer in engine.answer_batch(prompts, SHORT)] == alone


@cache
def correct_answers(quantize: str) -> tuple[int, int]:
    """Return how many questions nano answers as in the samples, and how many it was asked."""
    lines = (SAMPLES / "questions.jsonl").read_text("utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    engine, asked, right = load("nano", quantize, "bfloat16"), 0, 0
    for video in sorted({item["video"] for item in items})[:3]:
        about = [item for item in items if item["video"] == video]
        (frames,) = prepare(engine.checkpoint, SAMPLES / video, "What?").batches
        messages = [[Message("user", (frames, item["question"]))] for item in about]
        prompts = [pack_prompt(message, engine.checkpoint) for message in messages]
        asked += len(about)
        answers = engine.answer_batch(prompts, GenerationOptions(max_new_tokens=48))
        pairs = zip(answers, about, strict=True)
        right += sum(answer.text == item["answer"] for answer, item in pairs)
    return right, asked


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "fewer"), [("int8", 1), ("int4", 4)])
def test_quantized_nano_answers_as_accurately_as_float_nano(quantize: str, fewer: int) -> None:
    plain, asked = correct_answers("none")
    assert asked > 30
    assert plain > asked / 2
    assert correct_answers(quantize)[0] >= plain - fewer


def test_quantization_enters_the_feature_cache_key(tiny: Path, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features")
    images = random_images(4)
    plain, from_cache = load(tiny, "none", cache=cache).encoder.encode(images)
    assert from_cache == 0
    first, from_cache = load(tiny, "int8", cache=cache).encoder.encode(images)
    assert from_cache == 0
    assert not torch.equal(first, plain)
    again, from_cache = load(tiny, "int8", cache=cache).encoder.encode(images)
    assert from_cache == 4
    assert torch.equal(again, first)


# ------------------------------------------------------------------------------ commands, records


def test_unsupported_engine_dtype_or_device_is_a_usage_error(tiny: Path) -> None:
    for words, options in (
        ("does not know `--quantize int8`", {"engine": "transformers"}),
        ("do not go with float16", {"dtype": "float16"}),
        ("unknown quantization `int3`", {"quantize": "int3"}),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            load_engine(str(tiny), **{"device": "cpu", "quantize": "int8"} | options)  # type: ignore[arg-type]
        assert caught.value.hint
    for device in ("cuda", "cuda:1", "mps"):
        with pytest.raises(UsageError, match=f"for the CPU, not for `{device}`"):
            check_quantize("int8", torch.device(device), torch.bfloat16)
        check_quantize("none", torch.device(device), torch.float16)


def run(*words: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, [*map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def test_ask_reports_the_quantization(tiny: Path) -> None:
    video = SAMPLES / "circle_right.mp4"
    common = ("--model", tiny, "--device", "cpu", "--max-new-tokens", "2", "--no-keep")
    for quantize, words in (("none", "in float32\n"), ("int8", "in float32 with int8 weights\n")):
        options = (*common, "--quantize", quantize)
        code, out, err = run("ask", video, "What?", *options, "--json", "--verbose")
        assert code == 0
        assert json.loads(out)["quantize"] == quantize
        assert words in err
    code, out, err = run("ask", video, "What?", *common, "--quantize", "int8",
                         "--engine", "transformers")  # fmt: skip
    assert (code, out) == (2, "")
    assert "does not know `--quantize int8`" in err


def test_continued_conversation_keeps_its_quantization(tiny: Path) -> None:
    video = SAMPLES / "circle_right.mp4"
    short = ("--device", "cpu", "--max-new-tokens", "2", "--json")
    code, _, err = run("ask", video, "What?", "--model", tiny, *short, "--quantize", "int8")
    assert code == 0, err
    for more, quantize in (((), "int8"), (("--quantize", "none"), "none")):
        code, out, err = run("ask", "--continue", "And then?", *short, *more)
        assert code == 0, err
        assert json.loads(out)["quantize"] == quantize


def test_summaries_are_repeated_with_another_quantization(tmp_path: Path) -> None:
    few = SummaryOptions(max_frames=3)
    video = SAMPLES / "circle_right.mp4"

    def keys(quantize: str) -> tuple[str | None, str, str]:
        engine = load_engine("nano", device="cpu", quantize=quantize)
        (record,) = summarise(engine, video, options=few, out=tmp_path / "out")
        return record.quantize, record.settings_key, record.created

    plain, quantized = keys("none"), keys("int8")
    assert (plain[0], quantized[0]) == ("none", "int8")
    assert plain[1] != quantized[1]
    assert keys("int8") == quantized, "kept"
    checkpoint = open_checkpoint("nano")
    assert "quantize" not in few.settings(checkpoint), "as in records from before"
    assert few.settings(checkpoint, "int8")["quantize"] == "int8"


def test_resumed_eval_run_keeps_its_quantization(tiny: Path, tmp_path: Path) -> None:
    line = {"video": "v.mp4", "question": "Who?", "options": ["a", "b"], "answer_index": 0}
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps(line) + "\n")
    benchmark, how = load_benchmark("jsonl", items), EvalSettings(prompt="plain")
    plain, quantized = load(tiny, "none"), load(tiny, "int8")
    for mine, other in ((plain, quantized), (quantized, plain)):
        folder = tmp_path / mine.quantize
        open_run(folder, benchmark, how, mine)
        with pytest.raises(UsageError, match=f"quantize: {mine.quantize}, now {other.quantize}"):
            open_run(folder, benchmark, how, other)
        open_run(folder, benchmark, how, mine)
    # A run.json without the field, from before quantization existed.
    told = json.loads((tmp_path / "none" / "run.json").read_text("utf-8"))
    del told["model"]["quantize"]
    (tmp_path / "none" / "run.json").write_text(json.dumps(told))
    open_run(tmp_path / "none", benchmark, how, plain)
    with pytest.raises(UsageError, match="quantize: none, now int8"):
        open_run(tmp_path / "none", benchmark, how, quantized)
