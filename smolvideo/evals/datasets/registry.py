"""Registry of the benchmarks: their names, and the schemas of those with a file of their own."""

from collections.abc import Mapping
from typing import Literal

from smolvideo.evals.datasets.schemas.longvideobench import LongVideoBench
from smolvideo.evals.datasets.schemas.lvbench import LvBench
from smolvideo.evals.datasets.schemas.mlvu import Mlvu
from smolvideo.evals.datasets.schemas.mmvu import Mmvu
from smolvideo.evals.datasets.schemas.nextqa import NextQa
from smolvideo.evals.datasets.schemas.perceptiontest import PerceptionTest
from smolvideo.evals.datasets.schemas.schema import Schema
from smolvideo.evals.datasets.schemas.tempcompass import TempCompass
from smolvideo.evals.datasets.schemas.worldsense import WorldSense
from smolvideo.evals.datasets.table_files import HUB_FILES, HubFilePattern

BenchmarkName = Literal[
    "cinepile",
    "video-mme",
    "mvbench",
    "egoschema",
    "mlvu",
    "longvideobench",
    "tempcompass",
    "worldsense",
    "nextqa",
    "perceptiontest",
    "lvbench",
    "mmvu",
    "jsonl",
]

SCHEMAS: Mapping[str, Schema] = {
    schema.name: schema
    for schema in (
        Mlvu(),
        LongVideoBench(),
        TempCompass(),
        WorldSense(),
        NextQa(),
        PerceptionTest(),
        LvBench(),
        Mmvu(),
    )
}
"""Benchmark → its schema."""


def hub_files(name: str) -> Mapping[str, HubFilePattern]:
    """Return the versions of a benchmark on the hub, the default first; empty without any."""
    return {"main": SCHEMAS[name].hub} if name in SCHEMAS else HUB_FILES.get(name, {})
