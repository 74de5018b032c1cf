"""int8 products, the passes between them, and attention in int16."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from smolvideo.network import int8_arithmetic
from smolvideo.network.attention import attention_reference, int16_attention_cpu
from smolvideo.network.compilation import KernelBuild, is_on_disk
from smolvideo.network.int8_arithmetic import (
    CompiledRowPasses,
    Int8Product,
    RowPasses,
    gelu_mlp,
    int8_weight_levels,
    swiglu_mlp,
)
from smolvideo.network.kernels.int8_rows import build_int8_rows
from smolvideo.network.kernels.int16_matmul import DotInstruction, build_dot_tile, dot_instruction
from smolvideo.network.kernels.jit import jit
from smolvideo.network.kv_cache import PagedKV
from smolvideo.network.linear import Linear, concat_linear


@pytest.fixture(scope="module")
def compiled() -> RowPasses:
    return CompiledRowPasses(build_int8_rows())


@pytest.fixture(params=["torch", "compiled"])
def passes(
    request: pytest.FixtureRequest, compiled: RowPasses, monkeypatch: pytest.MonkeyPatch
) -> RowPasses:
    """Both implementations of the passes, in turns."""
    chosen = compiled if request.param == "compiled" else RowPasses()
    monkeypatch.setattr(int8_arithmetic, "row_passes", lambda: chosen)
    return chosen


def error(got: Tensor, expected: Tensor) -> float:
    difference = got.double() - expected.double()
    return float(difference.norm() / expected.double().norm())


def linear(inputs: int, outputs: int, *, bias: bool = True) -> Linear:
    layer = Linear(inputs, outputs, bias=bias).requires_grad_(requires_grad=False)
    torch.nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer


def product(layer: Linear) -> Int8Product:
    return Int8Product.from_float(layer.weight, layer.bias)


def test_this_torch_sums_int8_products_exactly() -> None:
    assert int8_weight_levels() in (63, 127)


def test_weights_with_7_bits_where_products_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_arithmetic, "int8_weight_levels", lambda: 63)
    weight = torch.randn(8, 32)
    quantized = Int8Product.from_float(weight)
    assert int(quantized.levels.abs().max()) == 63
    assert error(quantized.levels * quantized.scales[:, None], weight) < 0.015


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layer_is_within_rounding(passes: RowPasses, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    layer, x, residual = linear(96, 80), torch.randn(40, 96), torch.randn(40, 80)
    got = product(layer).linear(x.to(dtype), residual.to(dtype))
    assert got.dtype is dtype
    assert error(got, residual + layer(x)) < 0.012
    assert error(product(layer).linear(x.to(dtype)), layer(x)) < 0.015


def test_mlps_are_within_rounding(passes: RowPasses) -> None:
    torch.manual_seed(2)
    first, gate_up, second = linear(64, 160), linear(64, 320, bias=False), linear(160, 64)
    x = torch.randn(3, 17, 64)
    got = gelu_mlp(x, product(first), product(second), x) - x
    assert error(got, second(F.gelu(first(x), approximate="tanh"))) < 0.02
    gate, up = gate_up(x).chunk(2, dim=-1)
    got = swiglu_mlp(x, product(gate_up), product(second), x) - x
    assert error(got, second(F.silu(gate) * up)) < 0.025


def test_compiled_passes_equal_torch_operators(compiled: RowPasses) -> None:
    torch.manual_seed(3)
    layer = product(linear(64, 96))
    x = torch.randn(50, 64)
    rows, same = compiled.quantize(x), RowPasses().quantize(x)
    assert torch.allclose(rows.scales, same.scales, rtol=1e-6)
    assert int((rows.levels.int() - same.levels.int()).abs().max()) <= 1
    sums = layer.sums(rows)
    for gated in (False, True):
        got = compiled.activate(sums, rows, layer, gated=gated)
        expected = RowPasses().activate(sums, rows, layer, gated=gated)
        assert torch.allclose(got.scales, expected.scales, rtol=1e-4)
        # a level on the border between two may be rounded either way
        assert int((got.levels.int() - expected.levels.int()).abs().max()) <= 1


@pytest.mark.parametrize("rows", [[16, 24], [33, 7], [40, 0]])
def test_a_row_depends_on_itself_alone(passes: RowPasses, rows: list[int]) -> None:
    torch.manual_seed(4)
    first, second, x = product(linear(64, 160)), product(linear(160, 64)), torch.randn(40, 64)
    whole = gelu_mlp(x, first, second, x)
    parts = [gelu_mlp(part, first, second, part) for part in x.split(rows)]
    assert torch.equal(torch.cat(parts), whole)


def test_large_mlp_is_computed_in_parts(passes: RowPasses, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, x = product(linear(64, 160)), product(linear(160, 64)), torch.randn(70, 64)
    whole = gelu_mlp(x, first, second, x)
    monkeypatch.setattr(int8_arithmetic, "_MAX_ACTIVATIONS", 160 * 16)
    assert torch.equal(gelu_mlp(x, first, second, x), whole)


def test_nan_stays_nan(passes: RowPasses) -> None:
    x = torch.randn(20, 64)
    x[3, 5] = float("nan")
    got = product(linear(64, 32)).linear(x)
    assert got[3].isnan().all()
    assert got[[2, 4]].isfinite().all()


def test_rows_of_zeros(passes: RowPasses) -> None:
    layer = linear(64, 32)
    assert torch.equal(product(layer).linear(torch.zeros(16, 64)), layer.bias.expand(16, -1))


def test_rows_of_one_value_have_no_rounding_of_activations(passes: RowPasses) -> None:
    torch.manual_seed(11)
    layer = product(linear(64, 32))
    expected = 3 * (layer.levels * layer.scales[:, None]).sum(dim=1) + layer.bias
    assert error(layer.linear(torch.full((16, 64), 3.0))[0], expected) < 1e-5


def test_linear_uses_int8_for_many_rows_only() -> None:
    torch.manual_seed(5)
    layer = linear(64, 32)
    exact = F.linear(torch.ones(20, 64), layer.weight, layer.bias)
    layer.add_int8_product(layer.weight)
    layer.pack_for_onednn()
    x = torch.ones(20, 64)
    assert error(layer(x[:4]), exact[:4]) < 1e-6
    assert 1e-4 < error(layer(x), exact) < 0.05
    layer.uses_int8 = False
    assert error(layer(x), exact) < 1e-6
    layer.uses_int8 = True
    layer.drop_float_weight()
    assert torch.equal(layer(x[:4]), layer(x)[:4])


def test_fused_layers_keep_their_int8_products() -> None:
    torch.manual_seed(6)
    parts = [linear(64, outputs) for outputs in (48, 16, 16)]
    x = torch.randn(20, 64)
    for part in parts:
        part.add_int8_product(part.weight)
        part.pack_for_onednn()
    expected = torch.cat([part(x) for part in parts], dim=-1)
    fresh = [linear(64, outputs) for outputs in (48, 16, 16)]
    for part, old in zip(fresh, parts, strict=True):
        part.int8_product, part.bias = old.int8_product, old.bias
        part.weight = None  # type: ignore[assignment]
    whole = concat_linear(*fresh)
    whole.pack_for_onednn()
    assert torch.equal(whole(x), expected)


INSTRUCTIONS = [
    DotInstruction(lanes=8, fused=False, rows=6, registers=2),
    DotInstruction(lanes=16, fused=False, rows=12, registers=2),
    DotInstruction(lanes=16, fused=True, rows=12, registers=2),
]


@pytest.mark.parametrize("how", INSTRUCTIONS, ids=["avx2", "avx512bw", "avx512vnni"])
def test_dot_tile_is_exact(how: DotInstruction) -> None:
    here = dot_instruction()
    if here is None or (how.lanes, how.fused) > (here.lanes, here.fused):
        pytest.skip("hardware: no such instruction")
    multiply = build_dot_tile(how)

    @jit
    def run(left: np.ndarray, right: np.ndarray, into: np.ndarray) -> None:
        multiply(
            left.ctypes.data,
            left.strides[0],
            right.ctypes.data,
            right.strides[0],
            right.shape[0],
            into.ctypes.data,
            into.strides[0],
        )

    random, columns = np.random.default_rng(0), how.lanes * how.registers
    left = random.integers(-5000, 5001, (how.rows, 64)).astype(np.int16)
    right = random.integers(-5000, 5001, (32, columns, 2)).astype(np.int16)
    into = np.zeros((how.rows, columns), np.int32)
    run(left, right, into)
    unpacked = right.transpose(0, 2, 1).reshape(64, columns)
    assert np.array_equal(into, left.astype(np.int32) @ unpacked.astype(np.int32))


needs_dot = pytest.mark.skipif(dot_instruction() is None, reason="hardware: no AVX2")

Attend = Callable[..., Tensor]


@pytest.fixture(scope="module")
def attend() -> Attend:
    kernel = KernelBuild("smolvideo.network.kernels.int16_attention:attention_for_cpu").compile()
    return lambda q, k, v, *, causal=False: int16_attention_cpu(kernel, q, k, v, causal=causal)


def exact_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    rows, length = q.shape[2], k.shape[2]
    mask = None
    if causal:
        seen = torch.ones(rows, length, dtype=torch.bool).tril(length - rows)
        mask = torch.zeros(rows, length, dtype=torch.double).masked_fill(~seen, float("-inf"))
    return attention_reference(q.double(), k.double(), v.double(), mask)


@needs_dot
@pytest.mark.parametrize(
    ("shape", "causal"),
    [
        ((2, 4, 4, 100, 100, 64), False),
        ((1, 3, 3, 7, 1100, 72), False),
        ((1, 9, 3, 60, 1300, 64), True),
        ((1, 4, 2, 5, 77, 72), True),
        ((1, 2, 1, 1, 1, 8), True),
    ],
)
@pytest.mark.parametrize("sharpness", [1.0, 6.0])
def test_int16_attention_is_within_rounding(
    attend: Attend, shape: tuple[int, ...], causal: bool, sharpness: float
) -> None:
    b, heads, groups, rows, length, width = shape
    torch.manual_seed(7)
    q = torch.randn(b, rows, heads, width).transpose(1, 2) * sharpness
    k, v = torch.randn(2, b, length, groups, width).transpose(2, 3)
    got = attend(q, k, v, causal=causal)
    assert error(got, exact_attention(q, k, v, causal=causal)) < 1.5e-3


@needs_dot
def test_int16_attention_is_found_on_disk_by_the_types_of_a_call(attend: Attend) -> None:
    """A second process loads it: no compiled function is part of its key."""
    from smolvideo.network.kernels import int16_attention

    kernel, arguments = int16_attention.attention_for_cpu(kept=True)
    q, k, v = torch.randn(3, 1, 2, 40, 64)
    before = len(kernel.signatures)
    int16_attention_cpu(kernel, q, k, v)
    assert len(kernel.signatures) == max(1, before)
    assert is_on_disk(kernel, arguments)
    fresh = int16_attention.build_int16_attention.__wrapped__(kept=True)
    assert is_on_disk(fresh, arguments)


@needs_dot
def test_int16_attention_does_not_overflow(attend: Attend) -> None:
    """Largest scores of both signs in one row, and sums of 1,024 equal probabilities."""
    q, k = torch.ones(1, 1, 8, 64), torch.ones(1, 1, 1024, 64)
    v = torch.ones(1, 1, 1024, 64)
    assert error(attend(q, k, v), v[:, :, :8]) < 1e-3
    k[:, :, ::2] = -1
    v[:, :, ::2] = 7
    assert error(attend(q * 8, k * 8, v), torch.ones(1, 1, 8, 64)) < 1e-3


@needs_dot
@pytest.mark.parametrize("where", ["key", "value"])
def test_int16_attention_with_outliers(attend: Attend, where: str) -> None:
    """One row that is 1,000 times as large costs the others no accuracy."""
    torch.manual_seed(8)
    q, k, v = torch.randn(3, 1, 2, 64, 64)
    (k if where == "key" else v)[:, :, 5] *= 1000
    if where == "key":
        q[..., :] = q.abs()
        k[:, :, 5] = -k[:, :, 5].abs()  # no query attends to it
    got, expected = attend(q, k, v), exact_attention(q, k, v)
    assert error(got, expected) < 1.5e-3


@needs_dot
def test_int16_attention_keeps_many_small_probabilities(attend: Attend) -> None:
    """One key takes half of the weight, 1,023 others share the rest."""
    q, k = torch.ones(1, 1, 6, 64), torch.zeros(1, 1, 1024, 64)
    k[:, :, 0] = np.log(1023) / 8
    v = torch.zeros(1, 1, 1024, 64)
    v[:, :, 1:] = 1
    assert error(attend(q, k, v), torch.full((1, 1, 6, 64), 0.5)) < 2e-3


@needs_dot
def test_int16_attention_does_not_depend_on_the_split(attend: Attend) -> None:
    """The same bits for queries in parts, with keys behind them, and in any number of threads."""
    torch.manual_seed(9)
    q, k, v = torch.randn(1, 4, 300, 64), torch.randn(1, 2, 300, 64), torch.randn(1, 2, 300, 64)
    whole = attend(q, k, v, causal=True)
    for split in (1, 37, 299):
        first = attend(q[:, :, :split], k[:, :, :split], v[:, :, :split], causal=True)
        rest = attend(q[:, :, split:], k, v, causal=True)
        assert torch.equal(torch.cat((first, rest), dim=2), whole)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(attend(q, k, v, causal=True), whole)
    finally:
        torch.set_num_threads(before)


@needs_dot
def test_int16_attention_reads_paged_keys(attend: Attend) -> None:
    torch.manual_seed(10)
    q, k, v = torch.randn(1, 4, 90, 64), torch.randn(1, 2, 90, 64), torch.randn(1, 2, 90, 64)
    pages = PagedKV.of(2, 64, 90, dtype=torch.float32, page=32)
    pages.write(0, k, v)
    keys, values = pages.slice(0, 90)
    assert torch.equal(
        attend(q, keys[None], values[None], causal=True), attend(q, k, v, causal=True)
    )


@needs_dot
@pytest.mark.parametrize("where", [0, 1, 2])
def test_int16_attention_keeps_nan(attend: Attend, where: int) -> None:
    numbers = list(torch.randn(3, 1, 2, 40, 64))
    numbers[where][0, 0, 5, 5] = float("nan")
    got = attend(*numbers)
    assert got[0, 0, 5].isnan().any()
    assert got[0, 1].isfinite().all()
