"""Keys and values in pages give what those in their order give, on any way and at any length."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smolvideo.network import rows
from smolvideo.network.attention import attend, attend_plainly
from smolvideo.network.rows import LayerRows, OrderedRows, PagedRows, empty_rows, grown_rows

CPU = torch.device("cpu")
LENGTHS = st.one_of(st.integers(1, 40), st.sampled_from([255, 256, 257, 511, 512, 513, 700]))
HEADS, WIDTH = 3, 16


def ordered(capacity: int, dtype: torch.dtype) -> OrderedRows:
    """What a GPU has."""
    return OrderedRows(*torch.full((2, HEADS, capacity, WIDTH), torch.nan, dtype=dtype))


def paged(capacity: int, dtype: torch.dtype) -> LayerRows:
    """What a CPU has; its memory as it may be found, with no numbers in it."""
    empty = empty_rows(HEADS, WIDTH, capacity, device=CPU, dtype=dtype)
    assert isinstance(empty, PagedRows)
    empty._keys.fill_(torch.nan)
    empty._values.fill_(torch.nan)
    return empty


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape).to(dtype)


def close(one: Tensor, other: Tensor) -> bool:
    tolerance = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}[one.dtype]
    return torch.allclose(one.float(), other.float(), rtol=tolerance, atol=tolerance)


@pytest.fixture(params=[True, False], ids=["sums", "products"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways wherever the tests run."""
    monkeypatch.setattr(rows, "_has_fast_sums", lambda: request.param)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [ordered, paged])
def test_one_query_sees_all_rows(
    make: Callable[[int, torch.dtype], LayerRows], dtype: torch.dtype
) -> None:
    for length in (1, 31, 256, 300):
        memory = make(512, dtype)
        keys, values = numbers(2, 1, HEADS, length, WIDTH, dtype=dtype)
        memory.put(0, keys, values)
        q = numbers(1, 2 * HEADS, 1, WIDTH, dtype=dtype)
        expected = attend_plainly(q.float(), keys.float(), values.float())
        assert close(memory.attend(q, length), expected.to(dtype))


@pytest.mark.usefixtures("_way")
@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(LENGTHS, min_size=1, max_size=4),
    queries=st.integers(1, 9),
    seen=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_pages_are_read_as_rows_are(parts: list[int], queries: int, seen: float, seed: int) -> None:
    """Written part by part, read up to any row, by any number of queries."""
    torch.manual_seed(seed)
    total = sum(parts)
    both = ordered(total, torch.float32), paged(total, torch.float32)
    start = 0
    for part in parts:
        keys, values = numbers(2, 1, HEADS, part, WIDTH)
        for memory in both:
            memory.put(start, keys, values)
        start += part
    length = max(1, int(seen * total))
    asked, weights = numbers(HEADS, queries, WIDTH), numbers(HEADS, queries, length)
    at_the_end = numbers(1, 2 * HEADS, min(queries, length), WIDTH)
    for ask in (
        lambda memory: memory.scores(asked, length),
        lambda memory: memory.gathered(weights),
        lambda memory: memory.attend(at_the_end, length),
        lambda memory: torch.stack(memory.between(length // 2, length)),
        lambda memory: torch.stack(grown_rows(memory, total + 300, length).between(0, length)),
    ):
        expected, got = map(ask, both)
        assert got.shape == expected.shape
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [ordered, paged])
def test_no_rows_are_seen_in_common(make: Callable[[int, torch.dtype], LayerRows]) -> None:
    """Prompts that begin with different words share none."""
    memory = make(40, torch.float32)
    assert memory.scores(numbers(HEADS, 4, WIDTH), 0).shape == (HEADS, 4, 0)
    assert memory.gathered(numbers(HEADS, 4, 0)).eq(0).all()


def test_grown_memory_is_its_own() -> None:
    memory = paged(40, torch.float32)
    keys, values = numbers(2, 1, HEADS, 30, WIDTH)
    memory.put(0, keys, values)
    grown = grown_rows(memory, 600, 20)
    grown.put(10, keys, values)
    assert torch.equal(memory.between(0, 30)[0], keys[0])
    assert torch.equal(grown.between(10, 40)[1], values[0])
    assert torch.equal(grown.between(0, 10)[1], values[0, :, :10])


def test_queries_stay_as_they_are() -> None:
    """Whoever asks may ask again with the same."""
    q, k, v = numbers(3, 1, HEADS, 5, WIDTH)
    kept = q.clone()
    attend(q, k, v, causal=True)
    assert torch.equal(q, kept)


@pytest.mark.usefixtures("_way")
def test_rows_read_in_inference_may_be_read_in_training() -> None:
    memory = paged(40, torch.float32)
    memory.put(0, *numbers(2, 1, HEADS, 30, WIDTH))
    q = numbers(1, HEADS, 1, WIDTH)
    with torch.inference_mode():
        expected = memory.attend(q, 30)
    got = memory.attend(q.requires_grad_(), 30)
    got.sum().backward()
    assert q.grad is not None
    assert close(got.detach(), expected.clone())


def test_without_fast_sums_keys_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them for each token: it took half as long again."""
    monkeypatch.setattr(rows, "_has_fast_sums", lambda: False)
    memory = paged(700, torch.float32)
    memory.put(0, *numbers(2, 1, HEADS, 600, WIDTH))
    one, again = memory.between(0, 600)[0], memory.between(0, 600)[0]
    assert one.data_ptr() == again.data_ptr()
