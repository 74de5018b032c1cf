"""``--model auto``: choice among the checkpoints on this machine, with its reason.

Drawn videos are nano's. Everything else is for the best published checkpoint that is here, fits the
free memory, and has its first token within ``MAX_FIRST_TOKEN_SECONDS``: SmolVLM2 before the first
generation, larger before smaller. Where all that are here are slower, the fastest one answers.
Nothing is downloaded.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from smolvideo.cost.measure import rates_for
from smolvideo.cost.operations import NumberFormat, weight_bytes
from smolvideo.cost.predict import predict_first_token
from smolvideo.cost.rates import RateRequest, kept_rates
from smolvideo.engines import Engine, EngineSpec, FeatureCache
from smolvideo.engines import load_engine as load_named_engine
from smolvideo.errors import ModelError, SmolVideoError, UsageError
from smolvideo.models import (
    Checkpoint,
    LocalCheckpoint,
    ModelSpec,
    find_model,
    list_local,
    open_checkpoint,
)
from smolvideo.models.adapter import base_of_adapter
from smolvideo.models.registry import is_auto
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling
from smolvideo.source import VideoSource

MAX_FIRST_TOKEN_SECONDS = 60.0
"""Longest time to the first token that a larger model may take: a minute is what a question may
cost before a smaller model is worth more than its errors."""

RANKING = (
    "smolvlm2-2.2b",
    "smolvlm2-500m",
    "smolvlm2-256m",
    "smolvlm-2.2b",
    "smolvlm-2.2b-synthetic",
    "smolvlm-500m",
    "smolvlm-256m",
)
"""The published checkpoints that follow instructions, the best first."""

_DOWNLOADS = RANKING[:3]
_WITHOUT_MEASUREMENT = "smolvlm2-500m"
"""The largest that is proposed where this machine was not measured."""
_WORKING_BYTES = 1_000_000_000
"""Memory beside the weights, where this machine was not measured."""


@dataclass(frozen=True)
class Candidate:
    """A published checkpoint on this machine: peak memory, and seconds to the first token, which
    are None where the machine was not measured."""

    name: str
    is_here: bool
    memory_bytes: int
    seconds: float | None

    @property
    def is_quick(self) -> bool:
        """Whether the first token comes within the bound."""
        if self.seconds is None:
            return RANKING.index(self.name) >= RANKING.index(_WITHOUT_MEASUREMENT)
        return self.seconds <= MAX_FIRST_TOKEN_SECONDS


@dataclass(frozen=True)
class ModelChoice:
    """The name of a checkpoint, and why ``auto`` took it."""

    model: str
    reason: str


class NoModelError(ModelError):
    """No checkpoint on this machine can answer; ``offers`` are those that could be downloaded, the
    proposed one first. ``nearest`` is that one, or where nothing fits the one that needs least."""

    def __init__(
        self, message: str, *, hint: str, offers: Sequence[Candidate], nearest: Candidate
    ) -> None:
        super().__init__(message, hint=hint)
        self.offers = tuple(offers)
        self.nearest = nearest


def choose(candidates: Iterable[Candidate], *, drawn: bool, free_bytes: int) -> ModelChoice | None:
    """Apply the rule to ``candidates``, in any order; None if none that is here can answer."""
    if drawn:
        return ModelChoice("nano", "all videos are drawn, which is what nano knows")
    ranked = sorted(candidates, key=lambda one: RANKING.index(one.name))
    fitting = [one for one in ranked if one.is_here and one.memory_bytes <= free_bytes]
    if not fitting:
        return None
    quick = next((one for one in fitting if one.is_quick), None)
    if quick is not None:
        return ModelChoice(quick.name, f"the best on this machine: {_cost(quick, free_bytes)}")
    fastest = min(fitting, key=lambda one: one.seconds or 0.0)
    return ModelChoice(fastest.name, f"the fastest on this machine: {_cost(fastest, free_bytes)}")


def offers(candidates: Iterable[Candidate], free_bytes: int) -> list[Candidate]:
    """Return what fits this machine and is not on it, the proposed one first."""
    fitting = [
        one
        for one in sorted(candidates, key=lambda one: RANKING.index(one.name))
        if one.name in _DOWNLOADS and not one.is_here and one.memory_bytes <= free_bytes
    ]
    if not any(one.is_quick for one in fitting):
        return sorted(fitting, key=lambda one: one.seconds or 0.0)
    return sorted(fitting, key=lambda one: not one.is_quick)


def choose_model(
    *,
    drawn: bool,
    frames: int,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    measure: bool = False,
    on_progress: OnProgress = no_progress,
) -> ModelChoice:
    """Choose the checkpoint for a question about ``frames`` frames.

    This machine is measured, in about a second, where several checkpoints are here, or with
    ``measure``. Raises NoModelError if there is none; UsageError and ModelError for a device or
    dtype that this machine lacks.
    """
    if drawn:
        return _required(choose((), drawn=True, free_bytes=0))
    local = [one for one in list_local() if one.name in RANKING]
    here = {one.name for one in local if one.problem is None}
    broken = [one for one in local if one.problem is not None and one.has_weights]
    if len(here) > 1 or measure:
        rates_for(
            RateRequest(device, dtype),
            on_measure=lambda: on_progress(Progress("measure")),
        )

    def candidate(name: str) -> Candidate:
        spec = find_model(name)
        found = predict_first_token(spec, frames, device=device, dtype=dtype, quantize=quantize)
        if found is None:
            return Candidate(name, name in here, _rough_memory_bytes(spec, dtype, quantize), None)
        return Candidate(name, name in here, found.memory_bytes, found.first_token)

    candidates = [candidate(name) for name in RANKING]
    free_bytes = free_memory_bytes(device, dtype)
    chosen = choose(candidates, drawn=False, free_bytes=free_bytes)
    if chosen is None:
        raise _no_model(candidates, free_bytes, broken)
    if broken:
        names = " and ".join(f"`{one.name}`" for one in broken)
        return replace(chosen, reason=f"{chosen.reason}; {names} cannot be used: {_repair(broken)}")
    return chosen


def all_drawn(sources: Iterable[VideoSource], *, reader: str = "auto") -> bool:
    """Whether there are sources, and all are drawn videos.

    Videos that cannot be opened do not count: no model is downloaded for them, and their error
    comes when their frames are read.
    """
    found = False
    for source in sources:
        found = True
        if source.kind != "video":
            return False
        try:
            with open_video(source.path, kind=source.kind, reader=reader) as opened:
                if not opened.metadata.is_synthetic:
                    return False
        except SmolVideoError:
            continue
    return found


def load_engine(
    checkpoint: Checkpoint | str | Path,
    *,
    engine: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    adapter: str | Path | None = None,
    offline: bool = False,
    cache: FeatureCache | None = None,
    on_progress: OnProgress = no_progress,
) -> Engine:
    """Load ``checkpoint``, or for ``"auto"`` the best published one on this machine.

    As ``smolvideo.engines.load_engine``; raises as it does, and NoModelError where ``auto`` finds
    none: nothing is downloaded then. What is asked may be real footage, so it never finds nano.
    With an ``adapter``, ``"auto"`` is the checkpoint that it was trained on.
    """
    reason = None
    if adapter is not None and isinstance(checkpoint, str) and is_auto(checkpoint):
        checkpoint = base_of_adapter(Path(adapter))
    if isinstance(checkpoint, str) and is_auto(checkpoint):
        choice = choose_model(
            drawn=False,
            frames=FrameSampling().max_frames,
            device=device,
            dtype=dtype,
            quantize=quantize,
            on_progress=on_progress,
        )
        checkpoint, reason = choice.model, choice.reason
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = open_checkpoint(checkpoint, offline=offline, on_progress=on_progress)
    if reason is not None:
        checkpoint = replace(checkpoint, model_reason=reason)
    return load_named_engine(
        checkpoint,
        engine=engine,
        device=device,
        dtype=dtype,
        quantize=quantize,
        adapter=adapter,
        cache=cache,
        on_progress=on_progress,
    )


def checkpoint_and_loader(
    model: Engine | str | Path,
    *,
    drawn: Callable[[], bool],
    frames: int,
    adapter: str | Path | None = None,
    offline: bool = False,
    on_progress: OnProgress = no_progress,
) -> tuple[Checkpoint, Callable[[], Engine]]:
    """Return the checkpoint of a model, and the function that loads its engine with default
    options; of an engine, its own. A ``Path`` is always a folder.

    ``drawn`` is called for ``auto``: whether the videos are drawn ones, of which ``frames`` are
    asked about; with an ``adapter`` it is the checkpoint that this was trained on. Raises
    UsageError for what is no model and for an adapter of an engine, and as ``open_checkpoint`` and
    ``choose_model`` do.
    """
    if not isinstance(model, str | Path):
        if not hasattr(model, "checkpoint"):
            raise UsageError(f"a model is a name, a folder or an engine, not {model!r:.60}")
        if adapter is not None:
            raise UsageError(
                "a loaded engine cannot take an adapter",
                hint="load it with one: `smolvideo.load_engine(NAME, adapter=DIR)`",
            )
        return model.checkpoint, lambda: model
    if adapter is not None and isinstance(model, str) and is_auto(model):
        model = base_of_adapter(Path(adapter))
    name = str(model.expanduser().absolute()) if isinstance(model, Path) else model
    spec = EngineSpec(name, offline=offline, adapter=None if adapter is None else str(adapter))
    if isinstance(model, str) and is_auto(model):
        choice = choose_model(drawn=drawn(), frames=frames, on_progress=on_progress)
        spec = replace(spec, model=choice.model, model_reason=choice.reason)
    return spec.checkpoint(on_progress=on_progress), partial(spec.load, on_progress=on_progress)


def free_memory_bytes(device: str = "auto", dtype: str = "auto") -> int:
    """Return the free memory, in bytes, of the GPU that answers, else of this machine.

    In a container no more than its control groups leave.
    """
    rates = kept_rates(RateRequest(device, dtype))
    name = device if rates is None else rates.device
    if name.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(name)[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    return min([free, *_cgroup_free_bytes()])


_CGROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Controller of a line of /proc/self/cgroup (none in cgroup v2) → files of limit and use, and the
row of memory.stat with page cache that can be reclaimed.
https://docs.kernel.org/admin-guide/cgroup-v2.html"""


def _cgroup_free_bytes(root: Path = Path("/")) -> Iterator[int]:
    """Yield what each limit on the memory of this process leaves, in bytes: of its control group
    and of those above it, of version 2 or 1. Nothing on other systems."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        controller = "memory" if "memory" in controllers.split(",") else controllers
        if controller not in _CGROUP_FILES:
            continue
        mount = root / "sys/fs/cgroup" / controller
        inside = mount / path.strip("/")
        for folder in (inside, *inside.parents):
            if not folder.is_relative_to(mount):
                break
            with suppress(OSError, ValueError):  # no such file, or the limit is `max`
                yield _left_in(folder, *_CGROUP_FILES[controller])


def _left_in(folder: Path, limit: str, use: str, reclaimable: str) -> int:
    """Return the bytes that a control group leaves. Raises OSError, ValueError without a limit."""
    most, used = (int((folder / name).read_text("ascii")) for name in (limit, use))
    with suppress(OSError, ValueError):
        rows = dict(
            row.split(" ", 1) for row in (folder / "memory.stat").read_text("ascii").splitlines()
        )
        used -= int(rows.get(reclaimable, 0))
    return max(0, most - max(0, used))


def _required(choice: ModelChoice | None) -> ModelChoice:
    assert choice is not None
    return choice


def _rough_memory_bytes(spec: ModelSpec, dtype: str, quantize: str) -> int:
    assert spec.network is not None
    numbers = NumberFormat("float32" if dtype == "float32" else "bfloat16", quantize)
    return weight_bytes(spec.network, numbers) + _WORKING_BYTES


def _cost(one: Candidate, free_bytes: int) -> str:
    memory = f"{one.memory_bytes / 1e9:.1f} of {free_bytes / 1e9:.1f} GB of free memory"
    if one.seconds is None:
        return memory
    return f"{memory}, first token in about {one.seconds:.0f} s"


def _repair(broken: Sequence[LocalCheckpoint]) -> str:
    return "; ".join(one.repair for one in broken)


def _no_model(
    candidates: Sequence[Candidate], free_bytes: int, broken: Sequence[LocalCheckpoint]
) -> NoModelError:
    found = offers(candidates, free_bytes)
    here = [one for one in candidates if one.is_here]
    smallest = min(here or candidates, key=lambda one: one.memory_bytes)
    if here or not found:
        message = (
            f"`{smallest.name}` needs {smallest.memory_bytes / 1e9:.1f} GB of memory, and "
            f"{free_bytes / 1e9:.1f} GB are free"
        )
        if not found:
            hint = "close other programs, or name a model with `--model NAME`"
            return NoModelError(message, hint=hint, offers=(), nearest=smallest)
    else:
        message = "no model for real footage is on this machine"
    if broken and not here:
        message += "".join(f"; `{one.name}` cannot be used: {one.problem}" for one in broken)
        hint = _repair(broken)
        return NoModelError(message, hint=hint, offers=found, nearest=found[0])
    best = find_model(found[0].name)
    size = (best.download_bytes or 0) / 1e9
    hint = f"`smolvideo models pull {best.name}` downloads {size:.1f} GB"
    return NoModelError(message, hint=hint, offers=found, nearest=found[0])
