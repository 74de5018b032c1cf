"""How many threads one token is worth on a CPU.

The products of a single row read their weights once and compute almost nothing. Waking sleeping
threads for each of them costs tens of microseconds, a hundred times and more per token; waiting
awake in place of that brings a busy machine to a halt.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_BYTES_PER_THREAD = 32 << 20
"""Weights of a layer that keep a thread busy for long: about a millisecond at 30 GB/s. Two threads
were slower than one on 7 and on 19 MB per layer (256M, 500M) and as fast on 128 MB (2.2B), measured
on two busy virtual cores."""


@contextmanager
def threads_worth(layer_bytes: int, device: torch.device) -> Iterator[None]:
    """Let one row's way through layers of ``layer_bytes`` use as many threads as it can feed."""
    before = torch.get_num_threads()
    worth = min(before, max(1, layer_bytes // _BYTES_PER_THREAD))
    if device.type != "cpu" or worth == before:
        yield
        return
    torch.set_num_threads(worth)
    try:
        yield
    finally:
        torch.set_num_threads(before)
