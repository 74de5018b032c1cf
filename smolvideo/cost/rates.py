"""Rates of this machine: operations and bytes per second, for each stage of an answer.

``measure`` measures them; they are kept in the cache folder for a month, or until the processor,
the number of threads, or the version of torch or numba is another. Next to them are past answers:
predicted and measured seconds of each stage, for corrections.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from platform import machine
from statistics import median
from typing import TYPE_CHECKING, Any
from zlib import crc32

from smolvideo.cost.operations import (
    DTYPE_BYTES,
)
from smolvideo.engines.devices import (
    available_cores,
    cpu_features,
    package_version,
    processor_name,
)
from smolvideo.errors import SourceError
from smolvideo.files import make_folders, write_atomic
from smolvideo.source import CacheStats, cache_dir
from smolvideo.source.download_cache import check_is_folder
from smolvideo.version import __version__

if TYPE_CHECKING:
    from pathlib import Path


_VERSION = 3
_MAX_ANSWERS = 200
_LATEST = 9
_BOUNDS = (0.1, 10.0)
"""Ratios beyond are of a machine that did something else."""
_MIN_SECONDS = 0.05
"""Shorter stages say little of the rates."""
_MAX_AGE_SECONDS = 30 * 24 * 3600
_MAX_FILE_BYTES = 1 << 20
_MAX_RATE = 1e18


@dataclass(frozen=True)
class Rates:
    """Rates of one device and dtype, of all ``threads`` together: operations of products and of
    attention per second, in frames (``encode``) and prompts (``prefill``); bytes per second that
    are read (``read``), and that are copied to fresh memory by one thread (``copy``).

    ``process_bytes`` is the resident memory of a process that has loaded torch and no weights, and
    ``start_seconds`` the CPU time that it took until then; ``layer_seconds`` is what a decoder
    layer of a few weights takes for one token where torch computes it: the calls alone.
    ``measured_at`` is in seconds since 1970. ``arithmetic`` is that of products and attention,
    ``float`` or ``int8``. ``disturbed``: other programs had the cores, which
    makes rates lower even in CPU time, so that they are measured again soon.
    """

    device: str
    dtype: str
    threads: int
    encode_products: float
    encode_attention: float
    prefill_products: float
    prefill_attention: float
    read: float
    copy: float
    process_bytes: int
    measured_at: float
    start_seconds: float = 0.0
    layer_seconds: float = 0.0
    disturbed: bool = False
    arithmetic: str = "float"

    @property
    def identity(self) -> str:
        """Key of the records that were predicted by these rates."""
        return f"{self.device} {self.dtype} {self.threads} {self.measured_at:.0f}"


@dataclass(frozen=True)
class RateRequest:
    """The device, dtype and arithmetic to measure, as ``--device``, ``--dtype`` and
    ``--arithmetic`` name them; ``auto`` takes float32 for ``tiny`` models, and floating-point
    arithmetic for them and for a dtype that was named."""

    device: str = "auto"
    dtype: str = "auto"
    tiny: bool = False
    arithmetic: str = "auto"

    @property
    def key(self) -> str:
        """Name in the file of rates."""
        dtype = "float32" if self.tiny and self.dtype == "auto" else self.dtype
        arithmetic = self.arithmetic
        if arithmetic == "auto" and dtype != "auto":
            arithmetic = "float"
        return f"{self.device} {dtype} {arithmetic} {num_threads()}"


def kept_rates(request: RateRequest = RateRequest()) -> Rates | None:
    """Return the rates in the cache folder; None where there are none for this machine, or old
    ones. Takes milliseconds: torch is not imported."""
    rates = _rates_from(_read_file().get(request.key))
    fresh = rates is not None and 0 <= time.time() - rates.measured_at < _MAX_AGE_SECONDS
    return rates if fresh else None


def _rates_from(entry: object) -> Rates | None:
    """Check an entry of the file, which anything may have written."""
    kinds = {field.name: field.type for field in fields(Rates)}
    if not isinstance(entry, dict) or set(entry) != set(kinds):
        return None
    lowest = {field.name: field.default for field in fields(Rates)}
    if not all(
        entry[name] == lowest[name] or _is_valid(entry[name], kind) for name, kind in kinds.items()
    ):
        return None
    known = entry["dtype"] in DTYPE_BYTES and entry["arithmetic"] in ("float", "int8")
    return Rates(**entry) if known else None


def _is_valid(value: object, kind: object) -> bool:
    if kind in (str, bool):
        return isinstance(value, str if kind is str else bool)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return False
    return 0 < value < _MAX_RATE


def keep_rates(request: RateRequest, rates: Rates) -> None:
    """Write ``rates`` to the cache folder; where that is not writable they are measured again."""
    explicit = replace(request, dtype=rates.dtype, arithmetic=rates.arithmetic)
    entries = {**_read_file(), request.key: asdict(rates), explicit.key: asdict(rates)}
    with suppress(OSError, SourceError):
        file = cost_folder() / "rates.json"
        make_folders(file.parent)
        content = {"version": _VERSION, "machine": machine_key(), "rates": entries}
        write_atomic(file, json.dumps(content, indent=1) + "\n", sync=False)


def cost_folder() -> "Path":
    """Folder of rates and past answers. Raises SourceError where there is no cache folder."""
    return cache_dir() / "cost"


def cost_stats() -> CacheStats:
    """Return number and size of the files of rates and of past answers."""
    found = []
    with suppress(OSError, SourceError):
        found = [file.stat() for file in cost_folder().iterdir()]
    oldest = min((one.st_mtime for one in found), default=None)
    return CacheStats(len(found), sum(one.st_size for one in found), oldest)


def clear_costs() -> CacheStats:
    """Delete these files; return what that freed. Raises SourceError where their folder is a file,
    or the user has none."""
    check_is_folder(cost_folder())
    freed = cost_stats()
    shutil.rmtree(cost_folder(), ignore_errors=True)
    left = cost_stats()
    return CacheStats(
        freed.entries - left.entries, freed.size_bytes - left.size_bytes, freed.oldest
    )


def num_threads() -> int:
    """Threads that the engine takes, see ``set_num_threads``."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) else available_cores()


def machine_key() -> str:
    """What the rates depend on: processor, instruction set, cores, and the versions of the
    libraries that compute."""
    features = " ".join(sorted(cpu_features() or ()))
    parts = [machine(), processor_name(), f"{available_cores()} cores"]
    parts += [f"{name} {package_version(name)}" for name in ("torch", "numba")]
    return ", ".join([*parts, f"features {crc32(features.encode()):08x}"])


def _read_file() -> dict[str, Any]:
    """Entries of the file of rates; none where it is missing, broken, or of another machine."""
    with suppress(OSError, ValueError, SourceError, RecursionError, KeyError, TypeError):
        with (cost_folder() / "rates.json").open("rb") as file:
            content = json.loads(file.read(_MAX_FILE_BYTES))
        if content["version"] == _VERSION and content["machine"] == machine_key():
            return dict(content["rates"])
    return {}


@dataclass(frozen=True)
class Corrections:
    """Stage → measured over predicted; 1 where no past answer is known. ``answers`` of them were
    used."""

    ratios: Mapping[str, float] = field(default_factory=dict)
    answers: int = 0

    def of(self, stage: str) -> float:
        """Factor for a predicted value of ``stage``."""
        return self.ratios.get(stage, 1.0)


def corrections(model: str, quantize: str, rates: Rates) -> Corrections:
    """Return the corrections by the latest answers of ``model`` that ``rates`` predicted."""
    key = _key(model, quantize, rates)
    latest = [entry for entry in _entries(_file()) if entry["key"] == key][-_LATEST:]
    ratios: dict[str, list[float]] = {}
    for entry in latest:
        for stage, ratio in entry["ratios"].items():
            ratios.setdefault(stage, []).append(ratio)
    return Corrections(
        {stage: median([1.0, *known]) for stage, known in ratios.items()}, len(latest)
    )


def has_answered(quantize: str, rates: Rates) -> bool:
    """Whether a kept answer was computed by the kernels of this weight format and dtype, which are
    on the disk then."""
    return any(entry.get("kernels") == _kernels(quantize, rates) for entry in _entries(_file()))


def _kernels(quantize: str, rates: Rates) -> str:
    return f"{quantize} {rates.dtype} {__version__}"


def remember(
    model: str,
    quantize: str,
    rates: Rates,
    *,
    predicted: Mapping[str, float],
    measured: Mapping[str, float],
    kernels: bool = False,
) -> None:
    """Add an answer: uncorrected predictions and measurements of the same stages, in seconds (bytes
    of ``memory``). ``kernels``: compiled ones computed it.

    Stages of a few milliseconds are left out. Where the folder is not writable nothing is kept.
    """
    ratios = {
        stage: min(max(seconds / predicted[stage], _BOUNDS[0]), _BOUNDS[1])
        for stage, seconds in measured.items()
        if predicted.get(stage, 0) > 0 and (seconds >= _MIN_SECONDS or stage == "token")
    }
    file = _file()
    if not ratios or file is None:
        return
    entry: dict[str, Any] = {"key": _key(model, quantize, rates), "ratios": ratios}
    if kernels:
        entry["kernels"] = _kernels(quantize, rates)
    entries = [*_entries(file), entry]
    lines = "".join(json.dumps(entry) + "\n" for entry in entries[-_MAX_ANSWERS:])
    with suppress(OSError):
        make_folders(file.parent)
        write_atomic(file, lines, sync=False)


def _key(model: str, quantize: str, rates: Rates) -> str:
    return f"{model} {quantize} {rates.identity}"


def _file() -> "Path | None":
    with suppress(SourceError):
        return cost_folder() / "past.jsonl"
    return None


def _entries(file: "Path | None") -> Iterator[dict[str, Any]]:
    """Well-formed lines of the file; others are skipped."""
    if file is None:
        return
    try:
        with file.open("rb") as stream:
            lines = stream.read(_MAX_FILE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if _is_well_formed(entry):
                yield entry


def _is_well_formed(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
        return False
    ratios = entry.get("ratios")
    return isinstance(ratios, dict) and all(
        isinstance(ratio, int | float)
        and not isinstance(ratio, bool)
        and math.isfinite(ratio)
        and _BOUNDS[0] <= ratio <= _BOUNDS[1]
        for ratio in ratios.values()
    )
