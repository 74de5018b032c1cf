"""Benchmark of engines, stage by stage: time and memory, on checkpoints or random weights."""

from smolvideo.bench.measure import BASELINES
from smolvideo.bench.report import BenchOptions, BenchReport, run_bench

__all__ = ["BASELINES", "BenchOptions", "BenchReport", "run_bench"]
