"""Measurements as on another processor: the instruction set is capped for every library that asks.

torch, oneDNN, MKL and numba read a cap of their own from the environment when they are loaded, so a
capped engine runs in a process of its own. MKL computes torch's products of float32 matrices that
are not packed, and OpenVINO carries a oneDNN that reads the same variable.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from smolvideo.engines.devices import cpu_features
from smolvideo.errors import UsageError


@dataclass(frozen=True)
class InstructionSet:
    """``flags`` of /proc/cpuinfo that it needs, and its names in the libraries' own variables."""

    flags: frozenset[str]
    onednn: str
    aten: str
    mkl: str


_AVX2 = frozenset({"avx2", "fma", "f16c", "bmi2"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_VNNI = _AVX512 | {"avx512_vnni"}

INSTRUCTION_SETS = {
    "avx2": InstructionSet(_AVX2, "AVX2", "avx2", "AVX2"),
    "avx2_vnni": InstructionSet(_AVX2 | {"avx_vnni"}, "AVX2_VNNI", "avx2", "AVX2"),
    "avx512": InstructionSet(_AVX512, "AVX512_CORE", "avx512", "AVX512"),
    "avx512_vnni": InstructionSet(_VNNI, "AVX512_CORE_VNNI", "avx512", "AVX512"),
    "avx512_bf16": InstructionSet(_VNNI | {"avx512_bf16"}, "AVX512_CORE_BF16", "avx512", "AVX512"),
}
"""Caps by name. ``avx2`` is that of most laptops before 2021, ``avx2_vnni`` of Intel's since the
12th generation, ``avx512_vnni`` of Ice Lake, Tiger Lake and Rocket Lake."""

_LLVM_NAMES = {"avx_vnni": "avxvnni", "avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16"}
_EXTENSIONS = ("avx512", "avx10", "avxvnni", "avxifma", "avxneconvert", "amx")
"""Beginnings of LLVM's names of the extensions that a cap may leave out."""


def available_sets(flags: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the names of the sets that this processor has, by its ``flags`` (/proc/cpuinfo)."""
    found = frozenset((cpu_features() or ()) if flags is None else flags)
    return tuple(name for name, one in INSTRUCTION_SETS.items() if one.flags <= found)


def check_isa(name: str, flags: Iterable[str] | None = None) -> None:
    """Raise UsageError where this processor has not the instruction set ``name``."""
    available = available_sets(flags)
    if name not in available:
        known = ", ".join(f"`{one}`" for one in available) or "none of those that can be capped"
        raise UsageError(
            f"this processor has no `{name}`, and a cap cannot add it", hint=f"it has {known}"
        )


def capped_environment(name: str, llvm_features: Mapping[str, bool]) -> dict[str, str]:
    """Return the variables that cap torch, oneDNN, MKL and numba to the set ``name``.

    ``llvm_features`` are those of this processor; extensions that are not part of the set are
    switched off. numba's disk cache needs no folder of its own: kernels are cached by the features
    that they are compiled for.
    """
    chosen = INSTRUCTION_SETS[name]
    kept = {_LLVM_NAMES.get(flag, flag) for flag in chosen.flags}
    wide = chosen.aten == "avx512"
    if wide and "avx512vnni" in kept:  # Ice Lake and later, where they come with VNNI
        kept |= {one for one in llvm_features if one.startswith(("avx512vbmi", "avx512ifma"))}
    features = [
        ("-" if one.startswith(_EXTENSIONS) and one not in kept else "+" if has else "-") + one
        for one, has in sorted(llvm_features.items())
    ]
    return {
        "ATEN_CPU_CAPABILITY": chosen.aten,
        "ONEDNN_MAX_CPU_ISA": chosen.onednn,
        "MKL_ENABLE_INSTRUCTIONS": chosen.mkl,
        "NUMBA_CPU_FEATURES": ",".join(features),
    }


def cap_environment(name: str | None) -> dict[str, str]:
    """Return the environment of a process that is capped to ``name``; this one's for None."""
    if name is None:
        return dict(os.environ)
    from llvmlite import binding

    return {**os.environ, **capped_environment(name, binding.get_host_cpu_features())}


def torch_instruction_set() -> str:
    """Describe what torch, oneDNN and numba run in this process, by their own answers."""
    import torch

    from smolvideo.network.compilation import has_numba

    parts = [f"torch {torch.backends.cpu.get_cpu_capability()}"]
    parts += [
        f"{library} {os.environ[variable]}"
        for library, variable in (
            ("oneDNN", "ONEDNN_MAX_CPU_ISA"),
            ("MKL", "MKL_ENABLE_INSTRUCTIONS"),
        )
        if variable in os.environ
    ]
    if has_numba():
        from smolvideo.network.kernels.jit import compile_target

        features = compile_target()[2].split(",")
        names = ("avx2", "avxvnni", "avx512f", "avx512vnni", "avx512bf16")
        parts.append("numba " + "+".join(name for name in names if f"+{name}" in features))
    return ", ".join(parts)


def openvino_instruction_set(models: Iterable[Any]) -> str:
    """Describe what OpenVINO runs: instruction set → number of nodes of the compiled ``models``.

    Its runtime graph names the primitive of each node: ``brgemm_avx2_f32``.
    """
    found: Counter[str] = Counter()
    layers: dict[str, set[str]] = {}
    for model in models:
        for node in model.get_runtime_model().get_ops():
            info = node.get_rt_info()
            if "primitiveType" in info and "layerType" in info:
                for name in _set_of(info["primitiveType"].astype(str)):
                    found[name] += 1
                    layers.setdefault(name, set()).add(info["layerType"].astype(str))
    return ", ".join(
        f"{name} in {count} nodes ({' '.join(sorted(layers[name]))})"
        for name, count in found.most_common()
    )


def _set_of(primitive: str) -> list[str]:
    """Return the instruction set in the name of a primitive, in a list; empty where it has none."""
    words = primitive.split("_")
    return [word for word in words if word.startswith(("avx", "sse", "amx"))][:1]
