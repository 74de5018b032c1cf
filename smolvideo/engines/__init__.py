"""Engines: what turns a prompt into an answer.

An engine is a loaded checkpoint on one device. ``load_engine`` picks one by name; a name that was
asked for never falls back to another.
"""

from smolvideo.engines.base import (
    Engine,
    EngineLoader,
    GenerationOptions,
    StreamingEngine,
    format_dtype,
)
from smolvideo.engines.devices import QUANTISATIONS
from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.load import CACHING_ENGINES, ENGINES, EngineSpec, load_engine
from smolvideo.engines.native import NativeEngine
from smolvideo.engines.session import Session, SessionEngine
from smolvideo.engines.transformers import TransformersEngine

__all__ = [
    "CACHING_ENGINES",
    "ENGINES",
    "QUANTISATIONS",
    "Engine",
    "EngineLoader",
    "EngineSpec",
    "FeatureCache",
    "GenerationOptions",
    "NativeEngine",
    "Session",
    "SessionEngine",
    "StreamingEngine",
    "TransformersEngine",
    "format_dtype",
    "load_engine",
]
