"""Engines: what turns a prompt into an answer.

An engine is a loaded checkpoint on one device. ``load_engine`` picks one by name; a name that was
asked for never falls back to another.
"""

from pathlib import Path

from smolvideo.engines.base import Engine, EngineLoader, GenerationOptions, told_format
from smolvideo.engines.devices import QUANTISATIONS
from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.native import NativeEngine, load_native_engine
from smolvideo.engines.session import Session
from smolvideo.engines.transformers import TransformersEngine, load_transformers_engine
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.progress import OnProgress, no_progress

ENGINES: dict[str, EngineLoader] = {
    "native": load_native_engine,
    "transformers": load_transformers_engine,
}
"""Name → what loads it; the first is what ``auto`` means."""

CACHING_ENGINES = ("auto", "native")
"""Names that go with a ``cache``: the reference, ``transformers``, computes everything itself."""

__all__ = [
    "CACHING_ENGINES",
    "ENGINES",
    "QUANTISATIONS",
    "Engine",
    "EngineLoader",
    "FeatureCache",
    "GenerationOptions",
    "NativeEngine",
    "Session",
    "TransformersEngine",
    "load_engine",
    "told_format",
]


def load_engine(
    checkpoint: Checkpoint | str | Path,
    *,
    engine: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    quantise: str = "none",
    offline: bool = False,
    cache: FeatureCache | None = None,
    on_progress: OnProgress = no_progress,
) -> Engine:
    """``checkpoint`` loaded and ready to answer; a name or folder is opened first.

    With a ``cache`` frames that it knows are not encoded again, and others are kept in it; without
    one nothing is written to the disk. With ``quantise="int8"`` most weights take half the memory
    of bfloat16, with ``"int4"`` those of the decoder's layers less than a third, and the others as
    with int8; both are for the engine ``native`` on a CPU.

    Raises UsageError for unknown names of engines, devices, dtypes and quantisations, for a
    ``cache`` with an engine that keeps nothing, and for quantised weights where they cannot be had;
    ModelError where the checkpoint is missing or broken, or where this machine lacks the device or
    the memory.
    """
    name = next(iter(ENGINES)) if engine == "auto" else engine
    if name not in ENGINES:
        known = ", ".join(f"`{known}`" for known in ("auto", *ENGINES))
        raise UsageError(f"unknown engine `{engine}`", hint=f"one of {known}")
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = open_checkpoint(checkpoint, offline=offline, on_progress=on_progress)
    return ENGINES[name](
        checkpoint,
        device=device,
        dtype=dtype,
        quantise=quantise,
        cache=cache,
        on_progress=on_progress,
    )
