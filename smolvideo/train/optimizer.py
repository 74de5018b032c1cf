"""Muon and Adam as one optimizer of a bfloat16 network, and training states on disk.

Hidden matrices take Muon's orthogonalised steps (Keller Jordan, 2024), everything else Adam's. The
master weights accumulate updates that are too small for bfloat16 weights.
"""

import copy
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from smolvideo.errors import RecordError
from smolvideo.files import open_atomic
from smolvideo.sanitize import display_path

MUON_RATE = 0.01
ADAM_RATE = 0.002


Trained = TypeVar("Trained", bound=nn.Module)


class MasterOptimizer(Generic[Trained]):
    """``masters`` are the float32 weights; ``working_copy`` is the bfloat16 copy to compute with.

    Parameters without ``requires_grad`` at construction are not trained.
    """

    def __init__(self, masters: Trained) -> None:
        self.working_copy = copy.deepcopy(masters).bfloat16()
        named = {name: p for name, p in masters.named_parameters() if p.requires_grad}
        hidden = [p for name, p in named.items() if _takes_muon(name, p)]
        others = [p for name, p in named.items() if not _takes_muon(name, p)]
        self._muon = torch.optim.Muon(hidden, lr=MUON_RATE, weight_decay=0.0, momentum=0.95)
        self._adam = torch.optim.Adam(others, lr=ADAM_RATE, betas=(0.9, 0.98))
        copies = dict(self.working_copy.named_parameters())
        self._pairs = [(master, copies[name]) for name, master in named.items()]

    def gradients(self) -> list[Tensor]:
        """Return the working copy's gradients as float32, zeros for parameters without one."""
        return [
            torch.zeros_like(master) if run.grad is None else run.grad.float()
            for master, run in self._pairs
        ]

    def step(self, gradients: Iterable[Tensor], rate: float) -> None:
        """Clip the gradients and take one step at the share ``rate`` of the full learning rates."""
        for (master, run), gradient in zip(self._pairs, gradients, strict=True):
            master.grad, run.grad = gradient, None
        nn.utils.clip_grad_norm_([master for master, _ in self._pairs], 1.0)
        optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (self._muon, MUON_RATE),
            (self._adam, ADAM_RATE),
        ]
        for optimizer, full in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = full * rate
            optimizer.step()
        with torch.no_grad():
            for master, run in self._pairs:
                run.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
        with torch.no_grad():
            for master, run in self._pairs:
                run.copy_(master)


def _takes_muon(name: str, parameter: Tensor) -> bool:
    """Whether Muon takes a parameter: matrices of layers, not embeddings or output layers."""
    return parameter.ndim == 2 and "layers" in name


def save_state(content: Any, path: Path) -> None:
    """Write tensors and plain values to a temporary file next to ``path`` and rename it.

    Raises RecordError if the write fails, for example on a full disk; the old file stays then.
    """
    try:
        with open_atomic(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
        reason = error.strerror if isinstance(error, OSError) else None
        raise RecordError(
            f"cannot write {display_path(path)}: {reason or _first_line(error)}",
            hint="with room on the disk the same command goes on from the last state saved",
        ) from error


def load_state(path: Path) -> Any:
    """Load a state of ``save_state``. Raises RecordError if it is missing or damaged."""
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise RecordError(
            f"{display_path(path)} is no state of a training that can be read",
            hint="delete it and the states beside it, or name another `--out`",
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
