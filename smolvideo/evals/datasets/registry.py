"""Registry of the benchmarks: a new one is one file in ``schemas`` and two entries here."""

from collections.abc import Mapping
from typing import Literal

from smolvideo.evals.datasets.schemas.cinepile import CinePile
from smolvideo.evals.datasets.schemas.egoschema import EgoSchema
from smolvideo.evals.datasets.schemas.jsonl import OwnQuestions
from smolvideo.evals.datasets.schemas.longvideobench import LongVideoBench
from smolvideo.evals.datasets.schemas.lvbench import LvBench
from smolvideo.evals.datasets.schemas.mlvu import Mlvu
from smolvideo.evals.datasets.schemas.mmvu import Mmvu
from smolvideo.evals.datasets.schemas.mvbench import MvBench
from smolvideo.evals.datasets.schemas.nextqa import NextQa
from smolvideo.evals.datasets.schemas.perceptiontest import PerceptionTest
from smolvideo.evals.datasets.schemas.schema import Schema
from smolvideo.evals.datasets.schemas.tempcompass import TempCompass
from smolvideo.evals.datasets.schemas.videomme import VideoMme
from smolvideo.evals.datasets.schemas.worldsense import WorldSense

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
        CinePile(),
        VideoMme(),
        MvBench(),
        EgoSchema(),
        Mlvu(),
        LongVideoBench(),
        TempCompass(),
        WorldSense(),
        NextQa(),
        PerceptionTest(),
        LvBench(),
        Mmvu(),
        OwnQuestions(),
    )
}
"""Benchmark → its schema, in the order of the help."""
