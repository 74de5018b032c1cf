"""Past answers of this machine: predicted and measured seconds of each stage, for corrections.

One JSON line per answer in the cache folder, the latest ones only. Measured over predicted, the
median of the latest answers of the same model by the same rates and of 1, is the correction of a
stage: one answer on a busy machine shifts it little, and none among several others.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from smolvideo.cost.rates import Rates, cost_folder
from smolvideo.errors import SourceError
from smolvideo.files import make_folders, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

_MAX_ANSWERS = 200
_LATEST = 9
_MAX_FILE_BYTES = 1 << 20
_BOUNDS = (0.1, 10.0)
"""Ratios beyond are of a machine that did something else."""
_MIN_SECONDS = 0.05
"""Shorter stages say little of the rates."""


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


def remember(
    model: str,
    quantize: str,
    rates: Rates,
    *,
    predicted: Mapping[str, float],
    measured: Mapping[str, float],
) -> None:
    """Add an answer: uncorrected predictions and measurements of the same stages, in seconds (bytes
    of ``memory``).

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
    entries = [*_entries(file), {"key": _key(model, quantize, rates), "ratios": ratios}]
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
