"""The engine of a record, loaded again, and how it differs from the one that answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from smolvideo.engines import ENGINES, Engine, EngineSpec, settled_arithmetic
from smolvideo.engines import REMOTE_ENGINE as SERVER
from smolvideo.errors import ModelError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.models.weight_hash import weights_hash
from smolvideo.pipeline import package_versions
from smolvideo.progress import OnProgress, no_progress
from smolvideo.replay.comparison import Comparison, ReplayOptions


class RecordedModel(Protocol):
    """What records say of the model and how it ran."""

    @property
    def model(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def adapter(self) -> str | None: ...
    @property
    def engine(self) -> str | None: ...
    @property
    def device(self) -> str | None: ...
    @property
    def dtype(self) -> str | None: ...
    @property
    def quantize(self) -> str | None: ...
    @property
    def arithmetic(self) -> str | None: ...
    @property
    def versions(self) -> Mapping[str, str]: ...


@dataclass
class EnginePool:
    """Engines by their settings: records of one model share one."""

    options: ReplayOptions
    adapter: Path | None = None
    on_progress: OnProgress = no_progress
    _loaded: dict[EngineSpec, Engine] = field(default_factory=dict)
    _opened: dict[EngineSpec, Checkpoint] = field(default_factory=dict)

    def why_not(self, recorded: RecordedModel) -> str | None:
        """Return why records of this model cannot be replayed here; None if they can."""
        if recorded.model is None or recorded.engine is None:
            return "it does not say which model answered"
        if recorded.engine == SERVER:
            return "a server answered, whose weights and arithmetic are not known here"
        if recorded.engine not in ENGINES:
            return f"the engine `{recorded.engine}` is not known here"
        if recorded.adapter is not None and self.adapter is None:
            return "a LoRA adapter was merged: name its folder with `--adapter`"
        return None

    def checkpoint(self, recorded: RecordedModel) -> Checkpoint:
        """Open the checkpoint of a record, with its weights. Raises ModelError."""
        spec = self._spec(recorded)
        if spec not in self._opened:
            self._opened[spec] = spec.checkpoint(weights=True, on_progress=self.on_progress)
        return self._opened[spec]

    def engine(self, recorded: RecordedModel) -> Engine:
        """Load the engine of a record; on another device where its own is missing. Raises
        ModelError and UsageError as ``load_engine``."""
        spec = self._spec(recorded)
        if spec not in self._loaded:
            try:
                self._loaded[spec] = spec.load(on_progress=self.on_progress)
            except (ModelError, UsageError):
                if self.options.device is not None or spec.device == "cpu":
                    raise
                other = EngineSpec(spec.model, spec.revision, spec.offline, spec.engine)
                self._loaded[spec] = other.load(on_progress=self.on_progress)
        return self._loaded[spec]

    def close(self) -> None:
        """Free all weights."""
        for engine in self._loaded.values():
            engine.close()

    def _spec(self, recorded: RecordedModel) -> EngineSpec:
        given = self.options
        quantize = recorded.quantize or "none"
        dtype = given.dtype or recorded.dtype or "auto"
        is_own = given.dtype is None and given.engine is None
        arithmetic = recorded.arithmetic if is_own and recorded.arithmetic == "int8" else "float"
        return EngineSpec(
            model=given.model or str(recorded.model),
            revision=None if given.model else recorded.revision,
            offline=given.offline,
            engine=given.engine or str(recorded.engine),
            device=given.device or recorded.device or "auto",
            dtype=dtype,
            quantize=quantize,
            arithmetic=arithmetic or "float",
            adapter=None if self.adapter is None else str(self.adapter),
        )


def compare_checkpoint(
    comparison: Comparison,
    recorded: RecordedModel,
    weights: str | None,
    checkpoint: Checkpoint,
) -> bool:
    """Compare model and weights; return whether they are equal."""
    names = {
        "model": recorded.model,
        "revision": recorded.revision,
        "adapter": recorded.adapter,
    }
    found = {
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "adapter": checkpoint.adapter_sha256,
    }
    same = comparison.values("model", names, found)
    if weights is not None:
        now = weights_hash(checkpoint)
        same &= comparison.values("weights", {"weights": weights}, {"weights": now})
    return same


def compare_engine(comparison: Comparison, recorded: RecordedModel, engine: Engine) -> None:
    """Compare the versions of the packages, and the arithmetic."""
    comparison.values("versions", recorded.versions, package_versions())
    names = ("device", "dtype", "quantize", "arithmetic")
    before: dict[str, Any] = {name: getattr(recorded, name) for name in ("engine", *names)}
    now: dict[str, Any] = {"engine": engine.name} | {name: getattr(engine, name) for name in names}
    if "auto" in (before["arithmetic"], now["arithmetic"]):  # not decided: there were no frames
        now["arithmetic"] = before["arithmetic"] = settled_arithmetic(engine)
    comparison.values("arithmetic", before, now)
