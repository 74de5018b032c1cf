"""Thread count of prefill: it follows the cores that are free, with bit-equal results."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smolvideo.models.network_config import NetworkConfig
from smolvideo.network import threads
from smolvideo.network.decoder import Decoder
from smolvideo.network.kv_cache import KVCache
from smolvideo.network.linear import Linear
from smolvideo.network.model import prepare_for_inference
from smolvideo.network.quantized import Int4Weight, Int8Weight
from smolvideo.network.threads import PrefillThreads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "_HAS_THREAD_CLOCK", True)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Machine:
    """A simulated clock that layers advance; ``share`` is the part of its cores that is free."""

    def __init__(self) -> None:
        self.dtype = torch.bfloat16
        self.now = self.worked = 0.0
        self.share = 1.0
        self.threads = PrefillThreads(clock=lambda: self.now, cpu_clock=lambda: self.worked)

    def prompt(self, layers: int = 20) -> list[int]:
        """Run a prefill of ``layers`` layers and return the number of threads for each."""
        used = []
        with self.threads.limit(torch.empty(1, 100, 8, dtype=self.dtype)) as after_layer:
            for _ in range(layers):
                used.append(torch.get_num_threads())
                self._pass(0.2, used[-1])
                after_layer()
        assert torch.get_num_threads() == 4
        return used

    def _pass(self, seconds: float, used: int) -> None:
        self.now += seconds
        self.worked += seconds * (used * self.share if used > 1 else 1)


def test_free_cores_are_all_used() -> None:
    assert set(Machine().prompt()) == {4}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_token_of_a_tiny_network_gets_one_thread(dtype: torch.dtype) -> None:
    for width, threads_of_it in ((8, 1), (576, 4)):
        with PrefillThreads().limit(torch.empty(1, 1, width, dtype=dtype)) as after_layer:
            assert torch.get_num_threads() == threads_of_it
            after_layer()
        assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("share", "fewer"), [(0.49, 2), (0.51, 2), (0.59, 2), (0.3, 1), (0.1, 1)])
def test_prefill_continues_with_the_threads_that_have_a_core(share: float, fewer: int) -> None:
    machine = Machine()
    machine.share = share
    assert machine.prompt(14) == [4, *[fewer] * 6, 4, *[fewer] * 6]


@pytest.mark.parametrize("share", [0.65, 0.9])
def test_prefill_keeps_threads_that_wait_at_barriers(share: float) -> None:
    machine = Machine()
    machine.share = share
    assert set(machine.prompt()) == {4}


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_float32_prefill_ignores_the_load(share: float) -> None:
    """Its last bits depend on the number of threads."""
    machine = Machine()
    machine.dtype, machine.share = torch.float32, share
    assert set(machine.prompt()) == {4}


def test_load_is_not_measured_without_a_thread_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_HAS_THREAD_CLOCK", False)
    machine = Machine()
    for share in (0.5, 1.0):
        machine.share = share
        assert set(machine.prompt()) == {4}


def test_failed_prefill_restores_the_thread_count() -> None:
    reading = PrefillThreads()
    for rows in (1, 100):
        with (
            pytest.raises(MemoryError),
            reading.limit(torch.empty(1, rows, 8, dtype=torch.bfloat16)),
        ):
            raise MemoryError
        assert torch.get_num_threads() == 4


def test_single_threaded_and_other_devices_are_unchanged() -> None:
    reading = PrefillThreads()
    with reading.limit(torch.empty(1, 1, 8, device="meta")) as after_layer:
        after_layer()
        assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    with reading.limit(torch.empty(1, 100, 8, dtype=torch.bfloat16)) as after_layer:
        after_layer()
        assert torch.get_num_threads() == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, Int8Weight, Int4Weight])
@pytest.mark.parametrize("name", ["SmolVLM2-256M-Video-Instruct", "SmolVLM2-2.2B-Instruct"])
def test_prefill_is_bit_equal_for_any_thread_count(
    processor_files: Path,
    name: str,
    kind: type[Int8Weight | Int4Weight] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise an answer would depend on the load of the machine."""
    monkeypatch.setattr(threads, "_HAS_THREAD_CLOCK", False)
    file = processor_files / name / "config.json"
    config = NetworkConfig.from_json(json.loads(file.read_text()))
    text = replace(config.text, num_hidden_layers=1, vocab_size=64)
    torch.manual_seed(0)
    decoder = Decoder(text).bfloat16().requires_grad_(False)
    for part in list(decoder.modules()):
        if kind is not None and isinstance(part, Linear):
            part.quantize(part.weight, torch.bfloat16, kind)
    for part in list(decoder.modules()):
        prepare_for_inference(part)
    # Enough for every way to multiply; products of the large shape take seconds.
    many = 300 if text.hidden_size < 1000 else 140
    rows, length = torch.randn(1, many, text.hidden_size).bfloat16(), 900
    got = []
    with torch.inference_mode():
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            torch.manual_seed(1)
            cache = KVCache.empty(text, length + 320, device=CPU, dtype=torch.bfloat16)
            kept = torch.randn(2, 1, text.num_key_value_heads, length, text.head_dim)
            cache.layer(0).write(0, *kept.bfloat16())
            read = []
            for part in (many, 33, 1, 1, 1):
                cache.length = length
                read.append(decoder.prefill(rows[:, :part], cache))
            got.append(torch.cat(read, dim=1))
    for other in got[1:]:
        assert torch.equal(other, got[0])
