"""int4 products: by bfloat16 pairs and by the portable kernel, both against dequantized weights."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smolvideo.models.weight_formats import INT4_GROUP_SIZE
from smolvideo.network.kernels.avx512 import has_avx512_bf16
from smolvideo.network.kernels.int4_matmul import (
    int4_matmul,
    int4_matmul_bf16,
    to_bf16_with_group_sums,
)
from smolvideo.network.kernels.jit import jit
from smolvideo.network.kernels.matmul import WeightMatrix
from smolvideo.network.quantized import INT4_PACKINGS, Int4Packing

MIDDLE_LEVEL = 8


class Levels:
    """Random int4 weights ``[out, in]`` with their scales, packed in tiles."""

    def __init__(self, layout: Int4Packing, rows: int, inputs: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        levels = torch.randint(0, 16, (rows, inputs), generator=random, dtype=torch.uint8)
        scales = torch.randn(inputs // INT4_GROUP_SIZE, rows, 2, generator=random).bfloat16()
        self._packed, self._scales = layout.pack(levels).contiguous(), scales
        scale, offset = scales.double().permute(2, 1, 0).unsqueeze(3)
        grouped = levels.double().unflatten(1, (-1, INT4_GROUP_SIZE))
        self.numbers = ((grouped - MIDDLE_LEVEL) * scale + offset).flatten(1)
        self.matrix = WeightMatrix(
            weights=np.array([self._packed.data_ptr()]),
            scales=np.array([self._scales.data_ptr()]),
            weights_like=np.empty(0, np.uint8),
            scales_like=np.empty(0, np.uint32),
            outputs=rows,
            inputs=inputs,
            tile=layout.rows,
            rows_per_chunk=layout.rows,
            adds=True,
        )


def added(numbers: Tensor, vectors: Tensor) -> Tensor:
    """Return the expected result of adding the product to ones."""
    return 1 + vectors.double() @ numbers.t()


def close(got: np.ndarray, expected: Tensor) -> bool:
    return bool((torch.from_numpy(got) - expected).abs().max() < 1e-4 * expected.abs().max())


@jit
def _by_pairs(matrix: Any, vectors: Any, into: Any, first: int) -> None:
    int4_matmul_bf16(matrix, 0, first, matrix.outputs, to_bf16_with_group_sums(vectors), into)


@jit
def _on_any_processor(matrix: Any, vectors: Any, into: Any, first: int) -> None:
    int4_matmul(matrix, 0, first, matrix.outputs, vectors, into)


SIZES = {
    "tiles": st.integers(1, 3),
    "groups": st.integers(1, 5),
    "count": st.integers(1, 5),
    "seed": st.integers(0, 99),
}


@pytest.mark.parametrize("layout", INT4_PACKINGS)
@settings(max_examples=20, deadline=None)
@given(**SIZES)
def test_portable_product_equals_dequantized_weights(
    layout: Int4Packing, tiles: int, groups: int, count: int, seed: int
) -> None:
    levels = Levels(layout, tiles * layout.rows, groups * INT4_GROUP_SIZE, seed)
    vectors = torch.randn(count, groups * INT4_GROUP_SIZE)
    got = np.ones((count, tiles * layout.rows), np.float32)
    _on_any_processor(levels.matrix, vectors.numpy(), got, layout.rows)
    assert (got[:, : layout.rows] == 1).all(), "rows of others"
    got[:] = 1
    _on_any_processor(levels.matrix, vectors.numpy(), got, 0)
    assert close(got, added(levels.numbers, vectors))


@pytest.mark.skipif(not has_avx512_bf16(), reason="hardware: this processor has no AVX512-BF16")
@settings(max_examples=40, deadline=None)
@given(**SIZES)
def test_product_by_pairs_equals_dequantized_weights(
    tiles: int, groups: int, count: int, seed: int
) -> None:
    levels = Levels(INT4_PACKINGS[0], tiles * 64, groups * INT4_GROUP_SIZE, seed)
    vectors = torch.randn(count, groups * INT4_GROUP_SIZE) * 10
    got = np.ones((count, tiles * 64 + 16), np.float32)
    _by_pairs(levels.matrix, vectors.numpy(), got, 64)
    assert (got[:, :64] == 1).all(), "rows of others"
    got[:] = 1
    _by_pairs(levels.matrix, vectors.numpy(), got, 0)
    assert (got[:, tiles * 64 :] == 1).all(), "nothing is written beside"
    expected = added(levels.numbers, vectors.bfloat16())
    assert close(got[:, : tiles * 64], expected)


@pytest.mark.skipif(not has_avx512_bf16(), reason="hardware: this processor has no AVX512-BF16")
def test_nan_inputs_give_nan_outputs() -> None:
    levels = Levels(INT4_PACKINGS[0], 64, 2 * INT4_GROUP_SIZE, 0)
    vectors = torch.randn(2, 2 * INT4_GROUP_SIZE)
    vectors[0, 40] = torch.nan
    got = np.zeros((2, 64), np.float32)
    _by_pairs(levels.matrix, vectors.numpy(), got, 0)
    assert np.isnan(got[0]).all()
    assert np.isfinite(got[1]).all()
