"""How many threads a token gets: as many as pay, only on free cores, with the same numbers."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smolvideo.network.cache import KeyValueCache
from smolvideo.network.config import NetworkConfig
from smolvideo.network.decoder import Decoder
from smolvideo.network.model import prepare_for_inference
from smolvideo.network.threads import TokenThreads

CPU = torch.device("cpu")
MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def _four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Machine:
    """A clock that goes on by what rows take, with cores that are ours by a ``share``."""

    def __init__(self, token_seconds: Callable[[int], float], layer_bytes: int = MEGABYTE) -> None:
        self.now = self.worked = 0.0
        self.share = 1.0
        self.token_seconds = token_seconds
        self.threads = TokenThreads(
            layer_bytes, clock=lambda: self.now, cpu_clock=lambda: self.worked
        )

    def read(self, rows: int) -> int:
        """Rows go through; how many threads they had."""
        with self.threads.reading(rows, CPU):
            used = torch.get_num_threads()
            seconds = 1.0 if rows > 1 else self.token_seconds(used)
            self.now += seconds
            self.worked += seconds * (used * self.share if used > 1 else 1)
        assert torch.get_num_threads() == 4
        return used

    def tokens(self, count: int = 20) -> list[int]:
        return [self.read(1) for _ in range(count)]


@pytest.mark.parametrize(("layer_megabytes", "worth"), [(0, 1), (20, 1), (70, 2), (1000, 4)])
def test_nothing_known_of_the_cores_a_token_takes_what_it_keeps_busy(
    layer_megabytes: int, worth: int
) -> None:
    machine = Machine(lambda used: 0.02 / used, layer_megabytes * MEGABYTE)
    if worth < 4:  # whoever has all threads learns from a token too
        assert set(machine.tokens()) == {worth}
    assert machine.read(1) == worth


def test_free_cores_are_taken_where_they_pay() -> None:
    machine = Machine(lambda used: 0.02 / used)
    assert machine.read(100) == 4
    assert machine.tokens(12) == [1, 1, 1, 2, 2, 2, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize(("best", "took"), [(1, {1: 20, 2: 20, 4: 10}), (2, {1: 20, 2: 15, 4: 15})])
def test_more_threads_that_do_not_pay_are_left_alone(best: int, took: dict[int, int]) -> None:
    machine = Machine(lambda used: took[used] / 1000)
    machine.read(100)
    machine.tokens()
    assert set(machine.tokens()) == {best}


def test_what_is_slower_later_on_is_left() -> None:
    took = {1: 0.02, 2: 0.01, 4: 0.01}
    machine = Machine(lambda used: took[used])
    machine.read(100)
    machine.tokens()
    assert machine.read(1) == 2
    took[2] = 0.03
    assert set(machine.tokens()[3:]) == {1}


def test_on_a_busy_machine_no_more_threads_are_tried() -> None:
    machine = Machine(lambda used: 0.02 / used)
    machine.share = 0.8
    machine.read(100)
    assert set(machine.tokens()) == {1}
    machine.share = 1.0
    machine.read(100)
    assert machine.tokens()[-1] == 4
    machine.share = 0.5  # others come while an answer is made
    machine.tokens(200)
    assert set(machine.tokens()) == {1}


def test_one_thread_and_other_devices_are_left_alone() -> None:
    threads = TokenThreads(MEGABYTE)
    with threads.reading(1, torch.device("meta")):
        assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    with threads.reading(100, CPU):
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["SmolVLM2-256M-Video-Instruct", "SmolVLM2-2.2B-Instruct"])
def test_a_token_is_the_same_with_any_threads(
    processor_files: Path, name: str, dtype: torch.dtype
) -> None:
    """Else an answer would hang on how busy the machine is."""
    config = NetworkConfig.from_json(
        json.loads((processor_files / name / "config.json").read_text())
    )
    text = replace(config.text, num_hidden_layers=1, vocab_size=64)
    torch.manual_seed(0)
    decoder = Decoder(text).to(dtype).requires_grad_(False)
    for part in list(decoder.modules()):
        prepare_for_inference(part)
    rows, length = torch.randn(1, 8, text.hidden_size).to(dtype), 900
    got = []
    with torch.inference_mode():
        for threads in (1, 3):
            torch.set_num_threads(threads)
            decoder._threads._worth = threads
            torch.manual_seed(1)
            cache = KeyValueCache.empty(text, length + 50, device=CPU, dtype=dtype)
            for kept in (cache._block.keys, cache._block.values):
                kept.normal_()
            cache.length = length
            got.append(torch.cat([decoder.read(row, cache) for row in rows.split(1, dim=1)]))
    assert torch.equal(*got)
