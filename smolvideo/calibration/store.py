"""Scales on disk: ``calibrations.json`` in the folder for the user's data.

A scale is for one checkpoint, known by its weights, and one list of choices in their order.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smolvideo.calibration.scale import Scale
from smolvideo.errors import RecordError
from smolvideo.files import data_dir, file_lock, make_folders, write_atomic
from smolvideo.json_types import Count, check_types, parse_json
from smolvideo.models import Checkpoint
from smolvideo.text_input import read_regular

_SCHEMA = "smolvideo.calibrations/1"
_MAX_ENTRIES = 500
_BLOCKS = 64
_BLOCK_BYTES = 4096


@dataclass(frozen=True)
class Calibration:
    """A fitted scale, and what it was fitted to.

    ``ece_before`` and ``ece_after`` are expected calibration errors over the ``questions`` about
    ``videos``; after: each by a scale fitted to other videos. ``created`` is UTC, ISO 8601.
    """

    slope: float
    offset: float
    questions: Count
    videos: Count
    ece_before: float
    ece_after: float
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def scale(self) -> Scale:
        """The scale alone."""
        return Scale(self.slope, self.offset)


def kept_calibration(checkpoint: Checkpoint, choices: Sequence[str]) -> Calibration | None:
    """Return the calibration of ``choices`` for ``checkpoint``; None where there is none.

    Raises RecordError where the file exists and cannot be read, or is damaged.
    """
    file = calibrations_file()
    key = _key(checkpoint, choices)
    found = next((entry for entry in _read(file) if _key_of(entry) == key), None)
    if found is None:
        return None
    content = {name: found[name] for name in Calibration.__dataclass_fields__ if name in found}
    try:
        check_types(Calibration, content)
    except ValueError as error:
        raise _damaged(file, error) from error
    return Calibration(**content)


def keep_calibration(
    checkpoint: Checkpoint, choices: Sequence[str], calibration: Calibration
) -> Path:
    """Write a calibration in place of an earlier one of the same checkpoint and choices; return
    the file. Raises RecordError where it cannot be written."""
    file, key = calibrations_file(), _key(checkpoint, choices)
    try:
        make_folders(file.parent)
        with file_lock(file.with_suffix(".lock"), on_contention=lambda: None):
            others = [entry for entry in _read(file) if _key_of(entry) != key]
            entry = {"model": checkpoint.name, **key, **asdict(calibration)}
            content = {"record": _SCHEMA, "calibrations": [*others, entry][-_MAX_ENTRIES:]}
            write_atomic(file, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise RecordError(f"cannot write `{file}`: {reason}") from error
    return file


def check_calibrations() -> None:
    """Raise RecordError where the file exists and cannot be read, or is damaged."""
    _read(calibrations_file())


def calibrations_file() -> Path:
    """Return the path of the file. Raises RecordError where the user has no home folder."""
    return data_dir() / "calibrations.json"


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        content = parse_json(read_regular(file))
        entries = content.get("calibrations") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise ValueError("`calibrations` is not a list of objects")
        return entries
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"cannot read `{file}`: {error.strerror or error}") from error
    except ValueError as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> RecordError:
    return RecordError(
        f"the calibrations in `{file}` are damaged: {error}", hint="delete the file, or mend it"
    )


def _key(checkpoint: Checkpoint, choices: Sequence[str]) -> dict[str, Any]:
    return {"weights": _fingerprint(checkpoint), "choices": [one.casefold() for one in choices]}


def _key_of(entry: dict[str, Any]) -> dict[str, Any]:
    return {"weights": entry.get("weights"), "choices": entry.get("choices")}


def _fingerprint(checkpoint: Checkpoint) -> str:
    """Digest of sizes and samples of the weight files: it changes with training, not with the
    folder, and takes milliseconds."""
    total = hashlib.sha256((checkpoint.adapter_sha256 or "").encode())
    for path in sorted(checkpoint.folder.glob("*.safetensors")):
        with suppress(OSError), path.open("rb") as stream:
            size = path.stat().st_size
            total.update(f"{path.name} {size}\n".encode())
            for place in range(_BLOCKS):
                stream.seek(place * max(0, size - _BLOCK_BYTES) // max(1, _BLOCKS - 1))
                total.update(stream.read(_BLOCK_BYTES))
    return total.hexdigest()[:32]
