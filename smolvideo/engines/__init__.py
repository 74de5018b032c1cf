"""Engines: inference on a loaded checkpoint, from prompts to streamed answers.

An engine is a checkpoint loaded on one device. ``load_engine`` chooses one by name; an explicit
name never falls back to another engine.
"""

from smolvideo.engines.base import (
    Engine,
    EngineLoader,
    GenerationOptions,
    StreamingEngine,
    format_dtype,
)
from smolvideo.engines.devices import QUANTIZATIONS
from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.load import CACHING_ENGINES, ENGINES, EngineSpec, load_engine
from smolvideo.engines.native import NativeEngine
from smolvideo.engines.session import Session, SessionEngine
from smolvideo.engines.transformers import TransformersEngine

__all__ = [
    "CACHING_ENGINES",
    "ENGINES",
    "QUANTIZATIONS",
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
