"""How many threads a token gets: as many as pay, only on free cores, with the same numbers."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smolvideo.network import threads
from smolvideo.network.cache import KeyValueCache
from smolvideo.network.config import NetworkConfig
from smolvideo.network.decoder import Decoder
from smolvideo.network.int4 import Int4Weight
from smolvideo.network.int8 import Int8Weight
from smolvideo.network.linear import Linear
from smolvideo.network.model import prepare_for_inference
from smolvideo.network.threads import ReadingThreads

CPU = torch.device("cpu")
MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def _four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "_TELLS", True)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Machine:
    """A clock that goes on by what rows take, with cores that are ours by a ``share``."""

    def __init__(
        self,
        token_seconds: Callable[[int], float] = lambda used: 0.02 / used,
        layer_bytes: int = MEGABYTE,
        threads: int = 4,
    ) -> None:
        self.all_threads = threads
        self.dtype = torch.bfloat16
        self.now = self.worked = 0.0
        self.share: float | Callable[[int], float] = 1.0
        self.token_seconds = token_seconds
        self.threads = ReadingThreads(
            layer_bytes, clock=lambda: self.now, cpu_clock=lambda: self.worked
        )

    def prompt(self, layers: int = 20) -> list[int]:
        """A prompt is read; how many threads each layer had."""
        used = []
        with self.threads.reading(torch.empty(1, 100, 8, dtype=self.dtype)) as after_layer:
            for _ in range(layers):
                used.append(torch.get_num_threads())
                self._pass(0.2, used[-1])
                after_layer()
        assert torch.get_num_threads() == self.all_threads
        return used

    def token(self) -> int:
        """A token is read; how many threads it had."""
        with self.threads.reading(torch.empty(1, 1, 8, dtype=self.dtype)):
            used = torch.get_num_threads()
            self._pass(self.token_seconds(used), used)
        assert torch.get_num_threads() == self.all_threads
        return used

    def tokens(self, count: int = 20) -> list[int]:
        return [self.token() for _ in range(count)]

    def _pass(self, seconds: float, used: int) -> None:
        self.now += seconds
        share = self.share(used) if callable(self.share) else self.share
        self.worked += seconds * (used * share if used > 1 else 1)


@pytest.mark.parametrize(("layer_megabytes", "worth"), [(0, 1), (20, 1), (70, 2), (1000, 4)])
def test_nothing_known_of_the_cores_a_token_takes_what_it_keeps_busy(
    layer_megabytes: int, worth: int
) -> None:
    machine = Machine(layer_bytes=layer_megabytes * MEGABYTE)
    assert machine.token() == worth


def test_free_cores_are_taken_where_they_pay() -> None:
    machine = Machine()
    assert set(machine.prompt()) == {4}
    assert machine.tokens(12) == [1, 1, 1, 2, 2, 2, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize(("best", "took"), [(1, {1: 20, 2: 20, 4: 10}), (2, {1: 20, 2: 15, 4: 15})])
def test_more_threads_that_do_not_pay_are_left_alone(best: int, took: dict[int, int]) -> None:
    machine = Machine(lambda used: took[used] / 1000)
    machine.prompt()
    machine.tokens()
    assert set(machine.tokens()) == {best}


def test_tokens_do_not_conclude_that_cores_are_free() -> None:
    """Of eight cores five are free: a token with four threads has them, one with more has not."""
    torch.set_num_threads(8)
    machine = Machine(lambda used: 0.1 if used <= 4 else 0.4, 128 * MEGABYTE, threads=8)
    machine.share = lambda used: min(1, 5 / used)
    machine.prompt()
    assert set(machine.tokens(100)) == {4}


def test_what_was_slow_once_is_tried_again_behind_the_next_prompt() -> None:
    took = {1: 0.02, 2: 0.05, 4: 0.05}
    machine = Machine(lambda used: took[used])
    machine.prompt()
    machine.tokens()
    assert machine.token() == 1
    took |= {2: 0.01, 4: 0.005}
    assert set(machine.tokens(8)) == {1}
    machine.prompt()
    assert machine.tokens()[-1] == 4


def test_what_is_slower_later_on_is_left() -> None:
    took = {1: 0.02, 2: 0.01, 4: 0.01}
    machine = Machine(lambda used: took[used])
    machine.prompt()
    machine.tokens()
    assert machine.token() == 2
    took[2] = 0.03
    assert set(machine.tokens()[3:]) == {1}


@pytest.mark.parametrize("told_by", ["time", "share"])
def test_one_busy_moment_does_not_slow_the_whole_answer(told_by: str) -> None:
    took = {1: 0.02, 2: 0.015, 4: 0.012}
    machine = Machine(lambda used: took[used])
    machine.prompt()
    assert machine.tokens()[-1] == 4
    if told_by == "time":
        took |= {2: 0.09, 4: 0.09}
    else:
        machine.share = 0.5
    assert 1 in machine.tokens(30)
    took |= {2: 0.015, 4: 0.012}
    machine.share = 1.0
    assert machine.tokens(40)[-1] == 4


def test_a_busy_machine_is_tried_ever_more_rarely() -> None:
    machine = Machine(lambda used: 0.02 if used == 1 else 0.2)
    machine.prompt()
    used = machine.tokens(1000)
    assert 3 <= sum(count > 1 for count in used[200:]) <= 9
    assert set(used[900:]) == {1}


def test_on_a_busy_machine_no_more_threads_are_tried() -> None:
    machine = Machine()
    machine.share = 0.7
    machine.prompt()
    assert set(machine.tokens()) == {1}
    machine.share = 1.0
    machine.prompt()
    assert machine.tokens()[-1] == 4
    machine.share = 0.5  # others come while an answer is made
    machine.tokens(200)
    assert set(machine.tokens()) == {1}


@pytest.mark.parametrize(("share", "fewer"), [(0.49, 2), (0.51, 2), (0.59, 2), (0.3, 1), (0.1, 1)])
def test_a_prompt_goes_on_with_the_threads_that_have_a_core(share: float, fewer: int) -> None:
    machine = Machine()
    machine.share = share
    assert machine.prompt(14) == [4, *[fewer] * 6, 4, *[fewer] * 6]


@pytest.mark.parametrize("share", [0.65, 0.9])
def test_a_prompt_keeps_threads_that_only_wait_for_each_other(share: float) -> None:
    machine = Machine()
    machine.share = share
    assert set(machine.prompt()) == {4}


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_float32_does_not_follow_the_load(share: float) -> None:
    """Its last bits are others with other threads."""
    machine = Machine(layer_bytes=70 * MEGABYTE)
    machine.dtype, machine.share = torch.float32, share
    assert set(machine.prompt()) == {4}
    assert set(machine.tokens()) == {2}


def test_where_waiting_threads_sleep_nothing_is_concluded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_TELLS", False)
    machine = Machine()
    for share in (0.5, 1.0):
        machine.share = share
        assert set(machine.prompt()) == {4}
        assert set(machine.tokens()) == {1}


def test_a_reading_that_fails_gives_the_threads_back() -> None:
    reading = ReadingThreads(MEGABYTE)
    for rows in (1, 100):
        with (
            pytest.raises(MemoryError),
            reading.reading(torch.empty(1, rows, 8, dtype=torch.bfloat16)),
        ):
            raise MemoryError
        assert torch.get_num_threads() == 4


def test_one_thread_and_other_devices_are_left_alone() -> None:
    reading = ReadingThreads(MEGABYTE)
    with reading.reading(torch.empty(1, 1, 8, device="meta")) as after_layer:
        after_layer()
        assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    with reading.reading(torch.empty(1, 100, 8, dtype=torch.bfloat16)) as after_layer:
        after_layer()
        assert torch.get_num_threads() == 1


@pytest.mark.parametrize("kind", [None, Int8Weight, Int4Weight])
@pytest.mark.parametrize("name", ["SmolVLM2-256M-Video-Instruct", "SmolVLM2-2.2B-Instruct"])
def test_numbers_are_the_same_with_any_threads(
    processor_files: Path,
    name: str,
    kind: type[Int8Weight | Int4Weight] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else an answer would hang on how busy the machine is."""
    monkeypatch.setattr(threads, "_TELLS", False)
    file = processor_files / name / "config.json"
    config = NetworkConfig.from_json(json.loads(file.read_text()))
    text = replace(config.text, num_hidden_layers=1, vocab_size=64)
    torch.manual_seed(0)
    decoder = Decoder(text).bfloat16().requires_grad_(False)
    for part in list(decoder.modules()):
        if kind is not None and isinstance(part, Linear):
            part.quantise(part.weight, torch.bfloat16, kind)
    for part in list(decoder.modules()):
        prepare_for_inference(part)
    rows, length = torch.randn(1, 300, text.hidden_size).bfloat16(), 900
    got = []
    with torch.inference_mode():
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            decoder._threads._worth = count
            torch.manual_seed(1)
            cache = KeyValueCache.empty(text, length + 320, device=CPU, dtype=torch.bfloat16)
            kept = torch.randn(2, 1, text.num_key_value_heads, length, text.head_dim)
            cache.layer(0).put(0, *kept.bfloat16())
            read = []
            for part in (300, 33, 1, 1, 1):
                cache.length = length
                read.append(decoder.read(rows[:, :part], cache))
            got.append(torch.cat(read, dim=1))
    for other in got[1:]:
        assert torch.equal(other, got[0])
