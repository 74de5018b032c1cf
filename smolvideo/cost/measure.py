"""Measure the rates of this machine, on single layers, and keep them.

One layer of the vision tower and one of the decoder, of the shapes of 256M, prepared as the engine
prepares them: so the rates hold for the kernels, the number of threads and the dtype that an answer
will use, on a machine that does nothing else. That takes about a second.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from smolvideo.cost.operations import attention_flops, causal_pairs, decoder_weights
from smolvideo.cost.rates import RateRequest, Rates, keep_rates, kept_rates
from smolvideo.engines.arithmetic import choose_arithmetic
from smolvideo.engines.devices import (
    choose_device,
    choose_dtype,
    set_num_threads,
    synchronize,
)
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.registry import find_model

if TYPE_CHECKING:
    import torch

Clock = Callable[[], float]

_SHAPES = "smolvlm2-256m"
_ROUNDS = 2
_PREFILL_TOKENS = 1024
_CACHED_TOKENS = 2048
_READ_BYTES = 256 << 20
"""Far more than a cache holds."""
_COPIED_BYTES = 64 << 20
_MIN_PRODUCT_SHARE = 0.2
"""Of a layer's time, where attention alone seemed to take more: a disturbed measurement."""
_SHORTEST = 1e-6
_MIN_CPU_SHARE = 0.8
"""CPU time per wall time and thread below which other programs had the cores."""
_MAX_DISTURBED_SECONDS = 600
"""Age at which disturbed rates are measured again: work that lasts is often over by then."""


def rates_for(
    request: RateRequest = RateRequest(),  # noqa: B008 -- frozen
    *,
    on_measure: Callable[[], None] = lambda: None,
) -> Rates:
    """Return the kept rates, else measure and keep them; ``on_measure`` is called before that.

    Of disturbed rates the highest of all measurements are kept. Raises UsageError and ModelError as
    ``choose_device`` and ``choose_dtype`` do.
    """
    kept = kept_rates(request)
    if kept is not None and not _is_due(kept):
        return kept
    on_measure()
    rates = measure_rates(request)
    if kept is not None and rates.disturbed and _same_setup(kept, rates):
        rates = replace(
            rates,
            **{name: max(getattr(kept, name), getattr(rates, name)) for name in _HIGHER_IS_QUIETER},
        )
    keep_rates(request, rates)
    return rates


_HIGHER_IS_QUIETER = (
    *("encode_products", "encode_attention", "prefill_products", "prefill_attention"),
    *("read", "copy"),
)


def _is_due(rates: Rates) -> bool:
    return rates.disturbed and time.time() - rates.measured_at >= _MAX_DISTURBED_SECONDS


def _same_setup(one: Rates, other: Rates) -> bool:
    def setup(rates: Rates) -> tuple[object, ...]:
        return rates.device, rates.dtype, rates.arithmetic, rates.threads

    return setup(one) == setup(other)


def measure_rates(
    request: RateRequest = RateRequest(),  # noqa: B008 -- frozen
    *,
    config: NetworkConfig | None = None,
    clock: Clock = time.perf_counter,
    cpu_clock: Clock = time.process_time,
) -> Rates:
    """Measure layers of ``config``'s shapes (256M by default).

    Kernels of attention and of int8 arithmetic are compiled here, and kept.
    ``clock`` and ``cpu_clock`` give seconds, the latter of the CPU.
    """
    process_bytes, start_seconds = _started_process()
    set_num_threads()
    import torch

    device = choose_device(request.device)
    shapes = config or find_model(_SHAPES).network
    assert shapes is not None
    parameters = 1 if request.tiny else 1 << 30
    dtype = choose_dtype(device, parameters, request.dtype)
    arithmetic = choose_arithmetic(
        request.arithmetic,
        device=device,
        dtype=dtype,
        is_auto_dtype=request.dtype == "auto",
        parameters=parameters,
    )
    in_int8 = arithmetic != "float"  # most checkpoints pass the comparison of ``auto``
    threads = torch.get_num_threads()
    timer = _Timer(device, clock, cpu_clock)
    with torch.inference_mode():
        encode = _measure_encode(shapes, dtype, timer, in_int8=in_int8)
        prefill = _measure_prefill(shapes, dtype, timer, in_int8=in_int8)
        read, copy = _measure_memory(timer)
        layer_seconds = _measure_layer(timer)
    return Rates(
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        threads=threads if device.type == "cpu" else 1,
        encode_products=encode[0],
        encode_attention=encode[1],
        prefill_products=prefill[0],
        prefill_attention=prefill[1],
        read=read,
        copy=copy,
        process_bytes=process_bytes,
        measured_at=time.time(),
        start_seconds=start_seconds,
        layer_seconds=layer_seconds,
        disturbed=timer.is_disturbed,
        arithmetic="int8" if in_int8 else "float",
    )


@dataclass
class _Timer:
    """Seconds of a call: wall time of the shortest of some rounds, after one that is not counted.

    Where other programs had the cores, it is the mean CPU time of a thread: the rates are those of
    a machine that does nothing else.
    """

    device: "torch.device"
    clock: Clock
    cpu_clock: Clock
    is_disturbed: bool = False

    def seconds(self, run: Callable[[], object], threads: int) -> float:
        """Time ``run``, which works on ``threads`` threads."""
        run()
        cpu_started, rounds = self.cpu_clock(), []
        for _ in range(_ROUNDS):
            started = self.clock()
            run()
            synchronize(self.device)
            rounds.append(max(self.clock() - started, _SHORTEST))
        on_cpu = max(self.cpu_clock() - cpu_started, _SHORTEST) / threads
        if self.device.type == "cpu" and on_cpu < _MIN_CPU_SHARE * sum(rounds):
            self.is_disturbed = True
            return on_cpu / _ROUNDS
        return min(rounds)


def _measure_encode(
    config: NetworkConfig, dtype: "torch.dtype", timer: _Timer, *, in_int8: bool
) -> tuple[float, float]:
    """Operations per second of products and attention: a frame per core goes through one layer."""
    import torch

    from smolvideo.engines.frame_encoder import one_core_per_call
    from smolvideo.network.model import prepare_for_inference
    from smolvideo.network.vision import VisionLayer

    device = timer.device
    vision = config.vision
    layer = VisionLayer(vision).to(device, dtype).eval()
    if in_int8:
        _add_int8_products(layer)
    for part in (layer.self_attn, layer.mlp):
        prepare_for_inference(part, compiled=device.type == "cpu", dtype=dtype)
    patches, heads = vision.patches_per_side**2, vision.num_attention_heads
    frames = torch.get_num_threads() if device.type == "cpu" else 1
    x = _random((1, patches, vision.hidden_size), device, dtype)
    q, k, v = (_random((1, heads, patches, vision.head_dim), device, dtype) for _ in range(3))
    attend = layer.self_attn.attention_backend.vision_attention
    with one_core_per_call(device) as run_each:

        def shortest(run: Callable[[], object]) -> float:
            def run_frame(_: int) -> list[int]:
                with torch.inference_mode():  # of each thread
                    run()
                return []

            return timer.seconds(lambda: [*run_each(run_frame, range(frames))], frames)

        whole = shortest(lambda: layer(x))
        attention = shortest(lambda: attend(q, k, v))
    weights = 4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.intermediate_size
    products = max(whole - attention, whole * _MIN_PRODUCT_SHARE)
    flops = frames * attention_flops(heads, vision.head_dim, patches**2)
    return frames * 2 * patches * weights / products, flops / attention


def _measure_prefill(
    config: NetworkConfig, dtype: "torch.dtype", timer: _Timer, *, in_int8: bool
) -> tuple[float, float]:
    """Operations per second of products and attention: a chunk of a prompt goes through one
    layer of the decoder, on all threads."""
    import torch

    from smolvideo.network.cpu_decode import is_supported
    from smolvideo.network.decoder import TextLayer, rope_cos_sin
    from smolvideo.network.kv_cache import KVCache
    from smolvideo.network.model import prepare_for_inference

    text, device = config.text, timer.device
    compiled = is_supported(text, device, dtype)
    layer = TextLayer(text, 0).to(device, dtype).eval()
    if in_int8:
        _add_int8_products(layer)
    for part in (layer.self_attn, layer.mlp):
        prepare_for_inference(part, compiled=compiled, dtype=dtype)
    tokens, cached = _PREFILL_TOKENS, _CACHED_TOKENS
    cache = KVCache.empty(text, cached + tokens, device=device, dtype=dtype, paged=compiled)
    x = _random((1, tokens, text.hidden_size), device, dtype)
    positions = torch.arange(tokens, device=device)[None]
    cos, sin = rope_cos_sin(positions, text.head_dim, text.rope_theta)
    cos_sin = cos.unsqueeze(2).to(dtype), sin.unsqueeze(2).to(dtype)
    layer(x.repeat(1, -(-cached // tokens), 1)[:, :cached], _repeat(cos_sin, cached), cache)
    q = _random((1, text.num_attention_heads, tokens, text.head_dim), device, dtype)
    kv, backend = cache.layer(0), layer.self_attn.attention_backend
    threads = torch.get_num_threads()
    short = timer.seconds(lambda: layer(x, cos_sin, cache), threads)
    alone = timer.seconds(lambda: kv.attend(q, tokens, backend), threads)
    far = timer.seconds(lambda: kv.attend(q, cached, backend), threads)
    width = text.num_attention_heads, text.head_dim
    weights = decoder_weights(config) // text.num_hidden_layers
    products = max(short - alone, short * _MIN_PRODUCT_SHARE)
    flops = attention_flops(*width, causal_pairs(tokens, cached - tokens))
    return 2 * tokens * weights / products, flops / far


def _add_int8_products(layer: "torch.nn.Module") -> None:
    from smolvideo.network.linear import Linear

    for part in layer.modules():
        if isinstance(part, Linear):
            part.add_int8_product(part.weight.detach())


def _measure_memory(timer: _Timer) -> tuple[float, float]:
    """Bytes per second: read by all threads, and copied to fresh memory by one."""
    import torch

    from smolvideo.network.threads import one_torch_thread

    threads = torch.get_num_threads()
    many = torch.ones(_READ_BYTES // 4, device=timer.device)
    read = timer.seconds(many.sum, threads)
    few = many.cpu()[: _COPIED_BYTES // 4]
    with one_torch_thread():
        on_cpu = replace(timer, device=torch.device("cpu"))
        copy = on_cpu.seconds(few.clone, 1)
        timer.is_disturbed |= on_cpu.is_disturbed
    return _READ_BYTES / read, _COPIED_BYTES / copy


def _measure_layer(timer: _Timer) -> float:
    """Seconds of one decoder layer of a few weights for one token, on one thread as it is run."""
    import torch

    from smolvideo.models.network_config import TextConfig
    from smolvideo.network.decoder import TextLayer, rope_cos_sin
    from smolvideo.network.kv_cache import KVCache
    from smolvideo.network.model import prepare_for_inference
    from smolvideo.network.threads import one_torch_thread

    text = TextConfig(
        vocab_size=8,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=64,
        rope_theta=10_000.0,
    )
    device, dtype, calls = timer.device, torch.float32, 50
    layer = TextLayer(text, 0).to(device, dtype).eval()
    for part in (layer.self_attn, layer.mlp):
        prepare_for_inference(part, compiled=False)
    cache = KVCache.empty(text, 16, device=device, dtype=dtype)
    x = _random((1, 1, text.hidden_size), device, dtype)
    cos, sin = rope_cos_sin(torch.zeros(1, 1, device=device), text.head_dim, text.rope_theta)
    cos_sin = cos.unsqueeze(2).to(dtype), sin.unsqueeze(2).to(dtype)

    def run() -> None:
        for _ in range(calls):
            layer(x, cos_sin, cache)

    with one_torch_thread():
        return timer.seconds(run, 1) / calls


def _random(shape: tuple[int, ...], device: "torch.device", dtype: "torch.dtype") -> "torch.Tensor":
    import torch

    return torch.randn(shape).to(device, dtype)


def _repeat(
    cos_sin: "tuple[torch.Tensor, torch.Tensor]", length: int
) -> "tuple[torch.Tensor, torch.Tensor]":
    """The same angles over and over, for ``length`` tokens: their values do not matter here."""
    cos, sin = (part.repeat(1, -(-length // part.shape[1]), 1, 1)[:, :length] for part in cos_sin)
    return cos, sin


@lru_cache(maxsize=1)
def _started_process() -> tuple[int, float]:
    """Resident memory of this process when torch is loaded and nothing was measured yet, and the
    CPU time that loading took; where torch was loaded before, that of the whole process."""
    begun = 0.0 if "torch" in sys.modules else time.process_time()
    import torch  # noqa: F401 -- imported for its time

    return _process_bytes(), time.process_time() - begun


def _process_bytes() -> int:
    """Resident memory of this process, with the modules that an answer needs."""
    import psutil

    from smolvideo.network.compilation import has_numba

    if has_numba():
        import smolvideo.network.kernels.decode  # noqa: F401 -- imported for its size
    return int(psutil.Process().memory_info().rss)
