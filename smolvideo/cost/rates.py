"""Rates of this machine: operations and bytes per second, for each stage of an answer.

Measured on one layer of the vision tower and one of the decoder, of the shapes of 256M, prepared as
the engine prepares them: so the rates hold for the kernels, the number of threads and the dtype
that an answer will use, on a machine that does nothing else. That takes about a second; the result
is kept in the cache folder for a month, or until the processor, the number of threads, or the
version of torch or numba is another.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from platform import machine
from typing import TYPE_CHECKING, Any
from zlib import crc32

from smolvideo.cost.operations import (
    DTYPE_BYTES,
    attention_flops,
    causal_pairs,
    decoder_weights,
)
from smolvideo.engines.devices import (
    available_cores,
    choose_device,
    choose_dtype,
    cpu_features,
    package_version,
    processor_name,
    set_num_threads,
    synchronize,
)
from smolvideo.errors import SourceError
from smolvideo.files import make_folders, write_atomic
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.registry import find_model
from smolvideo.source import CacheStats, cache_dir
from smolvideo.source.download_cache import check_is_folder

if TYPE_CHECKING:
    from pathlib import Path

    import torch

Clock = Callable[[], float]

_VERSION = 1
_SHAPES = "smolvlm2-256m"
_ROUNDS = 2
_PREFILL_TOKENS = 1024
_CACHED_TOKENS = 2048
_READ_BYTES = 256 << 20
"""Far more than a cache holds."""
_COPIED_BYTES = 64 << 20
_MAX_AGE_SECONDS = 30 * 24 * 3600
_MIN_PRODUCT_SHARE = 0.2
"""Of a layer's time, where attention alone seemed to take more: a disturbed measurement."""
_MAX_FILE_BYTES = 1 << 20
_MAX_RATE = 1e18
_MIN_SECONDS = 1e-6
_MIN_CPU_SHARE = 0.8
"""CPU time per wall time and thread below which other programs had the cores."""


@dataclass(frozen=True)
class Rates:
    """Rates of one device and dtype, of all ``threads`` together: operations of products and of
    attention per second, in frames (``encode``) and prompts (``prefill``); bytes per second that
    are read (``read``), and that are copied to fresh memory by one thread (``copy``).

    ``process_bytes`` is the resident memory of a process that has loaded torch and no weights;
    ``measured_at`` is in seconds since 1970.
    """

    device: str
    dtype: str
    threads: int
    encode_products: float
    encode_attention: float
    prefill_products: float
    prefill_attention: float
    read: float
    copy: float
    process_bytes: int
    measured_at: float

    @property
    def identity(self) -> str:
        """Key of the records that were predicted by these rates."""
        return f"{self.device} {self.dtype} {self.threads} {self.measured_at:.0f}"


@dataclass(frozen=True)
class RateRequest:
    """The device and dtype to measure, as ``--device`` and ``--dtype`` name them, for a model of
    ``parameters`` weights: ``auto`` takes float32 for tiny ones."""

    device: str = "auto"
    dtype: str = "auto"
    tiny: bool = False

    @property
    def key(self) -> str:
        """Name in the file of rates."""
        dtype = "float32" if self.tiny and self.dtype == "auto" else self.dtype
        return f"{self.device} {dtype} {num_threads()}"


def rates_for(
    request: RateRequest = RateRequest(),
    *,
    on_measure: Callable[[], None] = lambda: None,
) -> Rates:
    """Return the kept rates, else measure and keep them; ``on_measure`` is called before that.

    Raises UsageError and ModelError as ``choose_device`` and ``choose_dtype`` do.
    """
    kept = kept_rates(request)
    if kept is not None:
        return kept
    on_measure()
    rates = measure_rates(request)
    keep_rates(request, rates)
    return rates


def kept_rates(request: RateRequest = RateRequest()) -> Rates | None:
    """Return the rates in the cache folder; None where there are none for this machine, or old
    ones. Takes milliseconds: torch is not imported."""
    rates = _rates_from(_read_file().get(request.key))
    fresh = rates is not None and 0 <= time.time() - rates.measured_at < _MAX_AGE_SECONDS
    return rates if fresh else None


def _rates_from(entry: object) -> Rates | None:
    """Check an entry of the file, which anything may have written."""
    kinds = {field.name: field.type for field in fields(Rates)}
    if not isinstance(entry, dict) or set(entry) != set(kinds):
        return None
    if not all(_is_valid(entry[name], kind) for name, kind in kinds.items()):
        return None
    return Rates(**entry) if entry["dtype"] in DTYPE_BYTES else None


def _is_valid(value: object, kind: object) -> bool:
    if kind is str:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return False
    return 0 < value < _MAX_RATE


def keep_rates(request: RateRequest, rates: Rates) -> None:
    """Write ``rates`` to the cache folder; where that is not writable they are measured again."""
    explicit = replace(request, dtype=rates.dtype)
    entries = {**_read_file(), request.key: asdict(rates), explicit.key: asdict(rates)}
    with suppress(OSError, SourceError):
        file = cost_folder() / "rates.json"
        make_folders(file.parent)
        content = {"version": _VERSION, "machine": machine_key(), "rates": entries}
        write_atomic(file, json.dumps(content, indent=1) + "\n", sync=False)


def cost_folder() -> "Path":
    """Folder of rates and past answers. Raises SourceError where there is no cache folder."""
    return cache_dir() / "cost"


def cost_stats() -> CacheStats:
    """Return number and size of the files of rates and of past answers."""
    found = []
    with suppress(OSError, SourceError):
        found = [file.stat() for file in cost_folder().iterdir()]
    oldest = min((one.st_mtime for one in found), default=None)
    return CacheStats(len(found), sum(one.st_size for one in found), oldest)


def clear_costs() -> CacheStats:
    """Delete these files; return what that freed. Raises SourceError where their folder is a file,
    or the user has none."""
    check_is_folder(cost_folder())
    freed = cost_stats()
    shutil.rmtree(cost_folder(), ignore_errors=True)
    left = cost_stats()
    return CacheStats(
        freed.entries - left.entries, freed.size_bytes - left.size_bytes, freed.oldest
    )


def num_threads() -> int:
    """Threads that the engine takes, see ``set_num_threads``."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) else available_cores()


def machine_key() -> str:
    """What the rates depend on: processor, instruction set, cores, and the versions of the
    libraries that compute."""
    features = " ".join(sorted(cpu_features() or ()))
    parts = [machine(), processor_name(), f"{available_cores()} cores"]
    parts += [f"{name} {package_version(name)}" for name in ("torch", "numba")]
    return ", ".join([*parts, f"features {crc32(features.encode()):08x}"])


def measure_rates(
    request: RateRequest = RateRequest(),
    *,
    config: NetworkConfig | None = None,
    clock: Clock = time.perf_counter,
    cpu_clock: Clock = time.process_time,
) -> Rates:
    """Measure layers of ``config``'s shapes (256M by default).

    Attention kernels that the engine compiles on this processor are compiled here, and kept.
    ``clock`` and ``cpu_clock`` give seconds, the latter of the CPU.
    """
    set_num_threads()
    import torch

    device = choose_device(request.device)
    shapes = config or find_model(_SHAPES).network
    assert shapes is not None
    parameters = 1 if request.tiny else 1 << 30
    dtype = choose_dtype(device, parameters, request.dtype)
    process_bytes = _process_bytes()
    threads = torch.get_num_threads()
    timer = _Timer(device, clock, cpu_clock)
    with torch.inference_mode():
        encode = _measure_encode(shapes, dtype, timer)
        prefill = _measure_prefill(shapes, dtype, timer)
        read, copy = _measure_memory(timer)
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
    )


@dataclass(frozen=True)
class _Timer:
    """Seconds of a call: wall time of the shortest of some rounds, after one that is not counted.

    Where other programs had the cores, it is the mean CPU time of a thread: the rates are those of
    a machine that does nothing else.
    """

    device: "torch.device"
    clock: Clock
    cpu_clock: Clock

    def seconds(self, run: Callable[[], object], threads: int) -> float:
        """Time ``run``, which works on ``threads`` threads."""
        run()
        cpu_started, rounds = self.cpu_clock(), []
        for _ in range(_ROUNDS):
            started = self.clock()
            run()
            synchronize(self.device)
            rounds.append(max(self.clock() - started, _MIN_SECONDS))
        on_cpu = max(self.cpu_clock() - cpu_started, _MIN_SECONDS) / threads
        if self.device.type == "cpu" and on_cpu < _MIN_CPU_SHARE * sum(rounds):
            return on_cpu / _ROUNDS
        return min(rounds)


def _measure_encode(
    config: NetworkConfig, dtype: "torch.dtype", timer: _Timer
) -> tuple[float, float]:
    """Operations per second of products and attention: a frame per core goes through one layer."""
    import torch

    from smolvideo.engines.frame_encoder import one_core_per_call
    from smolvideo.network.model import prepare_for_inference
    from smolvideo.network.vision import VisionLayer

    device = timer.device
    vision = config.vision
    layer = VisionLayer(vision).to(device, dtype).eval()
    for part in (layer.self_attn, layer.mlp):
        prepare_for_inference(part, compiled=device.type == "cpu")
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
    config: NetworkConfig, dtype: "torch.dtype", timer: _Timer
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
    for part in (layer.self_attn, layer.mlp):
        prepare_for_inference(part, compiled=compiled)
    tokens, cached = _PREFILL_TOKENS, _CACHED_TOKENS
    cache = KVCache.empty(text, cached + tokens, device=device, dtype=dtype, paged=compiled)
    x = _random((1, tokens, text.hidden_size), device, dtype)
    positions = torch.arange(tokens, device=device)[None]
    cos, sin = rope_cos_sin(positions, text.head_dim, text.rope_theta)
    cos_sin = cos.unsqueeze(2).to(dtype), sin.unsqueeze(2).to(dtype)
    layer(x.repeat(1, -(-cached // tokens), 1)[:, :cached], _repeat(cos_sin, cached), cache)
    q = _random((1, text.num_attention_heads, tokens, text.head_dim), device, dtype)
    kv = cache.layer(0)
    threads = torch.get_num_threads()
    short = timer.seconds(lambda: layer(x, cos_sin, cache), threads)
    alone = timer.seconds(lambda: kv.attend(q, tokens), threads)
    far = timer.seconds(lambda: kv.attend(q, cached), threads)
    width = text.num_attention_heads, text.head_dim
    weights = decoder_weights(config) // text.num_hidden_layers
    products = max(short - alone, short * _MIN_PRODUCT_SHARE)
    flops = attention_flops(*width, causal_pairs(tokens, cached - tokens))
    return 2 * tokens * weights / products, flops / far


def _measure_memory(timer: _Timer) -> tuple[float, float]:
    """Bytes per second: read by all threads, and copied to fresh memory by one."""
    import torch

    threads = torch.get_num_threads()
    many = torch.ones(_READ_BYTES // 4, device=timer.device)
    read = timer.seconds(many.sum, threads)
    few = many.cpu()[: _COPIED_BYTES // 4]
    torch.set_num_threads(1)
    try:
        copy = replace(timer, device=torch.device("cpu")).seconds(few.clone, 1)
    finally:
        torch.set_num_threads(threads)
    return _READ_BYTES / read, _COPIED_BYTES / copy


def _random(shape: tuple[int, ...], device: "torch.device", dtype: "torch.dtype") -> "torch.Tensor":
    import torch

    return torch.randn(shape).to(device, dtype)


def _repeat(
    cos_sin: "tuple[torch.Tensor, torch.Tensor]", length: int
) -> "tuple[torch.Tensor, torch.Tensor]":
    """The same angles over and over, for ``length`` tokens: their values do not matter here."""
    cos, sin = (part.repeat(1, -(-length // part.shape[1]), 1, 1)[:, :length] for part in cos_sin)
    return cos, sin


def _process_bytes() -> int:
    """Resident memory of this process, with the modules that an answer needs."""
    import psutil

    from smolvideo.network.threads import has_numba

    if has_numba():
        import smolvideo.network.kernels.decode  # noqa: F401 -- imported for its size
    return int(psutil.Process().memory_info().rss)


def _read_file() -> dict[str, Any]:
    """Entries of the file of rates; none where it is missing, broken, or of another machine."""
    with suppress(OSError, ValueError, SourceError, RecursionError, KeyError, TypeError):
        with (cost_folder() / "rates.json").open("rb") as file:
            content = json.loads(file.read(_MAX_FILE_BYTES))
        if content["version"] == _VERSION and content["machine"] == machine_key():
            return dict(content["rates"])
    return {}
