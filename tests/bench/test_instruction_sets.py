"""A cap reaches every library, and a cap that the processor lacks is an error."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from smolvideo.bench import BenchOptions, instruction_sets, report
from smolvideo.bench.instruction_sets import (
    INSTRUCTION_SETS,
    _set_of,
    available_sets,
    cap_environment,
    capped_environment,
    check_isa,
)
from smolvideo.bench.measure import BenchTask
from smolvideo.cli.bench import bench
from smolvideo.engines import devices
from smolvideo.errors import UsageError

AVX2 = ("avx2", "fma", "f16c", "bmi2")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
PROCESSORS = {
    "Haswell": (AVX2, ("avx2",)),
    "Alder Lake": ((*AVX2, "avx_vnni"), ("avx2", "avx2_vnni")),
    "Ice Lake": ((*AVX512, "avx512_vnni"), ("avx2", "avx512", "avx512_vnni")),
    "Sapphire Rapids": (
        (*AVX512, "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16"),
        tuple(INSTRUCTION_SETS),
    ),
    "Arm": (("asimd", "bf16"), ()),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_sets_are_those_of_the_processor(name: str) -> None:
    flags, expected = PROCESSORS[name]
    assert available_sets(flags) == expected
    for isa in INSTRUCTION_SETS:
        if isa in expected:
            check_isa(isa, flags)
        else:
            with pytest.raises(UsageError, match=f"no `{isa}`") as error:
                check_isa(isa, flags)
            assert all(f"`{one}`" in str(error.value.hint) for one in expected)


EXTENSIONS = ("avxvnni", "avx512f", "avx512bw", "avx512vnni", "avx512vbmi", "avx512bf16")
LLVM = ("avx2", *EXTENSIONS, "amx-bf16")


@pytest.mark.parametrize(
    ("isa", "on"),
    [
        ("avx2", {"avx2"}),
        ("avx2_vnni", {"avx2", "avxvnni"}),
        ("avx512", {"avx2", "avx512f", "avx512bw"}),
        ("avx512_vnni", {"avx2", "avx512f", "avx512bw", "avx512vnni", "avx512vbmi"}),
        (
            "avx512_bf16",
            {"avx2", "avx512f", "avx512bw", "avx512vnni", "avx512vbmi", "avx512bf16"},
        ),
    ],
)
@pytest.mark.parametrize("lacking", [set(), {"avx2"}, {"avx512vbmi", "avx512bf16"}, set(LLVM)])
def test_numba_gets_the_features_of_the_cap_that_there_are(
    isa: str, on: set[str], lacking: set[str]
) -> None:
    features = dict.fromkeys(LLVM, True) | dict.fromkeys(lacking, False)
    switches = capped_environment(isa, features)["NUMBA_CPU_FEATURES"].split(",")
    assert {one[1:] for one in switches} == set(LLVM)
    assert {one[1:] for one in switches if one[0] == "+"} == on - lacking


def test_libraries_run_the_cap() -> None:
    """torch's own answer, and kernels for another processor than that of an uncapped process."""
    if "avx2" not in available_sets():
        pytest.skip("hardware: no AVX2")
    program = (
        "import json, torch; from smolvideo.bench.instruction_sets import torch_instruction_set; "
        "from smolvideo.engines.devices import cpu_has_bf16; "
        "print(json.dumps([torch_instruction_set(), cpu_has_bf16()]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=cap_environment("avx2"),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert json.loads(run.stdout) == ["torch AVX2, oneDNN AVX2, MKL AVX2, numba avx2", False]


@pytest.mark.parametrize(
    ("primitive", "expected"),
    [
        ("brgemm_avx2_f32", ["avx2"]),
        ("brgconv_avx512_1x1_f32", ["avx512"]),
        ("jit_avx512_f32", ["avx512"]),
        ("brgemm_avx512_amx_bf16", ["avx512"]),
        ("ref_any_f32", []),
        ("unknown_i32", []),
    ],
)
def test_instruction_set_of_a_primitive(primitive: str, expected: list[str]) -> None:
    assert _set_of(primitive) == expected


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ATEN_CPU_CAPABILITY", "avx2", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True),
        ("ATEN_CPU_CAPABILITY", "avx512", True),
    ],
)
def test_auto_takes_no_bfloat16_below_a_cap(
    variable: str, value: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_features", lambda: frozenset({"avx512_bf16"}))
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    assert devices.cpu_has_bf16() is expected


def test_cap_that_the_processor_lacks_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets, "cpu_features", lambda: frozenset(AVX2))
    with pytest.raises(UsageError, match="no `avx512_vnni`") as error:
        bench.main(["--isa", "avx512_vnni"], standalone_mode=False)
    assert error.value.hint == "it has `avx2`"


def test_memory_sweep_measures_each_number_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[BenchTask] = []

    def measure(task: BenchTask) -> SimpleNamespace:
        tasks.append(task)
        return SimpleNamespace(peak_memory_bytes=1000 + task.frames)

    monkeypatch.setattr(report, "_in_a_process", measure)
    task = BenchTask("native", "nano", "v.mp4", 8, 4, "cpu", "auto", isa="avx2")
    options = BenchOptions(memory_sweep=(1, 100))
    assert report._sweep_memory(options, task, lambda _: None) == {1: 1001, 100: 1100}
    assert all(one.first_question_only and one.isa == "avx2" for one in tasks)
    assert report._sweep_memory(BenchOptions(), task, lambda _: None) is None
