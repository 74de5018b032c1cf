"""Model checkpoints: a registered name, folder or hub id → a Checkpoint on this machine."""

import re
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

from smolvideo.errors import ModelError
from smolvideo.file_names import existing_path
from smolvideo.models.checkpoint import Checkpoint, checkpoint_size_bytes, read_checkpoint
from smolvideo.models.hub import check_room_for, download_snapshot, is_offline, pull
from smolvideo.models.local_cache import LocalCheckpoint, list_local, plan_removal, revision_of
from smolvideo.models.registry import (
    MODELS,
    ModelSpec,
    PromptFormat,
    find_model,
    lookup_model,
    unknown_model,
)
from smolvideo.progress import OnProgress, no_progress

__all__ = [
    "MODELS",
    "Checkpoint",
    "LocalCheckpoint",
    "ModelSpec",
    "PromptFormat",
    "check_room_for",
    "checkpoint_size_bytes",
    "find_model",
    "is_offline",
    "list_local",
    "lookup_model",
    "open_checkpoint",
    "plan_removal",
    "pull",
    "read_checkpoint",
    "unknown_model",
]


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

# If the package is in a zip file, keeps the extracted bundled folder until the process exits.
_bundled_files = ExitStack()


def open_checkpoint(
    model: str | Path,
    *,
    offline: bool = False,
    revision: str | None = None,
    weights: bool = True,
    on_progress: OnProgress = no_progress,
) -> Checkpoint:
    """Open the checkpoint ``model``, downloading it if necessary.

    ``model`` is a name of ``MODELS`` (``nano`` is part of the package), a local folder, or a hub
    id. A name takes precedence over a folder of the same name, which is written ``./nano``; a
    ``Path`` is always a folder. What is in the cache is used without querying the hub; ``offline``
    (or HF_HUB_OFFLINE=1) forbids the network. With ``weights`` False, configuration and tokenizer
    suffice.

    Raises ModelError: unknown name, not downloadable, or broken.
    """
    if isinstance(model, Path):
        model = str(model.expanduser().absolute())
    spec = lookup_model(model)
    if spec is not None and spec.is_bundled:
        _refuse_revision(revision, model)
        return read_checkpoint(_bundled_folder(spec.name), name=spec.name, weights=weights)
    folder = _as_path(model)
    if spec is None and folder is not None and folder.is_dir():
        _refuse_revision(revision, model)
        return read_checkpoint(folder, name=folder.resolve().name, weights=weights)
    if spec is None and not _HUB_ID.fullmatch(model):
        raise _not_found(model, folder)
    name, repo_id = (spec.name, str(spec.repo_id)) if spec else (model, model)
    snapshot = download_snapshot(
        repo_id,
        revision=revision,
        weights=weights,
        offline=offline or is_offline(),
        on_progress=on_progress,
    )
    return read_checkpoint(snapshot, name=name, revision=revision_of(snapshot), weights=weights)


def _bundled_folder(name: str) -> Path:
    folder = _bundled_files.enter_context(as_file(files("smolvideo") / name))
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"the bundled model `{name}` is missing from this installation",
            hint="install smolvideo again, or train it with `smolvideo train nano`",
        )
    return folder


def _as_path(model: str) -> Path | None:
    """Return ``model`` as a path; None if it is not a valid path."""
    try:
        folder = existing_path(Path(model).expanduser())
        folder.is_dir()
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a null byte
        return None
    return folder if model.strip() else None


def _refuse_revision(revision: str | None, model: str) -> None:
    if revision is not None:
        raise ModelError(f"`{model}` is a folder on this machine and has no revision `{revision}`")


def _not_found(model: str, folder: Path | None) -> ModelError:
    if folder is not None and folder.is_file():
        return ModelError(
            f"`{model}` is a file; a checkpoint is a folder",
            hint="name the folder that holds config.json and model.safetensors",
        )
    if folder is not None and (folder.is_absolute() or model.startswith((".", "~"))):
        return ModelError(f"no folder `{model}`")
    return unknown_model(model)
