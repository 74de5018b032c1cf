"""Compare predicted with measured seconds to the first token and peak memory.

    python tests/stress/predicted_cost.py --processor-files ../shared/processor_files

For each model (published shapes, random weights) and number of frames the machine is measured, the
cost predicted, and the answer computed, in subprocesses and within the same minute. ``--cpu``
compares CPU seconds on one thread, for a machine with other load. Exits with 1 where a prediction
of seconds is off by more than a quarter, or one of memory by more than a tenth.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from smolvideo.bench.input_videos import write_noise_video
from smolvideo.bench.report import write_random_weights
from smolvideo.cost import measure_rates, predict_uncorrected
from smolvideo.engines import EngineSpec, GenerationOptions, load_engine
from smolvideo.engines.arithmetic import choose_arithmetic
from smolvideo.engines.devices import choose_device, choose_dtype, peak_memory_bytes
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.pipeline import open_for_plan, plan_prompt, prepare, stream_answer
from smolvideo.progress import Progress
from smolvideo.sampling import FrameSampling
from smolvideo.source import resolve_source

NAMES = ("SmolVLM2-256M-Video-Instruct", "SmolVLM2-500M-Video-Instruct")
QUESTION = "What happens in this video, and why?"
GENERATION = GenerationOptions(max_new_tokens=16)
STAGES = ("load", "encode", "prefill")
MAX_OFF = {"first token": 0.25, "memory": 0.10}


def predicted(folder: str, video: str, frames: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the prediction of ``smolvideo plan``, with rates measured now."""
    model = open_for_plan(EngineSpec(folder))
    (source,) = resolve_source(video)
    planned = plan_prompt(
        model, [source], QUESTION, sampling=FrameSampling(frames), generation=GENERATION
    )
    rates = measure_rates(clock=clock)
    got = predict_uncorrected(model.cost, planned.size, rates)
    decode = sum(planned.seconds.values())
    return {**got.seconds, "decode": decode, "memory": got.memory_bytes}


def usual_arithmetic(checkpoint: Checkpoint) -> str:
    """Return the arithmetic of later answers: the first one of a checkpoint compares two."""
    assert checkpoint.weights is not None
    device = choose_device("auto")
    parameters = checkpoint.weights.parameters
    chosen = choose_arithmetic(
        "auto",
        device=device,
        dtype=choose_dtype(device, parameters, "auto"),
        is_auto_dtype=True,
        parameters=parameters,
    )
    return "int8" if chosen == "auto" else chosen


def measured(folder: str, video: str, frames: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the measured cost of the answer."""
    checkpoint = open_checkpoint(Path(folder))
    prepared = prepare(
        checkpoint, video, QUESTION, sampling=FrameSampling(frames), generation=GENERATION
    )
    arithmetic = usual_arithmetic(checkpoint)
    began: dict[str, float] = {"load": clock()}
    engine = load_engine(checkpoint, arithmetic=arithmetic)
    began["loaded"] = clock()

    def note(progress: Progress) -> None:
        began.setdefault(progress.stage, clock())

    stream_answer(engine, prepared, on_progress=note).result()
    import torch

    return {
        "load": began["loaded"] - began["load"],
        "encode": began["prefill"] - began["encode"],
        "prefill": began["generate"] - began["prefill"],
        "decode": prepared.seconds["decode"],
        "memory": peak_memory_bytes(torch.device("cpu")),
    }


def in_process(what: str, folder: Path, video: Path, frames: int, *, cpu: bool) -> dict[str, float]:
    """Run one of the two in a subprocess."""
    words = [sys.executable, __file__, "--run", what, str(folder), str(video), str(frames)]
    threads = {"OMP_NUM_THREADS": "1"} if cpu else {}
    done = subprocess.run(
        [*words, *(["--cpu"] if cpu else [])],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **threads},
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, frames: int, one: dict[str, float], other: dict[str, float]) -> bool:
    """Print a row per figure; return whether the predictions are close enough."""
    near = True
    for figures in (one, other):
        figures["first token"] = sum(figures[stage] for stage in STAGES)
    for figure in (*STAGES, "decode", "first token", "memory"):
        scale, unit = (1e6, "MB") if figure == "memory" else (1.0, "s")
        ratio = one[figure] / max(other[figure], 1e-9)
        off = figure in MAX_OFF and not 1 - MAX_OFF[figure] <= ratio <= 1 + MAX_OFF[figure]
        near = near and not off
        mark = "  off" if off else ""
        print(  # noqa: T201 -- a program
            f"{name:30} {frames:3} {figure:12} {one[figure] / scale:8.1f} {unit:2} "
            f"{other[figure] / scale:8.1f} {unit:2} {ratio:6.2f}{mark}",
            flush=True,
        )
    return near


def main() -> int:
    """Run all comparisons; return 1 where a prediction is too far off."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processor-files", type=Path, metavar="DIR")
    parser.add_argument("--models", nargs="+", default=NAMES, metavar="NAME")
    parser.add_argument("--frames", nargs="+", type=int, default=[10, 50], metavar="N")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        what, folder, video, frames = given.run
        clock = time.process_time if given.cpu else time.perf_counter
        run = {"predicted": predicted, "measured": measured}[what]
        print(json.dumps(run(folder, video, int(frames), clock)))  # noqa: T201 -- its result
        return 0
    if given.processor_files is None:
        parser.error("--processor-files is needed")
    near = True
    print(f"{'model':30} {'n':>3} {'figure':12} {'predicted':>11} {'measured':>11}  ratio")  # noqa: T201 -- a program
    with tempfile.TemporaryDirectory(prefix="smolvideo-trial-") as work:
        video = Path(work) / "noise.mp4"
        write_noise_video(video, 60)
        for name in given.models:
            folder = write_random_weights(given.processor_files / name, Path(work) / name)
            for frames in given.frames:
                figures = (
                    in_process(what, folder, video, frames, cpu=given.cpu)
                    for what in ("predicted", "measured")
                )
                near &= compare(name, frames, *figures)
    return int(not near)


if __name__ == "__main__":
    sys.exit(main())
