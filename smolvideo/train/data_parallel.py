"""Data-parallel training: single-threaded processes that average their gradients.

On shared machines this is faster than one process of several threads, which wait for each other at
a barrier after every matrix product.
"""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as distributed
from torch import Tensor

from smolvideo.engines.devices import available_cores
from smolvideo.errors import ModelError, UsageError

BYTES_PER_PROCESS = 2_000_000_000
"""Maximum memory of one training process, with 50 frames and their gradients."""
_SECONDS_TO_END = 5.0

Work = Callable[[int, int], None]
"""The function of a process; its arguments are rank and world size. Must be picklable."""


def processes_that_fit(wanted: int | None) -> int:
    """Return the number of processes to run: ``wanted``, or as many as cores and memory allow.

    Raises UsageError if ``wanted`` exceeds either, or if there is no memory for one process.
    """
    import psutil

    cores, free = available_cores(), psutil.virtual_memory().available
    with_memory = free // BYTES_PER_PROCESS
    ranks = wanted or max(1, min(cores, with_memory))
    if ranks > cores:
        raise UsageError(
            f"{ranks} processes cannot work side by side on {cores} cores",
            hint="each needs a core and two gigabytes of memory; leave out `--processes`",
        )
    if ranks > with_memory:
        raise UsageError(
            f"{ranks} processes need {ranks * BYTES_PER_PROCESS / 1e9:.0f} GB of memory, and "
            f"{free / 1e9:.1f} are free",
            hint=f"`--processes {with_memory}`" if with_memory else "end other programs first",
        )
    return ranks


def spawn(work: Work, ranks: int, rendezvous: Path) -> None:
    """Run ``work`` in ``ranks`` processes, rank 0 in this one; ``rendezvous`` is the file through
    which they find each other.

    Raises ModelError if one of the other processes dies.
    """
    if ranks == 1:
        torch.set_num_threads(1)
        work(0, 1)
        return
    rendezvous.unlink(missing_ok=True)
    spawn = torch.multiprocessing.get_context("spawn")
    others: list[_Other] = []
    try:
        for rank in range(1, ranks):
            ours, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(
                target=_child_main, args=(work, rank, ranks, rendezvous, theirs), daemon=True
            )
            process.start()
            theirs.close()
            others.append(_Other(process, ours))
        _wait_until_ready(others)
        _work_together(work, 0, ranks, rendezvous)
    except RuntimeError as error:
        # The connection breaks a moment before the process has exited: wait for either.
        signs = [sign for other in others for sign in (other.news, other.process.sentinel)]
        wait(signs, timeout=_SECONDS_TO_END)
        gone = [one for one in others if one.news.poll() or not one.process.is_alive()]
        if not gone:
            raise
        raise _lost(gone) from error
    finally:
        for other in others:
            other.process.join(timeout=_SECONDS_TO_END)
            other.process.kill()
        rendezvous.unlink(missing_ok=True)


class _Other(NamedTuple):
    """A process and its pipe: it sends None before the rendezvous, later its error."""

    process: Any
    news: Connection


def _wait_until_ready(others: list[_Other]) -> None:
    """Wait until every process is about to join the rendezvous; waiting for a dead one there would
    take half an hour until the timeout. Raises ModelError.
    """
    waiting = list(others)
    while waiting:
        wait([sign for other in waiting for sign in (other.news, other.process.sentinel)])
        for other in list(waiting):
            if other.news.poll():
                waiting.remove(other)
                if (said := _received(other.news)) is not None:
                    raise _lost([other], said)
            elif not other.process.is_alive():
                raise _lost([other])


def _received(news: Connection) -> str | None:
    try:
        said: str | None = news.recv()
    except (EOFError, OSError):
        return "it ended"
    return said


def _lost(others: list[_Other], said: str | None = None) -> ModelError:
    """Build the error for the first dead process, with its own message if it sent one."""
    for other in others:
        if said is None and other.news.poll():
            said = _received(other.news)
        other.process.join(timeout=_SECONDS_TO_END)
        if other.process.exitcode == -9:  # SIGKILL, which does not exist on Windows
            said = "the system killed it, perhaps for lack of memory"
    return ModelError(
        "a process of the training was lost" + (f": {said}" if said else ""),
        hint="the same command goes on where it stopped; fewer `--processes` take less memory",
    )


def all_reduce_mean(tensors: list[Tensor], ranks: int) -> list[Tensor]:
    """Average every tensor over all processes, in one all-reduce."""
    if ranks == 1:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= ranks
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def _child_main(work: Work, rank: int, ranks: int, rendezvous: Path, news: Connection) -> None:
    # The terminal sends Ctrl-C to every process; rank 0 ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    news.send(None)
    try:
        _work_together(work, rank, ranks, rendezvous)
    except Exception as error:
        said = str(error).splitlines() or [type(error).__name__]
        with suppress(OSError):
            news.send(said[0])
        sys.exit(1)


def _work_together(work: Work, rank: int, ranks: int, rendezvous: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=rendezvous.resolve().as_uri(), rank=rank, world_size=ranks
    )
    try:
        work(rank, ranks)
    finally:
        distributed.destroy_process_group()
