"""Engines: inference on a loaded checkpoint, from prompts to streamed answers.

An engine is a checkpoint loaded on one device. ``load_engine`` chooses one by name; an explicit
name never falls back to another engine.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from smolvideo.engines.answer_grammar import IncompleteAnswerError
from smolvideo.engines.arithmetic import ARITHMETICS, settled_arithmetic
from smolvideo.engines.base import (
    Engine,
    EngineLoader,
    GenerationOptions,
    OnToken,
    StreamingEngine,
    format_dtype,
)
from smolvideo.engines.devices import QUANTIZATIONS
from smolvideo.engines.feature_cache import FeatureCache
from smolvideo.engines.logprobs import LogprobRecorder, TokenLogprob
from smolvideo.engines.native import NativeEngine, compile_kernels, load_native_engine
from smolvideo.engines.remote import REMOTE_ENGINE, RemoteEngine, remote_checkpoint
from smolvideo.engines.session import Session, SessionEngine
from smolvideo.engines.transformers import TransformersEngine, load_transformers_engine
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.progress import OnProgress, no_progress

__all__ = [
    "ARITHMETICS",
    "CACHING_ENGINES",
    "ENGINES",
    "QUANTIZATIONS",
    "REMOTE_ENGINE",
    "Engine",
    "EngineLoader",
    "EngineSpec",
    "FeatureCache",
    "GenerationOptions",
    "IncompleteAnswerError",
    "LogprobRecorder",
    "NativeEngine",
    "OnToken",
    "RemoteEngine",
    "Session",
    "SessionEngine",
    "StreamingEngine",
    "TokenLogprob",
    "TransformersEngine",
    "compile_kernels",
    "format_dtype",
    "load_engine",
    "remote_checkpoint",
    "settled_arithmetic",
]


ENGINES: dict[str, EngineLoader] = {
    "native": load_native_engine,
    "transformers": load_transformers_engine,
}
"""Engine name → loader; the first is what ``auto`` means."""

CACHING_ENGINES = ("auto", "native")
"""Names of engines that use a ``cache``: the reference, ``transformers``, computes everything
itself."""


def load_engine(
    checkpoint: Checkpoint | str | Path,
    *,
    engine: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    arithmetic: str = "auto",
    adapter: str | Path | None = None,
    offline: bool = False,
    cache: FeatureCache | None = None,
    on_progress: OnProgress = no_progress,
) -> Engine:
    """Load ``checkpoint`` as an engine; a name or folder is opened first.

    With a ``cache`` the features of known frames are read from it, and others are stored in it;
    without one nothing is written to the disk. With ``quantize="int8"`` most weights take half the
    memory of bfloat16, with ``"int4"`` those of the decoder's layers two fifths, and the others as
    with int8; both are for the engine ``native`` on a CPU. With ``arithmetic="int8"`` frames and
    prompts are multiplied in int8, several times as fast where a CPU has no bfloat16 products;
    ``auto`` does so where ``dtype`` is ``auto`` and the checkpoint loses little (see
    ``engines.arithmetic``). ``adapter`` is the folder of a LoRA adapter, which is merged into the
    weights before they are quantized.

    Raises UsageError for unknown names of engines, devices, dtypes, quantizations and arithmetics,
    for a ``cache`` with an engine that does not use one, and for quantized weights or int8
    arithmetic where they are not supported; ModelError where the checkpoint is missing or broken,
    or where this machine lacks the device or the memory.
    """
    name = next(iter(ENGINES)) if engine == "auto" else engine
    if name not in ENGINES:
        known = ", ".join(f"`{known}`" for known in ("auto", *ENGINES))
        raise UsageError(f"unknown engine `{engine}`", hint=f"one of {known}")
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = open_checkpoint(checkpoint, offline=offline, on_progress=on_progress)
    if adapter is not None:
        checkpoint = checkpoint.with_adapter(Path(adapter))
    return ENGINES[name](
        checkpoint,
        device=device,
        dtype=dtype,
        quantize=quantize,
        arithmetic=arithmetic,
        cache=cache,
        on_progress=on_progress,
    )


@dataclass(frozen=True)
class EngineSpec:
    """A model and how it runs, as given on the command line; nothing is opened yet.

    ``model_reason`` is why ``auto`` chose the model; None where it was named. ``adapter`` is the
    folder of a LoRA adapter, None without one. ``base_url`` is that of a server that answers, with
    the engine ``openai``.
    """

    model: str
    revision: str | None = None
    offline: bool = False
    engine: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    arithmetic: str = "auto"
    model_reason: str | None = None
    adapter: str | None = None
    base_url: str | None = None

    def checkpoint(
        self, *, weights: bool = False, on_progress: OnProgress = no_progress
    ) -> Checkpoint:
        """Open the model's checkpoint; raises as ``open_checkpoint`` does.

        Weights are downloaded only on request: scanning a source does not need them.
        """
        if self.base_url is not None:
            return remote_checkpoint(self.base_url, self.model)
        checkpoint = open_checkpoint(
            self.model,
            revision=self.revision,
            offline=self.offline,
            weights=weights,
            on_progress=on_progress,
        )
        checkpoint = replace(checkpoint, model_reason=self.model_reason)
        return checkpoint if self.adapter is None else checkpoint.with_adapter(Path(self.adapter))

    def load(
        self, *, cache: FeatureCache | None = None, on_progress: OnProgress = no_progress
    ) -> Engine:
        """Load the engine, and download weights if need be; raises as ``open_checkpoint`` and
        ``load_engine`` do."""
        if self.base_url is not None:
            return RemoteEngine.connect(self.base_url, self.model)
        return load_engine(
            self.checkpoint(weights=True, on_progress=on_progress),
            engine=self.engine,
            device=self.device,
            dtype=self.dtype,
            quantize=self.quantize,
            arithmetic=self.arithmetic,
            cache=cache,
            on_progress=on_progress,
        )
