"""Compare readers, alternating, on the same files, against a lower bound (``floor``).

The lower bound is the time to decode the packets that the wanted frames require, from the key frame
before each of them on, without opening, seeking or conversion to images.
"""

import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smolvideo.bench.frame_extraction import (
    BASELINE_SUFFIX,
    LOWER_BOUND,
    ExtractionTask,
    ExtractionTiming,
)
from smolvideo.bench.report import machine
from smolvideo.errors import ReaderError
from smolvideo.readers import READERS, open_video
from smolvideo.readers.registry import PACKAGES
from smolvideo.sampling import FrameSampling, sample_times
from smolvideo.sanitize import visible_json

_LOOK_SECONDS = 0.02

OnMethod = Callable[[str, str, int, int], None]
"""Called with ``(file, way, run, runs)`` before each measurement."""


@dataclass(frozen=True)
class MethodResult:
    """Medians of one method on one file; if it failed, ``error`` in place of them."""

    way: str
    wall: float | None = None
    cpu: float | None = None
    peak_memory_bytes: int | None = None
    frames: int = 0
    error: str | None = None


@dataclass(frozen=True)
class FileResult:
    """``must_decode`` packets take ``floor`` seconds to decode."""

    name: str
    seconds: float
    must_decode: int
    floor: float
    floor_cpu: float
    ways: tuple[MethodResult, ...]

    def slowdown(self, way: MethodResult) -> float | None:
        """Wall time of a method as a multiple of the lower bound."""
        return None if way.wall is None else way.wall / self.floor


@dataclass(frozen=True)
class FramesReport:
    """Results of ``smolvideo bench frames``."""

    frames: int
    repeats: int
    files: tuple[FileResult, ...]

    def to_json(self) -> str:
        """Serialize to one line."""
        files = [
            asdict(file) | {"times_floor": {way.way: file.slowdown(way) for way in file.ways}}
            for file in self.files
        ]
        content = {"frames": self.frames, "repeats": self.repeats, "files": files}
        return visible_json(json.dumps(content | {"machine": machine()}))


def installed_methods() -> list[str]:
    """``auto``, the readers, and their decoders in a reference loop, as far as they are
    installed."""
    there = [name for name in READERS if importlib.util.find_spec(PACKAGES[name]) is not None]
    return ["auto", *there, *(name + BASELINE_SUFFIX for name in there)]


def bench_frames(
    paths: Sequence[Path],
    ways: Sequence[str],
    *,
    frames: int,
    repeats: int,
    on_way: OnMethod = lambda *_: None,
) -> FramesReport:
    """Measure each method ``repeats`` times on each file, in turns.

    Raises ReaderError for a file that ``auto`` cannot read.
    """
    files = []
    for path in paths:
        # times of the frames, as ``ask`` would sample them
        with open_video(path) as reader:
            metadata = reader.metadata
            times = tuple(sample_times(metadata, FrameSampling(max_frames=frames)))
        floors: list[ExtractionTiming] = []
        runs: dict[str, list[MethodResult]] = {way: [] for way in ways}
        # measure in turns: the lower bound, then each method that has not failed
        for number in range(repeats):
            on_way(path.name, LOWER_BOUND, number + 1, repeats)
            found = _in_a_process(ExtractionTask(LOWER_BOUND, str(path), times))
            if isinstance(found, MethodResult):
                raise ReaderError(f"cannot measure `{path.name}`: {found.error}")
            floors.append(found[0])
            for way in ways:
                if any(run.error for run in runs[way]):
                    continue
                on_way(path.name, way, number + 1, repeats)
                runs[way].append(_result(ExtractionTask(way, str(path), times)))
        # medians
        floor = sorted(floors, key=lambda one: one.wall)[len(floors) // 2]
        files.append(
            FileResult(
                name=path.name,
                seconds=metadata.duration_seconds,
                must_decode=floor.decoded or 0,
                floor=floor.wall,
                floor_cpu=floor.cpu,
                ways=tuple(_median(runs[way]) for way in ways),
            )
        )
    return FramesReport(frames, repeats, tuple(files))


def _result(task: ExtractionTask) -> MethodResult:
    found = _in_a_process(task)
    if isinstance(found, MethodResult):
        return found
    measured, peak = found
    return MethodResult(task.way, measured.wall, measured.cpu, peak, measured.frames)


def _median(runs: Sequence[MethodResult]) -> MethodResult:
    failed = [run for run in runs if run.error]
    if failed:
        return failed[0]
    return replace(
        runs[0],
        wall=statistics.median(run.wall or 0.0 for run in runs),
        cpu=statistics.median(run.cpu or 0.0 for run in runs),
        peak_memory_bytes=max(run.peak_memory_bytes or 0 for run in runs),
    )


def _in_a_process(task: ExtractionTask) -> tuple[ExtractionTiming, int] | MethodResult:
    """Run a task in a process of its own; return its timing and the peak memory of the process and
    its children."""
    python = [sys.executable, "-X", "utf8"]
    command = [*python, "-m", "smolvideo.bench.frame_extraction", json.dumps(asdict(task))]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        peak = _largest_memory(process)
        out, said = process.communicate()
    lines = out.strip().splitlines()
    if process.returncode or not lines:
        last = (said.strip() or f"exit code {process.returncode}").splitlines()[-1]
        return MethodResult(task.way, error=last)
    found: dict[str, Any] = json.loads(lines[-1])
    return ExtractionTiming(**found), peak


def _largest_memory(process: "subprocess.Popen[str]") -> int:
    """Poll the resident memory of ``process`` and its children until it ends; return the peak."""
    import psutil

    peak = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for one in (watched, *watched.children(recursive=True)):
                total += one.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
        peak = max(peak, total)
        time.sleep(_LOOK_SECONDS)
    return peak
