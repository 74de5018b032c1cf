"""Speed and memory of engines, stage by stage, on checkpoints or on random weights."""

from smolvideo.bench.baselines import BASELINES
from smolvideo.bench.report import BenchOptions, BenchReport, run_bench

__all__ = ["BASELINES", "BenchOptions", "BenchReport", "run_bench"]
