"""The compiled decode step equals torch's operators, for any shape, dtype and quantization."""

import math
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tinymodels
from torch import Tensor

from smolvideo.engines import GenerationOptions, NativeEngine, load_engine
from smolvideo.errors import ModelError
from smolvideo.models.weight_formats import INT4_LAYERS
from smolvideo.network import BatchedPagedKVCache, KVCache, TextConfig, cpu_decode
from smolvideo.network.compilation import has_numba
from smolvideo.network.cpu_decode import CpuDecoder
from smolvideo.network.decoder import Decoder
from smolvideo.network.kernels import decode
from smolvideo.network.kernels.elementwise import exp, to_float32, to_storage_dtype
from smolvideo.network.kernels.jit import jit, jit_cached
from smolvideo.network.kernels.matmul import WeightMatrix, matmul
from smolvideo.network.kernels.work_sharing import claim, mark_done, new_counters, wait_for_phase
from smolvideo.network.linear import Linear
from smolvideo.network.model import prepare_for_inference
from smolvideo.network.quantized import Int4Weight, Int8Weight
from smolvideo.network.threads import ThreadPool

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}
Kind = type[Int8Weight | Int4Weight] | None


def text_config(
    *, queries: int = 3, groups: int = 2, head_dim: int = 16, layers: int = 2
) -> TextConfig:
    return TextConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=queries * groups,
        num_key_value_heads=groups,
        head_dim=head_dim,
        vocab_size=192,
        max_position_embeddings=2048,
        rope_theta=10_000.0,
    )


class Network:
    """A decoder and its head, run by torch's operators and by the compiled step."""

    def __init__(self, config: TextConfig, dtype: torch.dtype, kind: Kind = None) -> None:
        torch.manual_seed(0)
        self.config, self.dtype = config, dtype
        self.decoder = Decoder(config).to(dtype).requires_grad_(False)
        for norm in self.decoder.modules():
            if isinstance(norm, torch.nn.RMSNorm):
                norm.weight.normal_()
        self.head = Linear(config.hidden_size, config.vocab_size, bias=False).to(dtype)
        self.head.requires_grad_(False)
        for name, part in [*self.decoder.named_modules(), ("head", self.head)]:
            if kind is not None and isinstance(part, Linear):
                its_kind = kind if name.endswith(INT4_LAYERS) else Int8Weight
                part.quantize(part.weight.detach(), dtype, its_kind)
        for part in list(self.decoder.modules()):
            prepare_for_inference(part, compiled=True)
        self.decode = CpuDecoder(self.decoder, self.head)

    def cache(self, capacity: int) -> KVCache:
        """Return a cache filled with NaN, as uninitialised memory may be."""
        cache = KVCache.empty(self.config, capacity, device=CPU, dtype=self.dtype, paged=True)
        for rows in cache.pages:
            for memory in rows.slice(0, rows.pages * rows.size):
                memory.fill_(math.nan)
            rows._keys.fill_(math.nan)
        return cache

    def vectors(self, rows: int) -> Tensor:
        return torch.randn(1, rows, self.config.hidden_size).to(self.dtype)

    def prefill(self, vectors: Tensor, cache: KVCache) -> Tensor:
        """Prefill with torch's operators."""
        with torch.inference_mode():
            return self.head(self.decoder.prefill(vectors, cache))[0].float()

    def close(self, got: Tensor, expected: Tensor) -> bool:
        error = (got - expected).abs().max() / expected.abs().max()
        return bool(error < TOLERANCE[self.dtype])


LENGTHS = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 255, 256, 257, 511, 512]))


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=25, deadline=None)
@given(
    before=LENGTHS,
    queries=st.integers(1, 7),
    groups=st.integers(1, 3),
    head_dim=st.sampled_from([2, 6, 16, 64]),
    seed=st.integers(0, 99),
)
def test_decode_equals_torch(
    dtype: torch.dtype, before: int, queries: int, groups: int, head_dim: int, seed: int
) -> None:
    network = Network(text_config(queries=queries, groups=groups, head_dim=head_dim), dtype)
    torch.manual_seed(seed)
    caches = [network.cache(before + 3) for _ in range(2)]
    if before:
        prompt = network.vectors(before)
        for cache in caches:
            network.prefill(prompt, cache)
    for _ in range(3):
        vector = network.vectors(1)
        expected = network.prefill(vector, caches[0])
        assert network.close(network.decode.decode(vector[0], caches[1]), expected)
    assert caches[1].length == before + 3
    for one, other in zip(caches[0].pages, caches[1].pages, strict=True):
        for a, b in zip(one.slice(0, before + 3), other.slice(0, before + 3), strict=True):
            tolerance = TOLERANCE[dtype]
            torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "dtype"), [(Int8Weight, torch.float32), (Int4Weight, torch.bfloat16)]
)
def test_decode_with_quantized_weights_equals_torch(kind: Kind, dtype: torch.dtype) -> None:
    """Each format and each dtype once, as compiling takes twenty seconds. What the other pairs
    have of their own is in ``test_matmul_of_int8_weights_with_bfloat16_scales``; the scales of
    4-bit weights are bfloat16 with any dtype.
    """
    network = Network(text_config(head_dim=32, queries=2), dtype, kind)
    caches = [network.cache(300) for _ in range(2)]
    prompt = network.vectors(270)
    for cache in caches:
        network.prefill(prompt, cache)
    # torch's int4 operator multiplies in bfloat16 even for float32 activations.
    tolerance = TOLERANCE[torch.bfloat16 if kind is Int4Weight else dtype]
    for _ in range(4):
        vector = network.vectors(1)
        expected = network.prefill(vector, caches[0])
        got = network.decode.decode(vector[0], caches[1])
        assert (got - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=25, deadline=None)
@given(common=LENGTHS, owns=st.lists(st.integers(1, 150), min_size=1, max_size=9))
def test_batched_decode_equals_single_sequences(
    dtype: torch.dtype, common: int, owns: list[int]
) -> None:
    """Sequences leave the batch one after the other."""
    network = Network(text_config(), dtype)
    beginning = network.vectors(common)
    caches = []
    for own in owns:
        caches.append(network.cache(common + own + 5))
        network.prefill(torch.cat((beginning, network.vectors(own)), dim=1), caches[-1])
    batch = BatchedPagedKVCache(caches[0].fork(common), len(owns), max(owns) + 5)
    for place, cache in enumerate(caches):
        batch.load_sequence(place, cache)
    while caches:
        vectors = network.vectors(len(caches))[0]
        got = network.decode.decode_batch(vectors, batch)
        for row, cache in enumerate(caches):
            # Equal up to rounding: entries are in other pages, so sums are taken in another order.
            expected = network.decode.decode(vectors[row : row + 1], cache)[0]
            tolerance = 1e-4 if dtype is torch.float32 else 1e-2
            torch.testing.assert_close(got[row], expected, rtol=tolerance, atol=tolerance)
        stay = list(range(1, len(caches)))
        batch.select_sequences(stay)
        caches = [caches[place] for place in stay]


@pytest.mark.needs("int4")
def test_batched_decode_with_quantized_weights_equals_single_sequences() -> None:
    network = Network(text_config(head_dim=32, queries=2), torch.bfloat16, Int4Weight)
    cache = network.cache(40)
    network.prefill(network.vectors(20), cache)
    batch = BatchedPagedKVCache(cache.fork(), 6, 10)
    for place in range(6):
        batch.load_sequence(place, cache)
    vectors = network.vectors(6)[0]
    got = network.decode.decode_batch(vectors, batch)
    for row in range(6):
        alone = network.decode.decode(vectors[row : row + 1], cache.fork())[0]
        torch.testing.assert_close(got[row], alone, rtol=1e-3, atol=1e-3)


@given(
    rows=st.integers(1, 60_000),
    row_bytes=st.integers(1, 20_000),
    tile=st.sampled_from([1, 4, 16, 64]),
    threads=st.integers(1, 64),
)
def test_chunks_are_whole_tiles_shared_evenly_by_threads(
    rows: int, row_bytes: int, tile: int, threads: int
) -> None:
    """The count is the smallest multiple of the threads with chunks of at most ``_CHUNK_BYTES``;
    each chunk has the fewest whole tiles with which that many chunks hold all rows.
    """
    size = rows * row_bytes
    at_once = cpu_decode._rows_at_once(rows, size, tile, threads)
    parts = next(
        count
        for count in range(threads, size + threads + 1, threads)
        if count * cpu_decode._CHUNK_BYTES >= size
    )
    assert at_once % tile == 0
    assert at_once * parts >= rows
    assert (at_once - tile) * parts < rows


def test_decode_is_bit_equal_for_any_thread_count() -> None:
    """Otherwise an answer would depend on the load of the machine."""
    network = Network(text_config(), torch.float32)
    cache = network.cache(700)
    network.prefill(network.vectors(650), cache)
    vector, before = network.vectors(1)[0], torch.get_num_threads()
    got = []
    for threads in (1, 2, 3, 7, 40):
        torch.set_num_threads(threads)
        got.append(network.decode.decode(vector, cache.fork()))
    torch.set_num_threads(before)
    for other in got[1:]:
        assert torch.equal(other, got[0])


def test_fork_writes_no_entry_that_another_reads() -> None:
    network = Network(text_config(), torch.float32)
    cache = network.cache(300)
    network.prefill(network.vectors(255), cache)
    vectors = network.vectors(3)[0]
    alone = [network.decode.decode(vectors[n : n + 1], cache.fork(255)) for n in range(3)]
    forks = [cache.fork() for _ in range(3)]
    together = [network.decode.decode(vectors[n : n + 1], fork) for n, fork in enumerate(forks)]
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
    assert [fork.length for fork in forks] == [256] * 3
    assert cache.length == 255


def test_forks_of_a_full_cache_decode_in_turns() -> None:
    """Both forks append at the same position and the cache must grow: neither may overwrite the
    other.
    """
    network = Network(text_config(), torch.float32)
    cache = network.cache(256)
    network.prefill(network.vectors(256), cache)
    assert cache.length == cache.capacity
    vectors = network.vectors(6)[0].reshape(2, 3, 1, -1)
    forks = [cache.fork(), cache.fork()]
    in_turns = [
        [network.decode.decode(vectors[which, turn], fork) for which, fork in enumerate(forks)]
        for turn in range(3)
    ]
    for which in range(2):
        alone = cache.fork(256)
        for turn in range(3):
            expected = network.prefill(vectors[which, turn][None], alone)
            assert network.close(in_turns[turn][which], expected), (which, turn)


def test_decode_is_safe_from_several_threads() -> None:
    network = Network(text_config(), torch.float32)
    caches = [network.cache(300) for _ in range(4)]
    for cache in caches:
        network.prefill(network.vectors(260), cache)
    vector = network.vectors(1)[0]
    expected = [network.decode.decode(vector, cache.fork()) for cache in caches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            got = list(pool.map(lambda cache: network.decode.decode(vector, cache.fork()), caches))
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


class NoHelpers:
    """A thread pool whose threads never start; submitted calls are collected in ``works``."""

    def __init__(self, error: type[BaseException] | None = None) -> None:
        self.works: list[Callable[[], object]] = []
        self.error = error

    def submit(self, work: Callable[[], object], times: int) -> None:
        self.works += [work] * times
        if self.error is not None:
            raise self.error


def test_decode_does_not_wait_for_pool_threads_that_start_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pool thread that starts after the token is complete writes nothing."""
    network = Network(text_config(), torch.float32)
    vector, before = network.vectors(1)[0], torch.get_num_threads()
    expected = network.decode.decode(vector, network.cache(3))
    late = NoHelpers()
    monkeypatch.setattr("smolvideo.network.threads.thread_pool", lambda process: late)
    torch.set_num_threads(4)
    cache = network.cache(3)
    assert torch.equal(network.decode.decode(vector, cache), expected)
    torch.set_num_threads(before)
    assert len(late.works) == 3
    written = [rows._values.clone() for rows in cache.pages]
    for rows in cache.pages:
        rows._values.zero_()
    for work in late.works:
        work()
    assert all(rows._values.eq(0).all() for rows in cache.pages)
    assert not any(rows.eq(0).all() for rows in written)


def test_pool_threads_of_an_interrupted_token_write_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network(text_config(), torch.float32)
    vector, cache, before = network.vectors(1)[0], network.cache(3), torch.get_num_threads()
    network.decode.decode(vector, network.cache(3))
    late = NoHelpers(KeyboardInterrupt)
    monkeypatch.setattr("smolvideo.network.threads.thread_pool", lambda process: late)
    torch.set_num_threads(2)
    with pytest.raises(KeyboardInterrupt):
        network.decode.decode(vector, cache)
    torch.set_num_threads(before)
    assert cache.length == 0
    late.works[0]()
    assert all(rows._values.isnan().all() for rows in cache.pages)


def test_thread_pool_survives_errors_of_its_calls() -> None:
    asked, done_by = ThreadPool(), set()
    together = threading.Barrier(4)

    def work() -> None:
        done_by.add(threading.get_ident())
        together.wait(timeout=300)
        raise ValueError

    for _ in range(3):
        asked.submit(work, 3)
        together.wait(timeout=300)
    assert len(done_by) == 3


def test_decode_works_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    network = Network(text_config(), torch.float32)
    vector, before = network.vectors(1)[0], torch.get_num_threads()
    expected = network.decode.decode(vector, network.cache(3))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    alone = ThreadPool()
    monkeypatch.setattr("smolvideo.network.threads.thread_pool", lambda process: alone)
    torch.set_num_threads(4)
    other = CpuDecoder(network.decoder, network.head)
    assert torch.equal(other.decode(vector, network.cache(3)), expected)
    torch.set_num_threads(before)
    assert alone._queue.empty()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_process_has_its_own_thread_pool() -> None:
    network = Network(text_config(), torch.float32)
    vector = network.vectors(1)[0]
    expected = network.decode.decode(vector, network.cache(3))
    unprepared = CpuDecoder(network.decoder, network.head)
    child = os.fork()
    if not child:
        assert torch.equal(unprepared.decode(vector, network.cache(3)), expected)
        got = network.decode.decode(vector, network.cache(3))
        os._exit(0 if np.array_equal(got.numpy(), expected.numpy()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ------------------------------------------------------------------------------ in an engine


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a tiny checkpoint for which the compiled step is enabled in spite of its size."""
    monkeypatch.setattr(cpu_decode, "_MIN_PARAMETERS", 0)
    return tinymodels.make_tiny(tmp_path / "tiny")


def native(folder: Path) -> NativeEngine:
    engine = load_engine(str(folder), engine="native", device="cpu", dtype="float32")
    assert isinstance(engine, NativeEngine)
    return engine


def answers(engine: NativeEngine) -> list[str]:
    """Return the answers to a question, a follow-up on the same frames, and a batch."""
    options, images = GenerationOptions(max_new_tokens=24), tinymodels.random_images(3)
    prompts = [
        tinymodels.frames_prompt(engine.checkpoint, images, question)
        for question in ("Who?", "What is it?", "W" * 70)
    ]
    session = engine.start_session(prompts[0])
    alone = [session.stream(prompt, options).result().text for prompt in prompts]
    return [*alone, *(answer.text for answer in engine.answer_batch(prompts, options))]


def test_answers_equal_those_without_the_compiled_step(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = native(tiny)
    assert engine.network.cpu_decoder is not None
    got = answers(engine)
    monkeypatch.setattr(cpu_decode, "has_numba", lambda: False)
    plain = native(tiny)
    assert plain.network.cpu_decoder is None
    assert got == answers(plain)
    assert len(set(got)) > 1


def test_nano_decodes_without_numba() -> None:
    engine = load_engine("nano", engine="native", device="cpu")
    assert isinstance(engine, NativeEngine)
    assert engine.network.cpu_decoder is None


def test_nan_logits_are_an_error(tiny: Path) -> None:
    engine = native(tiny)
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(1), "Who?")
    session = engine.start_session(prompt)
    assert session._cache is not None
    config = engine.network.config.text
    shape = 2, 1, config.num_key_value_heads, 1, config.head_dim
    with torch.inference_mode():
        session._cache.pages[0].write(0, *torch.full(shape, math.nan))
    with pytest.raises(ModelError, match="computed no numbers"):
        session.stream(prompt, GenerationOptions(max_new_tokens=8)).result()


def test_compiler_failure_is_one_line(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CpuDecoder, kept: bool) -> None:
        raise RuntimeError("no such processor\nand pages of this")

    monkeypatch.setattr(CpuDecoder, "_compiled", fail)
    with pytest.raises(ModelError, match=r"what is faster than torch: no such processor$") as told:
        answers(native(tiny))
    assert "pip uninstall numba" in (told.value.hint or "")


def test_corrupt_kernel_cache_files_are_ignored(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a power cut or a full disk leaves them. The compiled kernel of this process is returned in
    place of a second compilation: ``test_kernel_compiles_without_a_cache_folder`` compiles
    without files.
    """
    expected = answers(native(tiny))
    compiled = decode.build_decode("_".join(["float32"] * 11), kept=True)
    assert decode.build_decode.cache_info().hits, "the kernel of these answers"
    without_files: list[str] = []

    def broken(function: Callable[..., object]) -> Callable[..., object]:
        def read(*arguments: object) -> None:
            raise EOFError("Ran out of input")

        return read

    def again(function: Callable[..., object]) -> Callable[..., object]:
        without_files.append(function.__qualname__)
        return compiled

    monkeypatch.setattr(decode, "jit_cached", broken)
    monkeypatch.setattr(decode, "jit", again)
    decode.build_decode.cache_clear()
    try:
        assert answers(native(tiny)) == expected
        assert len(without_files) == 1
    finally:
        decode.build_decode.cache_clear()


def test_torch_decodes_where_numba_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    has_numba.cache_clear()
    assert has_numba()
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    has_numba.cache_clear()
    assert not has_numba()
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 0)
    monkeypatch.setitem(sys.modules, "numba", None)  # numba refuses a numpy that is too new
    has_numba.cache_clear()
    assert not has_numba()
    has_numba.cache_clear()


def test_kernel_compiles_without_a_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    def twice(x: int) -> int:
        return 2 * x

    assert jit_cached(twice)(4) == 8


# ------------------------------------------------------------------------------ kernel parts


@jit
def _exponentials(x: np.ndarray, into: np.ndarray) -> None:
    for i in range(len(x)):
        into[i] = exp(x[i])


def test_vector_exponential_is_accurate() -> None:
    x = np.concatenate((np.linspace(-87, 88, 50_001), [0, -1e-9])).astype(np.float32)
    got = np.empty_like(x)
    _exponentials(x, got)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(got / exact - 1).max() < 2 * np.finfo(np.float32).eps
    beyond = np.array([-np.inf, -200, 200, np.nan], np.float32)
    got = np.empty_like(beyond)
    _exponentials(beyond, got)
    assert got[0] == got[1] < 1e-37
    assert 1e38 < got[2] < np.inf
    assert np.isnan(got[3])


@jit
def _there_and_back(x: np.ndarray, kept: np.ndarray, back: np.ndarray) -> None:
    for i in range(len(x)):
        kept[i] = to_storage_dtype(x[i], kept)
        back[i] = to_float32(kept[i])


def test_bfloat16_rounding_equals_torch() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    x = bits.view(np.float32)
    x = np.concatenate((x[np.isfinite(x)], np.array([1 + 2**-8, 1 + 3 * 2**-8, 0.0], np.float32)))
    kept, back = np.empty(len(x), np.uint16), np.empty_like(x)
    _there_and_back(x, kept, back)
    expected = torch.from_numpy(x).bfloat16()
    assert np.array_equal(kept, expected.view(torch.uint16).numpy())
    assert np.array_equal(back, expected.float().numpy())


@jit
def _multiply(matrix: WeightMatrix, vectors: np.ndarray, into: np.ndarray, counting: Any) -> None:
    matmul(matrix, 0, vectors, into, counting.ctypes.data, 0)


def test_matmul_of_int8_weights_with_bfloat16_scales() -> None:
    torch.manual_seed(0)
    layer = Linear(64, 95, bias=False)
    layer.quantize(torch.randn(95, 64), torch.bfloat16, Int8Weight)
    weights, scales = cpu_decode._tensors(layer)
    assert (weights.dtype, scales.dtype) == (torch.int8, torch.bfloat16)
    matrix = WeightMatrix(
        weights=np.array([weights.data_ptr()]),
        scales=np.array([scales.data_ptr()]),
        weights_like=np.empty(0, np.int8),
        scales_like=np.empty(0, np.uint16),
        outputs=95,
        inputs=64,
        tile=1,
        rows_per_chunk=19,
        adds=False,
    )
    expected = weights.float() * scales.float()[:, None]
    for tokens in (1, 4, 7):  # one by one, four together, and both
        vectors = torch.randn(tokens, 64)
        got = np.full((tokens, 95), math.nan, np.float32)
        _multiply(matrix, vectors.numpy(), got, new_counters(1))
        torch.testing.assert_close(torch.from_numpy(got), vectors @ expected.T)
        _multiply(matrix._replace(adds=True), vectors.numpy(), got, new_counters(1))
        torch.testing.assert_close(torch.from_numpy(got), 2 * vectors @ expected.T)


@jit
def _work(counting: np.ndarray, parts: int, phases: int, did: np.ndarray) -> None:
    counters = counting.ctypes.data
    phase = 0
    while phase < phases:
        part = claim(counters, phase, parts)
        if part < 0:
            wait_for_phase(counters, phase, parts)
            phase += 1
        else:
            finished = 0  # of the phase before: all chunks
            for other in range(parts):
                finished += did[phase, other]
            did[phase + 1, part] += 1 if finished == parts else 100
            mark_done(counters, phase)


def test_every_chunk_of_every_phase_is_computed_once_in_order() -> None:
    phases, parts = 200, 7
    did = np.zeros((phases + 1, parts), np.int64)
    did[0] = 1
    counting = new_counters(phases)
    _work(new_counters(1), 1, 1, np.zeros((2, 1), np.int64))  # compiled before they start
    threads = [
        threading.Thread(target=_work, args=(counting, parts, phases, did)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive()
    assert (did == 1).all()
