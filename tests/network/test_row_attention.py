"""Compiled attention backends equal torch's products and softmax."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smolvideo.models.network_config import VisionConfig
from smolvideo.network import attention as backends
from smolvideo.network import compilation
from smolvideo.network.attention import (
    attention,
    attention_backend,
    attention_reference,
    flash_attention_cpu,
    softmax_into,
)
from smolvideo.network.kernels import avx512
from smolvideo.network.kernels.elementwise import build_softmax
from smolvideo.network.kernels.flash_attention import build_flash_attention, registers_per_row
from smolvideo.network.kv_cache import PagedKV
from smolvideo.network.model import prepare_for_inference
from smolvideo.network.vision import VisionTower

CPU = torch.device("cpu")

needs_instruction = pytest.mark.skipif(
    not avx512.has_avx512_bf16(), reason="hardware: no AVX512-BF16"
)


def in_tiles(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    return flash_attention_cpu(
        build_flash_attention(registers_per_row(q.shape[-1])), q, k, v, causal=causal
    )


def with_compiled_softmax(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    return attention(q, k, v, causal=causal, soften=partial(backends._soften, build_softmax()))


Attend = Callable[..., Tensor]
WAYS = pytest.mark.parametrize("way", [in_tiles, with_compiled_softmax])


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape).bfloat16()


def exact(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    rows, length = q.shape[2], k.shape[2]
    mask = None
    if causal:
        mask = torch.full((rows, length), -math.inf).triu(length - rows + 1).double()
    return attention_reference(q.double(), k.double(), v.double(), mask)


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).norm() / expected.norm())


@needs_instruction
@WAYS
@pytest.mark.usefixtures("_threads")
@settings(max_examples=40, deadline=None)
@given(
    rows=st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 96, 97, 200])),
    before=st.one_of(st.integers(0, 70), st.sampled_from([960, 1024, 1023, 2100])),
    queries=st.integers(1, 3),
    groups=st.integers(1, 3),
    width=st.sampled_from([64, 72, 50]),
    causal=st.booleans(),
    seed=st.integers(0, 99),
)
def test_error_is_close_to_that_of_torch(
    way: Attend,
    rows: int,
    before: int,
    queries: int,
    groups: int,
    width: int,
    causal: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    q = numbers(1, queries * groups, rows, width) * 2
    k, v = numbers(1, groups, before + rows, width), numbers(1, groups, before + rows, width)
    expected = exact(q, k, v, causal=causal)
    got = way(q, k, v, causal=causal)
    assert got.shape == q.shape
    assert error(got, expected) < max(
        0.003, 1.1 * error(attention(q, k, v, causal=causal), expected)
    )


@needs_instruction
def test_attention_is_bit_equal_for_any_threads_and_chunks() -> None:
    q, k, v = numbers(1, 6, 300, 64), numbers(1, 2, 1500, 64), numbers(1, 2, 1500, 64)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(in_tiles(q, k, v, causal=True))
    finally:
        torch.set_num_threads(before)
    parts = [
        in_tiles(q[:, :, a:b], k[:, :, : 1200 + b], v[:, :, : 1200 + b], causal=True)
        for a, b in ((0, 100), (100, 107), (107, 300))
    ]
    for other in (*results[1:], torch.cat(parts, dim=2)):
        assert torch.equal(results[0], other)


@needs_instruction
def test_attention_takes_any_strides() -> None:
    joined = numbers(2, 100, 3 * 4 * 64)
    q, k, v = (part.view(2, 100, 4, 64).transpose(1, 2) for part in joined.chunk(3, dim=-1))
    expected = in_tiles(q.contiguous(), k.contiguous(), v.contiguous())
    assert torch.equal(in_tiles(q, k, v), expected)
    below_each_other = k.mT.contiguous().mT
    assert torch.equal(in_tiles(q, below_each_other, v), expected)
    assert torch.equal(in_tiles(q[:1], k[:1], v[:1]), expected[:1])


@needs_instruction
def test_paged_cache_uses_the_compiled_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = numbers(1, 6, 300, 64), numbers(1, 2, 700, 64), numbers(1, 2, 700, 64)
    monkeypatch.setattr(avx512, "has_amx", lambda: False)
    backends.attention_backend.cache_clear()
    rows = PagedKV.of(2, 64, 1000, dtype=torch.bfloat16)
    rows.write(0, k, v)
    assert torch.equal(rows.attend(q, 700), in_tiles(q, k, v, causal=True))
    backends.attention_backend.cache_clear()


@needs_instruction
def test_attention_reads_and_writes_only_its_own_rows() -> None:
    """Inputs are slices between rows of NaN; the output is a slice of a larger buffer."""
    guarded = {name: torch.full((1, 3, 150, 80), math.nan).bfloat16() for name in "qkv"}
    for name in guarded:
        guarded[name][:, 1:2, 20:120, :64] = numbers(1, 1, 100, 64)
    q, k, v = (guarded[name][:, 1:2, 20:120, :64] for name in "qkv")
    expected = in_tiles(q.contiguous(), k.contiguous(), v.contiguous(), causal=True)
    assert expected.isfinite().all()
    around = torch.full((3, 150, 80), 7.0).bfloat16()
    backends._read_rows(build_flash_attention(4), q[0], k[0], v[0], around[1:2, 20:120, :64], True)
    assert torch.equal(around[1, 20:120, :64], expected[0, 0])
    around[1, 20:120, :64] = 7
    assert (around == 7).all()


@needs_instruction
@WAYS
def test_attention_with_large_infinite_and_nan_scores(way: Attend) -> None:
    q, k, v = numbers(1, 1, 8, 64), numbers(1, 1, 2000, 64), numbers(1, 1, 2000, 64)
    for factor in (1e-30, 300, 1e15):
        expected = exact(q * factor, k, v)
        assert error(way(q * factor, k, v), expected) < 0.02
    k[0, 0, :1024] = -math.inf
    positive = q.abs()
    assert error(way(positive, k, v), exact(positive, k[:, :, 1024:], v[:, :, 1024:])) < 0.02
    k[0, 0, 1500] = math.nan
    assert way(q, k, v).isnan().all()
    q[0, 0, 3] = math.inf
    assert way(q, k, v)[0, 0, 3].isnan().all()


@needs_instruction
def test_compiled_softmax_equals_torch() -> None:
    scores = torch.randn(5, 333) * 10
    got, expected = torch.empty(5, 333).bfloat16(), torch.empty(5, 333).bfloat16()
    backends._soften(build_softmax(), scores.clone(), got)
    softmax_into(scores.clone(), expected)
    assert (got.view(torch.int16) - expected.view(torch.int16)).abs().max() <= 1


@pytest.fixture
def _ways_anew() -> Iterator[None]:
    backends.attention_backend.cache_clear()
    yield
    backends.attention_backend.cache_clear()
    compilation.has_numba.cache_clear()


def way_of(width: int) -> str:
    backends.attention_backend.cache_clear()
    told = attention_backend(width, torch.bfloat16)
    assert told is not None
    return told.get().name.partition(",")[0]


@pytest.mark.usefixtures("_ways_anew")
def test_backend_follows_cpu_features_and_head_width(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attention_backend(64, torch.float32) is None
    if avx512.has_avx512_bf16():
        monkeypatch.setattr(avx512, "has_amx", lambda: False)
        assert [way_of(width) for width in (64, 72, 128, 63)] == [
            "tiles",
            "tiles",
            "torch",
            "torch",
        ]
        monkeypatch.setattr(avx512, "has_amx", lambda: True)
        assert [way_of(width) for width in (64, 128)] == ["softmax", "softmax"]
    monkeypatch.setattr(avx512, "cpu_features", set)
    assert way_of(64) == "torch"
    monkeypatch.setattr(backends, "has_numba", lambda: False)
    assert way_of(64) == "torch"


SHORT_PROGRAM = """
import torch
from smolvideo.network.attention import attention_backend

torch.set_num_threads(8)
way = attention_backend(64, torch.bfloat16).get()
q = torch.randn(1, 2, 700, 64).bfloat16()
way.vision_attention(q, q, q)
print(way.name.partition(",")[0])
"""


def run_short_program(**environment: str) -> str:
    """Run SHORT_PROGRAM in a subprocess and return its output; a crash fails the test."""
    told = subprocess.run(
        [sys.executable, "-c", SHORT_PROGRAM],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return told.stdout.strip()


def test_backend_respects_the_cpu_features_of_numba() -> None:
    """LLVM aborts on an instruction that its target lacks."""
    assert run_short_program(NUMBA_ENABLE_AVX="0") == "torch"
    assert run_short_program(NUMBA_CPU_FEATURES="+avx2") == "torch"


@needs_instruction
def test_program_exits_cleanly_with_pool_threads() -> None:
    """One exit in four crashed before the thread pool was stopped at exit."""
    for _ in range(5):
        assert run_short_program() in ("tiles", "softmax")


@needs_instruction
@pytest.mark.usefixtures("_ways_anew")
@pytest.mark.parametrize("has_matrix_registers", [False, True])
def test_vision_tower_uses_the_compiled_backend(
    monkeypatch: pytest.MonkeyPatch, has_matrix_registers: bool
) -> None:
    monkeypatch.setattr(avx512, "has_amx", lambda: has_matrix_registers)
    config = VisionConfig(
        image_size=112,
        patch_size=14,
        hidden_size=144,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    torch.manual_seed(0)
    tower = VisionTower(config).requires_grad_(False)
    pixels = torch.rand(2, 3, 112, 112) * 2 - 1
    expected = tower(pixels).double()
    half = VisionTower(config).bfloat16().requires_grad_(False)
    half.load_state_dict(tower.state_dict())
    with torch.inference_mode():
        before = error(half(pixels.bfloat16()), expected)
        for part in half.modules():
            prepare_for_inference(part, compiled=True)
        names = {layer.self_attn.way.name.partition(",")[0] for layer in half.encoder.layers}
        assert names == {"softmax" if has_matrix_registers else "tiles"}
        assert error(half(pixels.bfloat16()), expected) < 1.2 * before
