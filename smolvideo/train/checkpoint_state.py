"""Training checkpoints for resuming: atomic writes, and loads without arbitrary pickles."""

import pickle
from pathlib import Path
from typing import Any

import torch

from smolvideo.errors import RecordError
from smolvideo.files import open_atomic
from smolvideo.sanitize import display_path


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
            f"cannot write {display_path(path)}: {reason or _first_line(error)}",
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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
