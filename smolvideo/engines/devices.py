"""Choice of device, dtype and number of threads; torch's errors of devices and memory.

``auto`` is CUDA, then MPS, then the CPU; a GPU counts only if it computes a product correctly. An
explicit choice that this machine cannot honour is an error.
"""

import os
import platform
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from smolvideo.errors import ModelError, UsageError

if TYPE_CHECKING:
    import torch

    from smolvideo.models import Checkpoint


LOADING = "loading the weights"
"""The ``action`` of an engine before there is a prompt."""

_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "failed to allocate",
)
"""CUDA and MPS report the first; the CPU's allocator reports the others, depending on the
system."""


@contextmanager
def wrap_torch_errors(device: str, action: str) -> Iterator[None]:
    """Convert torch's RuntimeErrors in the block to a ModelError with a hint.

    ``action`` completes the sentence: "ran out of memory while …".
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or is_out_of_memory(error):
            raise out_of_memory(device, action) from error
        raise ModelError(f"`{device}` failed while {action}: {first_line(error)}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error is one of those by which torch reports exhausted memory."""
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in text for word in _MEMORY_WORDS)
    )


def out_of_memory(device: str, action: str) -> ModelError:
    """Make the error for exhausted memory."""
    hint = "take a smaller model"
    if action != LOADING:  # weights take the same memory for every question
        hint = f"ask for fewer frames (`--max-frames`), or {hint}"
    if not device.startswith("cpu"):
        hint += ", or run with `--device cpu`"
    return ModelError(f"`{device}` ran out of memory while {action}", hint=hint)


def first_line(error: BaseException) -> str:
    """Return the first informative line of another library's error, without the pages that some of
    them add."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if lines[0].endswith(":") and len(lines) > 1:
        return f"{lines[0]} {lines[1].strip()}"
    return lines[0]


DTYPES = {
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "float32": "float32",
    "fp32": "float32",
}
"""Name that a user may type → name of the torch dtype."""

QUANTIZATIONS = ("none", "int8", "int4")
"""Weight formats: unquantized (in the dtype), int8, int4."""

TINY_PARAMETERS = 50_000_000
"""Below this number of parameters half precision saves nothing worth having: float32 is as fast,
and exact everywhere."""

BF16_FLAGS_X86 = frozenset({"amx_bf16", "avx512_bf16"})
"""Flags in /proc/cpuinfo of the instructions that make bfloat16 faster than float32 on x86, as
measured."""

BF16_FEATURES_ARM = frozenset({"bf16", "svebf16"})
"""Their names on Arm, where the gain depends on the processor, and on whether torch uses them.
(``i8mm`` multiplies int8 with int8, and decides nothing about bfloat16.)"""

_CAPS_BELOW_BF16 = {"default", "avx2", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Values of ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA that exclude bfloat16 products."""

_CPUINFO = Path("/proc/cpuinfo")
_MEASURED_ROUNDS = 5


def choose_device(device: str = "auto") -> "torch.device":
    """Return the device to run on: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:1``.

    Raises UsageError for another name, ModelError where this machine has no such device or where
    the device does not compute (an old GPU, a driver that does not match).
    """
    import torch

    # first GPU that works, else the CPU
    if device == "auto":
        for candidate in ("cuda", "mps"):
            if _is_present(candidate) and _device_problem(torch.device(candidate)) is None:
                return torch.device(candidate)
        return torch.device("cpu")
    # an explicit name: syntax, then presence, then a test product
    kind, colon, index = device.partition(":")
    known = kind == "cuda" and index.isdecimal() if colon else kind in ("cpu", "mps", "cuda")
    if not known:
        raise UsageError(
            f"unknown device `{device}`", hint="one of `auto`, `cpu`, `cuda`, `cuda:1`, `mps`"
        )
    chosen = torch.device(device)
    if kind == "cpu":
        return chosen
    hint = "run with `--device cpu`, or leave `--device` away"
    if not _is_present(kind):
        raise ModelError(f"this machine has no usable `{kind}` device", hint=hint)
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ModelError(f"there is no `{device}`: the last GPU is `cuda:{last}`", hint=hint)
    if reason := _device_problem(chosen):
        raise ModelError(f"`{device}` does not compute: {reason}", hint=hint)
    return chosen


def cpu_dtype(checkpoint: "Checkpoint", dtype: str = "auto") -> str:
    """Return the name of the dtype that ``choose_dtype`` takes for ``checkpoint`` on the CPU.

    Raises UsageError for an unknown ``dtype``.
    """
    import torch

    parameters = 0 if checkpoint.weights is None else checkpoint.weights.parameters
    return str(choose_dtype(torch.device("cpu"), parameters, dtype)).removeprefix("torch.")


def choose_dtype(device: "torch.device", parameters: int, dtype: str = "auto") -> "torch.dtype":
    """Return the dtype for a checkpoint of ``parameters`` parameters on ``device``.

    ``auto``: float32 for tiny checkpoints; else bfloat16 on CUDA (float16 where the GPU has no
    bfloat16), float16 on MPS, and on the CPU bfloat16 where it has instructions that make it
    faster, else float32. Raises UsageError for an unknown name, ModelError for bfloat16 on a GPU
    without it.
    """
    import torch

    if dtype == "auto":
        if parameters < TINY_PARAMETERS:
            return torch.float32
        if device.type == "cuda":
            return torch.bfloat16 if _cuda_has_bf16(device) else torch.float16
        if device.type == "mps":
            return torch.float16
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    if dtype not in DTYPES:
        raise UsageError(
            f"unknown dtype `{dtype}`", hint="one of `auto`, `bfloat16`, `float16`, `float32`"
        )
    chosen = getattr(torch, DTYPES[dtype])
    assert isinstance(chosen, torch.dtype)
    if chosen is torch.bfloat16 and device.type == "cuda" and not _cuda_has_bf16(device):
        raise ModelError(
            f"`{torch.cuda.get_device_name(device)}` has no bfloat16",
            hint="run with `--dtype float16`, or leave `--dtype` away",
        )
    return chosen


def check_quantize(quantize: str, device: "torch.device", dtype: "torch.dtype") -> None:
    """Check the weight format. Raises UsageError for an unknown name, for quantized weights on a
    device other than the CPU or in float16, and for int4 on a processor that is slow with it."""
    if quantize not in QUANTIZATIONS:
        known = ", ".join(f"`{known}`" for known in QUANTIZATIONS)
        raise UsageError(f"unknown quantization `{quantize}`", hint=f"one of {known}")
    if quantize == "none":
        return
    import torch

    if device.type != "cpu":
        raise UsageError(
            f"{quantize} weights are for the CPU, not for `{device}`",
            hint="add `--device cpu`, or leave `--quantize` out",
        )
    if dtype is torch.float16:
        raise UsageError(
            f"{quantize} weights do not go with float16",
            hint="run with `--dtype bfloat16` or `--dtype float32`",
        )
    if quantize == "int4":
        from smolvideo.network.quantized import has_int4_matmul

        if not has_int4_matmul():
            raise UsageError(
                "int4 weights need a processor with AVX2 or AVX-512, and a torch that knows them",
                hint="run with `--quantize int8`",
            )


def cpu_has_bf16() -> bool:
    """True where the CPU multiplies bfloat16 matrices faster than float32 ones (AMX,
    AVX512-BF16), and the environment does not cap torch or oneDNN below that."""
    features = cpu_features()
    if features is None:  # not Linux: torch's own checks, where this torch has them
        import torch

        questions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in questions)
    if features & BF16_FLAGS_X86:
        caps = {os.environ.get(name) for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")}
        return not caps & _CAPS_BELOW_BF16
    return bool(features & BF16_FEATURES_ARM) and _bf16_is_faster()


def cpu_features(cpuinfo: Path = _CPUINFO) -> frozenset[str] | None:
    """CPU features by /proc/cpuinfo: ``flags`` on x86, ``Features`` on Arm; only those that all
    cores have. None where there is no such file."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    of_cores = [
        frozenset(words.split())
        for name, colon, words in (line.partition(":") for line in lines)
        if colon and name.strip() in ("flags", "Features")
    ]
    return frozenset.intersection(*of_cores) if of_cores else frozenset()


def processor_name(cpuinfo: Path = _CPUINFO) -> str:
    """Name of the processor, as the system reports it."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def package_version(name: str) -> str | None:
    """Version of an installed package, without importing it; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _bf16_is_faster() -> bool:
    """Whether a matrix product is faster in bfloat16 than in float32: minima of some measurements
    in turns, because load only ever makes a measurement longer."""
    import torch

    random = torch.Generator().manual_seed(0)
    rows, weight = (torch.randn(shape, generator=random) for shape in ((128, 576), (576, 576)))
    shortest: dict[torch.dtype, float] = {}
    with torch.inference_mode():
        for _ in range(_MEASURED_ROUNDS):
            for dtype in (torch.float32, torch.bfloat16):
                x, w = rows.to(dtype), weight.to(dtype)
                started = time.perf_counter()
                torch.nn.functional.linear(x, w)
                seconds = time.perf_counter() - started
                shortest[dtype] = min(seconds, shortest.get(dtype, seconds))
    return shortest[torch.bfloat16] < shortest[torch.float32]


def available_cores() -> int:
    """Number of threads that can run at the same time: affinity mask, physical cores and container
    quota."""
    import psutil

    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    # Hyper-threads share the multipliers of a core: they only wait for each other.
    physical = psutil.cpu_count(logical=False) or allowed
    return max(
        1, min(allowed, physical, _cgroup_cpu_quota(Path("/sys/fs/cgroup/cpu.max")) or allowed)
    )


def set_num_threads() -> None:
    """Set torch's number of threads, unless the user did through ``OMP_NUM_THREADS``.

    If torch was not loaded before, waiting threads soon sleep: spinning threads take the cores of a
    busy machine from each other, and a token then took a hundred times as long. GNU's threads
    (Linux) spin a few thousand times first: on free cores the next product has come by then, and
    the prefill of a long prompt takes four fifths of the time.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "6000")
    import torch

    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(available_cores())


def reset_peak_memory(device: "torch.device") -> None:
    """Reset the GPU's peak memory; the peak of the process cannot be reset."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: "torch.device") -> int:
    """Return the GPU's largest allocation since the reset, or the largest resident size of the
    process so far."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes everywhere but on macOS


def synchronize(device: "torch.device") -> None:
    """Wait until a GPU has finished its work, so that timings are right."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _is_present(kind: str) -> bool:
    import torch

    with warnings.catch_warnings():  # torch warns of a driver too old for it
        warnings.simplefilter("ignore")
        if kind == "cuda":
            return bool(torch.cuda.is_available())
        return bool(torch.backends.mps.is_available())


def _device_problem(device: "torch.device") -> str | None:
    """None if the device multiplies a small matrix, else its error."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ones = torch.ones(8, 8, device=device)
            return None if float((ones @ ones).sum()) == 512.0 else "it computes wrongly"
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return first_line(error)


def _cuda_has_bf16(device: "torch.device") -> bool:
    """Ampere and later; before it torch emulates bfloat16, slower than float16."""
    import torch

    if torch.version.hip:
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cuda.get_device_capability(device)[0] >= 8)


def _cgroup_cpu_quota(cpu_max: Path) -> int | None:
    """Cores that a container may use: ``quota period`` in microseconds (cgroup v2)."""
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or the quota is `max`
        return None
