"""What a training leaves to go on from: written whole or not at all, and read with care."""

import pickle
from pathlib import Path
from typing import Any

import torch

from smolvideo.errors import RecordError
from smolvideo.files import open_atomic
from smolvideo.sanitize import display_path


def save_state(content: Any, path: Path) -> None:
    """Write tensors and plain values beside ``path`` and rename.

    Raises RecordError where the disk does not take them; what was there stays.
    """
    try:
        with open_atomic(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch's own writer reports a full disk as the latter
        reason = error.strerror if isinstance(error, OSError) else None
        raise RecordError(
            f"cannot write {display_path(path)}: {reason or _first_line(error)}",
            hint="with room on the disk the same command goes on from the last state saved",
        ) from error


def load_state(path: Path) -> Any:
    """What ``save_state`` wrote. Raises RecordError for what is missing or damaged."""
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise RecordError(
            f"{display_path(path)} is no state of a training that can be read",
            hint="delete it and the states beside it, or name another `--out`",
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
