"""A run on a Ray cluster: one engine per worker; list, records and outputs stay in this process.

Workers decode and answer. As the records are local, a cluster run resumes as a local one does, and
a run may switch between the two. Files must have the same paths on all machines. A worker that
dies is replaced and its block repeated: workers return finished summaries only.
Ray Data: https://docs.ray.io/en/latest/data/data.html
"""

import os
import pickle
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from smolvideo.engines import EngineSpec
from smolvideo.engines.devices import first_line
from smolvideo.errors import ModelError, SmolVideoError, UsageError
from smolvideo.source import DownloadOptions
from smolvideo.summaries.inference import (
    RecordContext,
    duplicate_record,
    error_record,
    summarise_pieces,
)
from smolvideo.summaries.loader import IdentifiedSource, VideoLoader, frames_per_window, identify
from smolvideo.summaries.options import SummaryOptions, settings_hash
from smolvideo.summaries.record_log import SummaryRecord
from smolvideo.summaries.run import ItemResult, ItemStatus, SummaryRun
from smolvideo.summaries.worklist import WorkItem, resolve_item

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


def run_on_cluster(
    batch: SummaryRun, items: Sequence[WorkItem], spec: EngineSpec, cluster: RayOptions
) -> Generator[ItemResult]:
    """Run ``SummaryRun.run`` with the answers computed by workers.

    Raises UsageError where Ray is missing or does not answer, ModelError where the workers cannot
    load the model.
    """
    found = [_find(batch, item) for item in items]
    rows = _rows_to_do(batch, items, found)
    answers = _answers(batch, rows, spec, cluster)
    needed = {row["number"] for row in rows}
    with closing(answers):
        for number, item in enumerate(items):
            row = next(answers) if number in needed else None
            yield batch.finish_item(item, _raise_or(found[number]), _answer_of(batch, row))
        next(answers, None)  # exhausts the iterator, so that Ray frees the dataset
    yield from batch.try_again()


def _find(batch: SummaryRun, item: WorkItem) -> IdentifiedSource | SmolVideoError:
    try:
        source = resolve_item(item, batch.download, batch.on_progress)
        return identify(source, item.path, batch.known_hash)
    except SmolVideoError as error:
        return error


def _rows_to_do(
    batch: SummaryRun, items: Sequence[WorkItem], found: Sequence[IdentifiedSource | SmolVideoError]
) -> list[dict[str, Any]]:
    """Rows of the items that need an answer: not done before, and the first of their content."""
    rows, contents = [], set()
    for number, (item, one) in enumerate(zip(items, found, strict=True)):
        if isinstance(one, SmolVideoError) or batch.is_done(item, one) or one.sha256 in contents:
            continue
        if one.sha256 is not None:
            contents.add(one.sha256)
            if batch.journal.find_duplicate(one.sha256, batch.settings_key) is not None:
                continue
        rows.append({"number": number, "task": pickle.dumps((item, one))})
    return rows


def _raise_or(found: IdentifiedSource | SmolVideoError) -> Any:
    def find() -> IdentifiedSource:
        if isinstance(found, SmolVideoError):
            raise found
        return found

    return find


def _answer_of(batch: SummaryRun, row: SummaryRecord | None) -> Any:
    def answer(facts: RecordContext, found: IdentifiedSource) -> tuple[SummaryRecord, ItemStatus]:
        if row is not None:
            return row, "failed" if row.error is not None else "made"
        assert found.sha256 is not None
        twin = batch.journal.find_duplicate(found.sha256, batch.settings_key)
        if twin is not None:
            return duplicate_record(facts, twin), "same"
        # The first item with this content failed: repeat it here, for an error or a result.
        return batch.summarise_inline(facts, found), "made"

    return answer


def _answers(
    batch: SummaryRun, rows: list[dict[str, Any]], spec: EngineSpec, cluster: RayOptions
) -> Generator[SummaryRecord]:
    """Yield the records of ``rows`` from the workers, in order; without rows Ray is not used."""
    if not rows:
        return
    with _connected(cluster) as ray:
        try:
            for row in _mapped(ray, batch, rows, spec, cluster).iter_rows():
                yield SummaryRecord.from_json(row["record"])
        except ray.exceptions.RayError as error:
            raise ModelError(f"the workers failed: {first_line(error)}") from error


def _mapped(
    ray: Any, batch: SummaryRun, rows: list[dict[str, Any]], spec: EngineSpec, cluster: RayOptions
) -> Any:
    """Build the lazy Ray dataset of the answers to ``rows``; iterating it runs the workers."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    gpus = int(ray.cluster_resources().get("GPU", 0))
    cores = int(ray.cluster_resources().get("CPU", 1))
    workers = cluster.workers or gpus or max(1, cores // _CORES_OF_WORKER)
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MAX_BLOCKS))
    return dataset.map_batches(
        _Worker,
        fn_constructor_args=(spec, batch.options, batch.download),
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
def _connected(cluster: RayOptions) -> Iterator[Any]:
    """Connect Ray to the cluster; on exit, end the processes that this has started.

    An existing connection is reused and left open. Raises UsageError.
    """
    check_installed()
    import ray
    import ray.data

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


class _Worker:
    """Actor with one engine and one loader; constructed once per worker."""

    def __init__(
        self, spec: EngineSpec, options: SummaryOptions, download: DownloadOptions
    ) -> None:
        self._engine = spec.load()
        self._options = options
        checkpoint = self._engine.checkpoint
        self._settings = options.settings(checkpoint, spec.quantize)
        frames = frames_per_window(checkpoint, options)
        self._looker = VideoLoader(checkpoint, options, download, frames)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        records = [self._summarise(*pickle.loads(task)).to_json() for task in rows["task"]]
        return {"record": records}

    def _summarise(self, item: WorkItem, found: IdentifiedSource) -> SummaryRecord:
        key = settings_hash(self._settings)
        facts = RecordContext(
            item, self._options, self._settings, key, self._engine.checkpoint
        ).with_source(found)
        try:
            return summarise_pieces(facts, self._looker.pieces_of(item, found), self._engine)
        except SmolVideoError as error:
            return error_record(facts, error)
