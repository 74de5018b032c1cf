"""Speed and memory of engines, stage by stage, on checkpoints or on random weights."""

from smolvideo.bench.report import BenchOptions, BenchReport, run_bench

__all__ = ["BenchOptions", "BenchReport", "run_bench"]
