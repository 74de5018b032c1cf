"""Paged and contiguous KV caches give equal attention, with every backend and at any length."""

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smolvideo.network.attention import attention, attention_reference
from smolvideo.network.kv_cache import ContiguousKV, LayerKV, PagedKV, resized

CPU = torch.device("cpu")
LENGTHS = st.one_of(st.integers(1, 40), st.sampled_from([255, 256, 257, 511, 512, 513, 700]))
HEADS, WIDTH = 3, 16
Rows = TypeVar("Rows", ContiguousKV, PagedKV)


def ordered(capacity: int, dtype: torch.dtype) -> ContiguousKV:
    """Return a contiguous cache, as torch's products read it."""
    return unwritten(ContiguousKV.of(HEADS, WIDTH, capacity, device=CPU, dtype=dtype))


def paged(capacity: int, dtype: torch.dtype) -> PagedKV:
    """Return a paged cache, as ``CpuDecoder`` reads it."""
    return unwritten(PagedKV.of(HEADS, WIDTH, capacity, dtype=dtype))


def unwritten(rows: Rows) -> Rows:
    """Fill a cache with NaN, as uninitialised memory may be."""
    rows._keys.fill_(torch.nan)
    rows._values.fill_(torch.nan)
    return rows


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(dtype)


def close(one: Tensor, other: Tensor) -> bool:
    tolerance = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}[one.dtype]
    return torch.allclose(one.float(), other.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [ordered, paged])
def test_single_query_attends_to_all_positions(
    make: Callable[[int, torch.dtype], LayerKV], dtype: torch.dtype
) -> None:
    for length in (1, 31, 256, 300):
        memory = make(512, dtype)
        keys, values = numbers(2, 1, HEADS, length, WIDTH, dtype=dtype)
        memory.write(0, keys, values)
        q = numbers(1, 2 * HEADS, 1, WIDTH, dtype=dtype)
        expected = attention_reference(q.float(), keys.float(), values.float())
        assert close(memory.attend(q, length), expected.to(dtype))


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(LENGTHS, min_size=1, max_size=4),
    queries=st.integers(1, 9),
    page=st.sampled_from([64, 256]),
    seen=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_paged_cache_equals_contiguous_cache(
    parts: list[int], queries: int, page: int, seen: float, seed: int
) -> None:
    """Written in chunks; read up to any position by any number of queries."""
    torch.manual_seed(seed)
    total = sum(parts)
    pages = unwritten(paged(1, torch.float32).with_page_size(page, total))
    both: tuple[LayerKV, LayerKV] = ordered(total, torch.float32), pages
    start = 0
    for part in parts:
        keys, values = numbers(2, 1, HEADS, part, WIDTH)
        for memory in both:
            memory.write(start, keys, values)
        start += part
    length = max(1, int(seen * total))
    at_the_end = numbers(1, 2 * HEADS, min(queries, length), WIDTH)
    for ask in (
        lambda memory: memory.attend(at_the_end, length),
        lambda memory: torch.stack(memory.slice(length // 2, length)),
        lambda memory: torch.stack(resized(memory, total + 300, length).slice(0, length)),
    ):
        expected, got = map(ask, both)
        assert got.shape == expected.shape
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_resized_cache_shares_no_memory() -> None:
    memory = paged(40, torch.float32)
    keys, values = numbers(2, 1, HEADS, 30, WIDTH)
    memory.write(0, keys, values)
    grown = resized(memory, 600, 20)
    grown.write(10, keys, values)
    assert torch.equal(memory.slice(0, 30)[0], keys[0])
    assert torch.equal(grown.slice(10, 40)[1], values[0])
    assert torch.equal(grown.slice(0, 10)[1], values[0, :, :10])


def test_attention_leaves_its_queries_unchanged() -> None:
    """-"""
    q, k, v = numbers(3, 1, HEADS, 5, WIDTH)
    kept = q.clone()
    attention(q, k, v, causal=True)
    assert torch.equal(q, kept)
