"""Several processes of one thread each, which average their gradients.

On shared machines this outruns one process of several threads, whose threads wait for each other at
every product.
"""

import signal
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as distributed
from torch import Tensor

from smolvideo.errors import ModelError

Work = Callable[[int, int], None]
"""What a process does, given its rank and how many there are; must be picklable."""


def run_in_processes(work: Work, ranks: int, meeting: Path) -> None:
    """``work`` in ``ranks`` processes, rank 0 in this one; they meet through the file ``meeting``.

    Raises ModelError when one of the others is lost.
    """
    if ranks == 1:
        torch.set_num_threads(1)
        work(0, 1)
        return
    meeting.unlink(missing_ok=True)
    spawn = torch.multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=_work_aside, args=(work, rank, ranks, meeting), daemon=True)
        for rank in range(1, ranks)
    ]
    for process in others:
        process.start()
    try:
        _work_together(work, 0, ranks, meeting)
    except RuntimeError as error:
        if all(process.is_alive() for process in others):
            raise
        raise ModelError(
            "a process of the training was lost", hint="the same command goes on where it stopped"
        ) from error
    finally:
        for process in others:
            process.join(timeout=5)
            process.kill()
        meeting.unlink(missing_ok=True)


def averaged(tensors: list[Tensor], ranks: int) -> list[Tensor]:
    """The mean of every tensor over all processes, in one exchange."""
    if ranks == 1:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= ranks
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def _work_aside(work: Work, rank: int, ranks: int, meeting: Path) -> None:
    # Ctrl-C reaches every process of a terminal: rank 0 ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work_together(work, rank, ranks, meeting)


def _work_together(work: Work, rank: int, ranks: int, meeting: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=meeting.resolve().as_uri(), rank=rank, world_size=ranks
    )
    try:
        work(rank, ranks)
    finally:
        distributed.destroy_process_group()
