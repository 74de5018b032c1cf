"""Baselines: other inference engines that are measured against ours, where they are installed.

A baseline reads model files of its own, which its ``export_module`` writes:
``python -m smolvideo.bench.… CHECKPOINT FOLDER DTYPE``, in a separate process, so that the
conversion does not affect the measurement.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smolvideo.bench.llama_cpp_engine import LlamaCppEngine
from smolvideo.bench.llama_cpp_export import import_gguf, import_llama_cpp
from smolvideo.bench.openvino_engine import OpenVinoEngine, import_openvino
from smolvideo.engines import StreamingEngine
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint


@dataclass(frozen=True)
class Baseline:
    """``package`` is what is measured; each of ``import_checks`` raises UsageError where a package
    is missing."""

    package: str
    import_checks: tuple[Callable[[], object], ...]
    export_module: str
    load: Callable[[Checkpoint, Path, str], StreamingEngine]


BASELINES = {
    "openvino": Baseline(
        "openvino", (import_openvino,), "smolvideo.bench.openvino_engine", OpenVinoEngine
    ),
    "llama.cpp": Baseline(
        "llama-cpp-python",
        (import_llama_cpp, import_gguf),
        "smolvideo.bench.llama_cpp_export",
        LlamaCppEngine,
    ),
}


def check_baseline(name: str, device: str) -> None:
    """Raise UsageError where the baseline is not installed, or ``device`` is not the CPU."""
    for find in BASELINES[name].import_checks:
        find()
    if device not in ("auto", "cpu"):
        raise UsageError(f"`--against {name}` measures on the CPU", hint="add `--device cpu`")
