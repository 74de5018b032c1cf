"""Two optimizers as one, over float32 masters of a network that computes in bfloat16.

Hidden matrices take Muon's orthogonalised steps (Keller Jordan, 2024), everything else Adam's. The
masters keep what a bfloat16 weight is too coarse to add up.
"""

import copy
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

MUON_RATE = 0.01
ADAM_RATE = 0.002


Trained = TypeVar("Trained", bound=nn.Module)


class MasterOptimizer(Generic[Trained]):
    """``masters`` keep the float32 weights; ``working_copy`` is the bfloat16 copy to compute with.

    Parameters that need no gradient when it is made are left alone.
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
        """The gradients of the running network as float32, zeros where none came."""
        return [
            torch.zeros_like(master) if run.grad is None else run.grad.float()
            for master, run in self._pairs
        ]

    def step(self, gradients: Iterable[Tensor], rate: float) -> None:
        """One step down these gradients at a share of the full learning rates."""
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
    """Matrices inside the network; embeddings, heads and the first and last layers are not."""
    return parameter.ndim == 2 and "layers" in name
