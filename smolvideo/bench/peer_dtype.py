"""Choose the dtype that a baseline computes in."""

from smolvideo.engines.devices import choose_dtype
from smolvideo.models import Checkpoint


def peer_dtype(checkpoint: Checkpoint, dtype: str) -> str:
    """Return the dtype of a baseline on the CPU, chosen as for our own engines there.

    Raises UsageError for an unknown ``dtype``.
    """
    import torch

    parameters = 0 if checkpoint.weights is None else checkpoint.weights.parameters
    return str(choose_dtype(torch.device("cpu"), parameters, dtype)).removeprefix("torch.")
