"""Device, dtype and thread selection, and errors for hardware that is missing."""

import os
from pathlib import Path

import pytest
import torch

from smolvideo.engines import devices
from smolvideo.engines.devices import LOADING, out_of_memory, wrap_torch_errors
from smolvideo.errors import ModelError, UsageError

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
BIG = 250_000_000

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="hardware: a GPU")


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:x", "cuda:", "", "mps:1", "meta"])
def test_unknown_device_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        devices.choose_device(name)


@needs_no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_absent_gpu_is_an_error(name: str) -> None:
    with pytest.raises(ModelError, match="no usable `cuda`") as caught:
        devices.choose_device(name)
    assert "--device cpu" in str(caught.value.hint)


@needs_no_gpu
def test_auto_without_a_gpu_is_the_cpu() -> None:
    assert devices.choose_device("auto").type in ("cpu", "mps")
    assert devices.choose_device("cpu") == CPU


def test_gpu_that_fails_its_check_is_skipped_by_auto_or_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_is_present", lambda kind: kind == "cuda")
    monkeypatch.setattr(devices, "_device_problem", lambda device: "no kernel image is available")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.choose_device("auto") == CPU
    with pytest.raises(ModelError, match="does not compute: no kernel image"):
        devices.choose_device("cuda")
    with pytest.raises(ModelError, match="the last GPU is `cuda:0`"):
        devices.choose_device("cuda:1")


def test_gpu_check_runs_a_matrix_product() -> None:
    assert devices._device_problem(CPU) is None
    assert devices._device_problem(torch.device("meta")) is not None


@pytest.mark.parametrize(
    ("device", "cpu_bf16", "cuda_bf16", "expected"),
    [
        (CPU, True, False, torch.bfloat16),
        (CPU, False, False, torch.float32),
        (CUDA, False, True, torch.bfloat16),
        (CUDA, True, False, torch.float16),
        (MPS, True, True, torch.float16),
    ],
)
def test_auto_dtype_follows_the_device(
    device: torch.device,
    cpu_bf16: bool,
    cuda_bf16: bool,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: cpu_bf16)
    monkeypatch.setattr(devices, "_cuda_has_bf16", lambda device: cuda_bf16)
    assert devices.choose_dtype(device, BIG) is expected
    assert devices.choose_dtype(device, 5_000_000) is torch.float32


X86 = """\
processor\t: 0
model name\t: AMD EPYC bf16 (a name is no feature)
flags\t\t: fpu avx2 avx512f{more}
bugs\t\t: spectre_v1

"""
ARM = """\
processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd sve{more}
CPU implementer\t: 0x41

"""


@pytest.mark.parametrize(
    ("cpuinfo", "faster", "expected"),
    [
        (X86.format(more=" avx512_bf16"), False, True),
        (X86.format(more=" amx_bf16"), False, True),
        (X86.format(more=""), True, False),
        (ARM.format(more=" svei8mm svebf16 i8mm bf16"), True, True),
        (ARM.format(more=" svei8mm svebf16 i8mm bf16"), False, False),
        (ARM.format(more=" i8mm"), True, False),
        (ARM.format(more=" bf16") + ARM.format(more=""), True, False),
        ("", True, False),
    ],
)
def test_cpu_bfloat16_comes_from_cpu_flags_or_a_measurement(
    cpuinfo: str, faster: bool, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    features = devices.cpu_features(file)
    monkeypatch.setattr(devices, "cpu_features", lambda: features)
    monkeypatch.setattr(devices, "_bf16_is_faster", lambda: faster)
    assert devices.cpu_has_bf16() is expected


def test_torch_names_cpu_features_without_proc_cpuinfo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert devices.cpu_features(tmp_path / "none") is None
    monkeypatch.setattr(devices, "cpu_features", lambda: None)
    for answer in (True, False):
        for question in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
            monkeypatch.setattr(torch.cpu, question, lambda answer=answer: answer, raising=False)
        assert devices.cpu_has_bf16() is answer


def test_matrix_product_measurement_takes_the_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """The injected clock makes one bfloat16 product slow; its other repetitions are fast."""
    for bfloat16, expected in (([9.0, 1, 1, 1, 1], True), ([3.0, 3, 3, 3, 3], False)):
        spans = [span for pair in zip([2.0] * 5, bfloat16, strict=True) for span in pair]
        clock = iter([edge for span in spans for edge in (0.0, span)])
        monkeypatch.setattr(devices.time, "perf_counter", lambda clock=clock: next(clock))
        assert devices._bf16_is_faster.__wrapped__() is expected


def test_explicit_dtype_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.choose_dtype(CPU, BIG, "fp32") is torch.float32
    assert devices.choose_dtype(CPU, 1, "bfloat16") is torch.bfloat16
    with pytest.raises(UsageError, match="unknown dtype `int4`"):
        devices.choose_dtype(CPU, BIG, "int4")
    monkeypatch.setattr(devices, "_cuda_has_bf16", lambda device: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ModelError, match="`Tesla T4` has no bfloat16"):
        devices.choose_dtype(CUDA, BIG, "bf16")


def test_core_count_respects_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hasattr(devices.os, "sched_getaffinity"):
        monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: {3})
        assert devices.available_cores() == 1
    quota = tmp_path / "cpu.max"
    assert devices._cgroup_cpu_quota(quota) is None
    quota.write_text("max 100000\n")
    assert devices._cgroup_cpu_quota(quota) is None
    quota.write_text("250000 100000\n")
    assert devices._cgroup_cpu_quota(quota) == 2
    quota.write_text("10000 100000\n")
    assert devices._cgroup_cpu_quota(quota) == 1


def test_thread_count_follows_the_cores_unless_set_by_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(devices, "available_cores", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    devices.set_num_threads()
    assert asked == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    devices.set_num_threads()
    assert asked == [7]


def test_openmp_spin_time_is_short_unless_set_by_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    devices.set_num_threads()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("PASSIVE", "6000")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    devices.set_num_threads()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_peak_memory_is_that_of_the_process() -> None:
    assert devices.peak_memory_bytes(CPU) > 50_000_000


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
        ),
        MemoryError(),
    ],
)
def test_out_of_memory_error_has_a_hint(error: BaseException) -> None:
    with (
        pytest.raises(ModelError, match="`cuda:0` ran out of memory while reading") as caught,
        wrap_torch_errors("cuda:0", "reading"),
    ):
        raise error
    assert "--max-frames" in str(caught.value.hint)
    assert "--device cpu" in str(caught.value.hint)
    assert caught.value.__cause__ is error


def test_failed_cpu_allocation_is_an_out_of_memory_error() -> None:
    with (
        pytest.raises(ModelError, match="ran out of memory") as caught,
        wrap_torch_errors("cpu", "encoding"),
    ):
        torch.empty(2**50, dtype=torch.uint8)
    assert "--device cpu" not in str(caught.value.hint)


def test_other_runtime_errors_are_one_line() -> None:
    told = r"^`cuda:0` failed while answering: CUDA error: bad$"
    with pytest.raises(ModelError, match=told), wrap_torch_errors("cuda:0", "answering"):
        raise RuntimeError("CUDA error: bad\nCUDA kernel errors might be …")


def test_hint_for_weights_over_the_memory_does_not_name_frames() -> None:
    assert "--max-frames" not in str(out_of_memory("cpu", LOADING).hint)
    assert "--max-frames" in str(out_of_memory("cpu", "encoding the frames").hint)
