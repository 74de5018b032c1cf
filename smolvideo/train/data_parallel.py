"""Data-parallel optimization: processes that average their gradients, Muon and Adam, saved states.

Single-threaded processes are faster on shared machines than one process of several threads, which
wait for each other at a barrier after every matrix product. Hidden matrices take Muon's
orthogonalised steps (Keller Jordan, 2024), everything else Adam's. The master weights accumulate
updates that are too small for bfloat16 weights.
"""

import copy
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from smolvideo.engines.base import set_block_bytes
from smolvideo.engines.devices import available_cores, cpu_has_bf16, first_line
from smolvideo.errors import ModelError, RecordError, UsageError
from smolvideo.files import open_atomic
from smolvideo.sanitize import display_path

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

BYTES_PER_PROCESS = {torch.bfloat16: 2_000_000_000, torch.float32: 4_000_000_000}
"""Maximum memory of one training process, with 50 frames and their gradients, by the dtype."""
_KEPT_BLOCK_BYTES = 1 << 30
_SECONDS_TO_END = 5.0
_LOOPBACK = "127.0.0.1"
_RENDEZVOUS_TIMEOUT = timedelta(minutes=5)

Work = Callable[[int, int], None]
"""The function of a process; its arguments are rank and world size. Must be picklable."""


def training_dtype() -> torch.dtype:
    """Return bfloat16 where the processor has bfloat16 products, which are emulated elsewhere."""
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def processes_that_fit(wanted: int | None) -> int:
    """Return the number of processes to run: ``wanted``, or as many as cores and memory allow.

    Raises UsageError if ``wanted`` exceeds either, or if there is no memory for one process.
    """
    import psutil

    cores, free = available_cores(), psutil.virtual_memory().available
    needed = BYTES_PER_PROCESS[training_dtype()]
    with_memory = free // needed
    ranks = wanted or max(1, min(cores, with_memory))
    if ranks > cores:
        raise UsageError(
            f"{ranks} processes cannot work side by side on {cores} cores",
            hint=f"each needs a core and {needed / 1e9:.0f} GB of memory; leave out `--processes`",
        )
    if ranks > with_memory:
        raise UsageError(
            f"{ranks} processes need {ranks * needed / 1e9:.0f} GB of memory, and "
            f"{free / 1e9:.1f} are free",
            hint=f"`--processes {with_memory}`" if with_memory else "end other programs first",
        )
    return ranks


def spawn(work: Work, ranks: int) -> None:
    """Run ``work`` in ``ranks`` processes, rank 0 in this one.

    Raises ModelError if one of the other processes dies.
    """
    # Each step frees gigabytes that the next one takes again: half of its time were page faults.
    set_block_bytes(_KEPT_BLOCK_BYTES)
    if ranks == 1:
        torch.set_num_threads(1)
        work(0, 1)
        return
    store, port = _listening_store()
    spawn = torch.multiprocessing.get_context("spawn")
    children: list[_ChildProcess] = []
    try:
        for rank in range(1, ranks):
            ours, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(
                target=_child_main, args=(work, rank, ranks, port, theirs), daemon=True
            )
            process.start()
            theirs.close()
            children.append(_ChildProcess(process, ours))
        _wait_until_ready(children)
        _work_together(work, 0, ranks, store)
    except RuntimeError as error:
        # The connection breaks a moment before the process has exited: wait for either.
        ready = [handle for child in children for handle in (child.pipe, child.process.sentinel)]
        wait(ready, timeout=_SECONDS_TO_END)
        lost = [one for one in children if one.pipe.poll() or not one.process.is_alive()]
        if not lost:
            raise
        raise _loss_error(lost) from error
    finally:
        for child in children:
            child.process.join(timeout=_SECONDS_TO_END)
            child.process.kill()


def _listening_store() -> "tuple[TCPStore, int]":
    """Return the key-value store through which the processes exchange their addresses, and its
    port. It listens on the loopback interface only, where torch's own socket would listen on all.
    """
    listener = socket.create_server((_LOOPBACK, 0))
    port = listener.getsockname()[1]
    store: TCPStore = distributed.TCPStore(  # type: ignore[attr-defined]
        _LOOPBACK,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=_RENDEZVOUS_TIMEOUT,
        master_listen_fd=listener.detach(),
    )
    return store, port


class _ChildProcess(NamedTuple):
    """A process and its pipe: it sends None before the rendezvous, later its error."""

    process: Any
    pipe: Any  # a Connection, but on Windows a PipeConnection


def _wait_until_ready(children: list[_ChildProcess]) -> None:
    """Wait until every process is about to join the rendezvous; waiting for a dead one there would
    take until the timeout. Raises ModelError.
    """
    waiting = list(children)
    while waiting:
        wait([handle for child in waiting for handle in (child.pipe, child.process.sentinel)])
        for child in list(waiting):
            if child.pipe.poll():
                waiting.remove(child)
                if (message := _receive(child.pipe)) is not None:
                    raise _loss_error([child], message)
            elif not child.process.is_alive():
                raise _loss_error([child])


def _receive(pipe: Any) -> str | None:
    try:
        message: str | None = pipe.recv()
    except (EOFError, OSError):
        return "it ended"
    return message


def _loss_error(children: list[_ChildProcess], message: str | None = None) -> ModelError:
    """Build the error for the first dead process, with its own message if it sent one."""
    for child in children:
        if message is None and child.pipe.poll():
            message = _receive(child.pipe)
        child.process.join(timeout=_SECONDS_TO_END)
        if child.process.exitcode == -9:  # SIGKILL, which does not exist on Windows
            message = "the system killed it, perhaps for lack of memory"
    return ModelError(
        "a process of the training was lost" + (f": {message}" if message else ""),
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


def _child_main(work: Work, rank: int, ranks: int, port: int, pipe: Connection) -> None:
    # The terminal sends Ctrl-C to every process; rank 0 ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe.send(None)
    try:
        store: TCPStore = distributed.TCPStore(  # type: ignore[attr-defined]
            _LOOPBACK, port, timeout=_RENDEZVOUS_TIMEOUT
        )
        _work_together(work, rank, ranks, store)
    except Exception as error:
        with suppress(OSError):
            pipe.send(first_line(error))
        sys.exit(1)


def _work_together(work: Work, rank: int, ranks: int, store: "TCPStore") -> None:
    set_block_bytes(_KEPT_BLOCK_BYTES)
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
    try:
        work(rank, ranks)
    finally:
        distributed.destroy_process_group()


MUON_RATE = 0.01
ADAM_RATE = 0.002


Trained = TypeVar("Trained", bound=nn.Module)


class MasterOptimizer(Generic[Trained]):
    """``masters`` are the float32 weights; ``working_copy`` is the copy to compute with, of
    ``training_dtype``.

    Parameters without ``requires_grad`` at construction are not trained.
    """

    def __init__(self, masters: Trained) -> None:
        self.dtype = training_dtype()
        self.working_copy = copy.deepcopy(masters).to(self.dtype)
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
            f"cannot write {display_path(path)}: {reason or first_line(error)}",
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
