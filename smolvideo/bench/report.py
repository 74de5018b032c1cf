"""Measure engines, alternating, and report their medians and ratios.

Checkpoints may have random weights: speed does not depend on the weights' values.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from smolvideo.bench.input_videos import write_noise_video
from smolvideo.bench.instruction_sets import cap_environment, check_isa
from smolvideo.bench.measure import (
    BASELINES,
    BenchTask,
    Measurement,
    check_baseline,
    engine_name,
    logprob_error,
)
from smolvideo.bench.picture import PictureMeasurement, PictureTask, picture_ratios
from smolvideo.engines.devices import package_version, processor_name
from smolvideo.errors import ModelError
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weights import expected_shapes
from smolvideo.sanitize import visible_json


def write_random_weights(config: Path, folder: Path) -> Path:
    """Copy the files of ``config`` and write random bfloat16 weights for it to ``folder``.

    Raises ModelError where ``config`` is no folder with a SmolVLM's configuration.
    """
    import torch
    from safetensors.torch import save_file

    if not config.is_dir():
        raise ModelError(f"no folder `{config}`")
    network_config = NetworkConfig.from_json(read_json(config / "config.json"))
    folder.mkdir(parents=True, exist_ok=True)
    for file in config.glob("*.json"):
        if not file.name.endswith(".index.json"):
            shutil.copyfile(file, folder / file.name)
    random = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in expected_shapes(network_config).items():
        weight = torch.empty(shape, dtype=torch.bfloat16)
        if len(shape) > 1:
            # Each output is a sum over its inputs: this keeps its variance near one.
            weight.normal_(0.0, 1.0 / weight[0].numel() ** 0.5, generator=random)
        else:
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
        weights[name] = weight
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


OnBenchProgress = Callable[[str], None]
"""Called with a few words on the step that begins."""


@dataclass(frozen=True)
class BenchOptions:
    """``config`` is a folder with a configuration, used with random weights in place of ``model``.

    ``video`` is the file to take frames from; by default a video of one second per frame is
    rendered. ``repeats`` measurements of each engine are made in turns, so that load on the machine
    affects them alike; medians are reported.

    ``engines`` are names in ``ENGINES`` or ``BASELINES``. With a ``quantize`` the engine ``native``
    with such weights is measured against itself without. ``isa`` is one of ``INSTRUCTION_SETS``,
    to which all engines are capped that respect it. ``memory_sweep`` are numbers of frames for
    which the peak memory of the first engine is measured, too. ``arithmetic`` is that of the
    engine ``native``; weight formats are compared in floating point unless it is given.
    ``adapter`` is the folder of a LoRA adapter.
    """

    engines: tuple[str, ...] = ("native", "transformers")
    model: str = "nano"
    config: Path | None = None
    video: Path | None = None
    frames: int = 50
    new_tokens: int = 32
    repeats: int = 3
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    isa: str | None = None
    arithmetic: str = "auto"
    memory_sweep: tuple[int, ...] = ()
    adapter: Path | None = None

    @property
    def variants(self) -> tuple[tuple[str, str], ...]:
        """Engines with their weight formats."""
        if self.quantize != "none":
            return ("native", self.quantize), ("native", "none")
        return tuple((engine, "none") for engine in self.engines)

    def arithmetic_of(self, engine: str) -> str:
        """Arithmetic that ``engine`` is loaded with."""
        if engine != "native":
            return "auto"
        is_compared = self.quantize != "none" and self.arithmetic == "auto"
        return "float" if is_compared else self.arithmetic


@dataclass(frozen=True)
class BenchReport:
    """Medians of each engine; ``ratios`` compare the first engine with the second.

    ``encode``, ``first_token``, ``generation`` and ``next_question`` are speedups of the first;
    ``twenty_questions`` is the time of twenty questions relative to one. ``log_probability_error``
    is that of quantized weights, on the first question's next token. ``memory_by_frames`` maps the
    frames of ``memory_sweep`` to peak memory in bytes.
    """

    options: BenchOptions
    measured: tuple[Measurement, ...]
    ratios: dict[str, float]
    machine: dict[str, Any]
    log_probability_error: dict[str, float] | None = None
    memory_by_frames: dict[int, int | None] | None = None

    def to_json(self) -> str:
        """Serialize to one line."""
        options = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self.options).items()
        }
        content = {
            "options": options,
            "engines": {one.name: asdict(one) for one in self.measured},
            "ratios": {name: round(ratio, 3) for name, ratio in self.ratios.items()},
            "peak_memory_bytes": {one.name: one.peak_memory_bytes for one in self.measured},
            "machine": self.machine,
        }
        if self.log_probability_error is not None:
            content["log_probability_error"] = self.log_probability_error
        if self.memory_by_frames is not None:
            content["memory_by_frames"] = self.memory_by_frames
        return visible_json(json.dumps(content))


def run_bench(options: BenchOptions, on_progress: OnBenchProgress = lambda _: None) -> BenchReport:
    """Measure each engine ``repeats`` times, in turns.

    Raises UsageError where a baseline is not installed or does not support the device, or this
    processor lacks the instruction set; ModelError where a measurement fails, with the last line of
    its output.
    """
    if options.isa is not None:
        check_isa(options.isa)
    peers = [engine for engine in options.engines if engine in BASELINES]
    for peer in peers:
        check_baseline(peer, options.device)
        options = replace(options, device="cpu")  # same device for all, else nothing is compared
    with tempfile.TemporaryDirectory(prefix="smolvideo-bench-") as folder:
        # checkpoint, video and exported files
        checkpoint = options.model
        if options.config is not None:
            checkpoint = str(write_random_weights(options.config, Path(folder) / "random"))
        video = options.video
        if video is None:
            video = Path(folder) / "video.mp4"
            write_noise_video(video, max(options.frames, *options.memory_sweep, 1))
        for peer in peers:
            on_progress(f"converting for {peer}")
            arguments = [checkpoint, str(Path(folder) / peer), options.dtype]
            _run(BASELINES[peer].export_module, arguments, f"converting for `{peer}`")
        # measure in turns
        tasks = _tasks(options, checkpoint, video, Path(folder))
        runs: dict[str, list[Measurement]] = {name: [] for name in tasks}
        for number in range(options.repeats):
            for name, task in tasks.items():
                on_progress(f"measuring {name}, {number + 1} of {options.repeats}")
                runs[name].append(_in_a_process(task))
        memory = _sweep_memory(options, next(iter(tasks.values())), on_progress)
        error = None
        if options.quantize != "none":
            ours, theirs = (Path(task.log_probabilities or "") for task in tasks.values())
            error = logprob_error(ours, theirs)
    measured = tuple(medians(runs[name]) for name in tasks)
    return BenchReport(options, measured, ratios(measured), machine(options.engines), error, memory)


@dataclass(frozen=True)
class PictureReport:
    """One picture and a question: medians of a checkpoint and of its peer; ``ratios`` are the
    checkpoint's advantages (``picture_ratios``)."""

    measured: tuple[PictureMeasurement, ...]
    ratios: dict[str, float]
    machine: dict[str, Any]

    def to_json(self) -> str:
        """Serialize to one line."""
        content = {
            "engines": {one.name: asdict(one) for one in self.measured},
            "ratios": {name: round(ratio, 3) for name, ratio in self.ratios.items()},
            "machine": self.machine,
        }
        return visible_json(json.dumps(content))


def run_picture_bench(
    options: BenchOptions,
    peer: PictureTask,
    on_progress: OnBenchProgress = lambda _: None,
) -> PictureReport:
    """Measure the checkpoint of ``options`` and ``peer`` with the picture of ``peer``, in turns.

    Raises ModelError where a measurement fails, with the last line of its output.
    """
    with tempfile.TemporaryDirectory(prefix="smolvideo-bench-") as folder:
        checkpoint = options.model
        if options.config is not None:
            checkpoint = str(
                write_random_weights(options.config, Path(folder) / options.config.name)
            )
        ours = replace(peer, model=checkpoint, arithmetic=options.arithmetic, shapes={})
        runs: dict[str, list[PictureMeasurement]] = {"native": [], peer.model: []}
        for number in range(options.repeats):
            for name, task in zip(runs, (ours, peer), strict=True):
                on_progress(f"measuring {name}, {number + 1} of {options.repeats}")
                found = _last_json("smolvideo.bench.picture", asdict(task), f"measuring `{name}`")
                runs[name].append(PictureMeasurement(**found))
    measured = tuple(medians(of_one) for of_one in runs.values())
    return PictureReport(measured, picture_ratios(*measured), machine())


def _sweep_memory(
    options: BenchOptions, task: BenchTask, on_progress: OnBenchProgress
) -> dict[int, int | None] | None:
    """Measure the peak memory of one engine for several numbers of frames; None for none."""
    if not options.memory_sweep:
        return None
    peaks = {}
    for frames in options.memory_sweep:
        on_progress(f"measuring the memory of {task.engine} for {frames} frames")
        one = replace(task, frames=frames, log_probabilities=None, first_question_only=True)
        peaks[frames] = _in_a_process(one).peak_memory_bytes
    return peaks


def _tasks(
    options: BenchOptions, checkpoint: str, video: Path, folder: Path
) -> dict[str, BenchTask]:
    """Task of each variant, by its name."""
    tasks = {}
    for engine, quantize in options.variants:
        name = engine_name(engine, quantize)
        kept = None if options.quantize == "none" else str(folder / f"{name}.npy")
        tasks[name] = BenchTask(
            engine,
            checkpoint,
            str(video),
            options.frames,
            options.new_tokens,
            options.device,
            options.dtype,
            quantize,
            kept,
            str(folder / engine) if engine in BASELINES else None,
            options.isa,
            options.arithmetic_of(engine),
            adapter=None if options.adapter is None else str(options.adapter),
        )
    return tasks


def _in_a_process(task: BenchTask) -> Measurement:
    what = f"measuring `{task.engine}`"
    found = _last_json("smolvideo.bench.measure", asdict(task), what, cap_environment(task.isa))
    return Measurement(**found)


def _last_json(
    module: str,
    task: Mapping[str, Any],
    what: str,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run ``python -m module`` with ``task``; return its last output line. Raises ModelError."""
    lines = _run(module, [json.dumps(task)], what, environment)
    if not lines:
        raise ModelError(f"{what} failed: it said nothing")
    return dict(json.loads(lines[-1]))


def _run(
    module: str,
    arguments: Sequence[str],
    what: str,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Run ``python -m module`` and return its output lines. Raises ModelError where it fails."""
    run = subprocess.run(
        [sys.executable, "-X", "utf8", "-m", module, *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env=environment,
    )
    if run.returncode:
        said = (run.stderr.strip() or f"exit code {run.returncode}").splitlines()[-1]
        raise ModelError(f"{what} failed: {said}")
    return run.stdout.strip().splitlines()


_Measured = TypeVar("_Measured", Measurement, PictureMeasurement)


def medians(runs: Sequence[_Measured]) -> _Measured:
    """Return the median of each number; strings are the same in all runs."""
    values: dict[str, Any] = {}
    for field in fields(runs[0]):
        found = [getattr(run, field.name) for run in runs]
        numbers = [value for value in found if isinstance(value, int | float)]
        values[field.name] = found[0]
        if len(numbers) == len(found):
            kind = type(found[0])
            values[field.name] = kind(statistics.median(numbers))
    return type(runs[0])(**values)


def ratios(measured: Sequence[Measurement]) -> dict[str, float]:
    """Compare the first engine with the second, where there are two; see ``BenchReport``."""
    first = measured[0]
    compared: dict[str, float] = {}
    if len(measured) > 1:
        peer = measured[1]
        compared = {
            "encode": peer.encode / first.encode,
            "first_token": peer.first_token / first.first_token,
            "generation": first.tokens_per_second / peer.tokens_per_second,
            "next_question": peer.next_question / first.next_question,
        }
    compared["next_question_sooner"] = first.first_token / first.next_question
    if first.twenty_questions is not None:
        compared["twenty_questions"] = first.twenty_questions / first.one_question
    return compared


def machine(engines: Sequence[str] = ()) -> dict[str, Any]:
    """Describe the machine of the measurements, with the versions of baselines among
    ``engines``."""
    import psutil

    peers = [BASELINES[name].package for name in engines if name in BASELINES]
    packages = ("smolvideo", "torch", "transformers", "av", *peers)
    return {
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "versions": {name: package_version(name) for name in packages},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that holds this file; None where it was installed."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # no git here
        return None
    return found.stdout.strip()
