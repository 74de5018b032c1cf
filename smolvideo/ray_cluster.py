"""Work on a Ray cluster: rows in order through a pool of workers, each with one engine.

A worker that dies is replaced, and its block of rows repeated. Files must have the same paths on
all machines. Ray Data: https://docs.ray.io/en/latest/data/data.html
"""

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from smolvideo.engines.devices import first_line
from smolvideo.errors import ModelError, UsageError

if TYPE_CHECKING:
    import psutil

LOCAL = "local"
_SECONDS_TO_END = 2.0
"""Grace period for Ray's processes to exit by themselves, and again after ``terminate``."""
_CORES_OF_WORKER = 4
_MAX_BLOCKS = 1000
"""A block is the unit that is repeated when a worker dies; each costs Ray some milliseconds."""


@dataclass(frozen=True)
class RayOptions:
    """Cluster ``address`` as for ``ray.init``; ``local`` starts workers on this machine.

    ``workers`` is the number of engines; None is one per GPU, or one per four cores.
    """

    address: str = LOCAL
    workers: int | None = None


def map_rows(
    rows: Sequence[dict[str, Any]],
    worker: type,
    arguments: tuple[Any, ...],
    cluster: RayOptions,
) -> Generator[dict[str, Any]]:
    """Yield what the workers return for ``rows``, in order; without rows Ray is not used.

    ``worker(*arguments)`` is an actor that is called with the columns of one row as arrays. Raises
    UsageError where Ray is missing or does not answer, ModelError where the workers fail.
    """
    if not rows:
        return
    with connected(cluster) as ray:
        try:
            yield from _mapped(ray, rows, worker, arguments, cluster).iter_rows()
        except ray.exceptions.RayError as error:
            raise ModelError(f"the workers failed: {first_line(error)}") from error


def _mapped(
    ray: Any,
    rows: Sequence[dict[str, Any]],
    worker: type,
    arguments: tuple[Any, ...],
    cluster: RayOptions,
) -> Any:
    """Build the lazy Ray dataset of the results; iterating it runs the workers."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    gpus = int(ray.cluster_resources().get("GPU", 0))
    cores = int(ray.cluster_resources().get("CPU", 1))
    workers = cluster.workers or gpus or max(1, cores // _CORES_OF_WORKER)
    dataset = ray.data.from_items(list(rows), override_num_blocks=min(len(rows), _MAX_BLOCKS))
    return dataset.map_batches(
        worker,
        fn_constructor_args=arguments,
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
        num_gpus=1 if gpus else None,
        num_cpus=None if gpus else min(_CORES_OF_WORKER, max(1, cores // workers)),
    )


def check_installed() -> None:
    """Raises UsageError where Ray is missing."""
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise UsageError(
            "`--ray` needs Ray, which is not installed", hint="pip install 'smolvideo[ray]'"
        )


@contextmanager
def connected(cluster: RayOptions) -> Iterator[Any]:
    """Connect Ray to the cluster; on exit, end the processes that this has started.

    An existing connection is reused and left open. Raises UsageError.
    """
    check_installed()
    import ray
    import ray.data

    # Its progress, which its import sets up for stderr; `init` has no option for it.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield ray
        return
    before, started = _processes_of_ray(), []
    try:
        try:
            _start(ray, cluster)
        finally:  # Ctrl-C comes at any moment
            started = [one for one in _processes_of_ray() if one not in before]
        yield ray
    finally:
        _end(ray, started)


def _start(ray: Any, cluster: RayOptions) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if cluster.address == LOCAL:
        # Ray reserves cores for each worker, even if the machine has fewer.
        cores = max(os.cpu_count() or 1, 2 * (cluster.workers or 1))
        quiet |= {"num_cpus": cores, "include_dashboard": False}
    try:
        ray.init(address=cluster.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no Ray cluster at `{cluster.address}`: {first_line(error)}",
            hint="start one with `ray start --head`, or leave the address out",
        ) from error


def _processes_of_ray() -> "list[psutil.Process]":
    """Child processes of this process that run Ray programs, and their descendants."""
    import psutil

    inside = f"{os.sep}ray{os.sep}"
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(inside in word for word in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def _end(ray: Any, started: "list[psutil.Process]") -> None:
    """Shut Ray down, and end its remaining processes.

    Ray's agents check only every half minute whether their parent is gone.
    """
    import psutil

    # Ray starts more processes while it runs.
    roots = set(started)
    family = [*started, *(one for one in _processes_of_ray() if roots & set(_parents(one)))]
    ray.shutdown()
    _, left = psutil.wait_procs(family, timeout=_SECONDS_TO_END)
    for process in left:
        with suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(left, timeout=_SECONDS_TO_END)
    for process in left:
        with suppress(psutil.Error):
            process.kill()


def _parents(process: "psutil.Process") -> "list[psutil.Process]":
    import psutil

    found: list[psutil.Process] = []
    with suppress(psutil.Error):
        found = process.parents()
    return found
