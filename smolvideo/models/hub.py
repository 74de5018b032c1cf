"""Hugging Face hub: lookup in the local cache, and download of snapshots.

The hub's own cache is used, so that downloads are shared with other programs. HF_HOME,
HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE have their usual effect. Only JSON files, the
chat template and safetensors are downloaded: nothing that could run code.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolvideo.credentials import without_credentials
from smolvideo.errors import ModelError, SmolVideoError, plain_reason
from smolvideo.models.checkpoint import Checkpoint, checkpoint_size_bytes, read_checkpoint
from smolvideo.models.downloading import (
    causes,
    check_room,
    is_without_network,
    progress_bars,
    stoppable,
)
from smolvideo.models.registry import MODELS, lookup_model, unknown_model
from smolvideo.models.weights import find_weights
from smolvideo.progress import OnProgress, no_progress

_CONFIGURATION = ["*.json", "chat_template.jinja"]
_WEIGHTS = ["*.safetensors"]
_NOT_IN_FOLDERS = ["*/*"]  # such as onnx/, which holds the same weights again
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG)
_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its variables


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids network access."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in _TRUE


def hub_cache() -> Path:
    """Return the hub's cache folder, from HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.path.expandvars(os.environ["HF_HUB_CACHE"])).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def download_snapshot(
    repo_id: str,
    *,
    revision: str | None = None,
    weights: bool = True,
    offline: bool = False,
    refresh: bool = False,
    on_progress: OnProgress = no_progress,
) -> Path:
    """Return the folder with the files of ``repo_id``, downloading what is not in the cache.

    With ``refresh``, the hub is queried for a newer revision even if the cache is complete. Raises
    ModelError.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(**how: Any) -> Any:
        return snapshot_download(
            repo_id,
            revision=revision,
            cache_dir=hub_cache(),
            allow_patterns=_CONFIGURATION + (_WEIGHTS if weights else []),
            ignore_patterns=_NOT_IN_FOLDERS,
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            **how,
        )

    if not refresh or offline:
        try:
            folder = Path(snapshot(local_files_only=True))
            if _is_complete(folder, weights=weights):
                return folder
        except LocalEntryNotFoundError:
            pass
        except ValueError as error:
            raise ModelError(f"`{repo_id}` is no name of a repository: {error}") from error
    if offline:
        raise _missing_offline(repo_id)
    with _wrap_hub_errors(repo_id, revision), _quiet_hub():
        return stoppable(lambda stop: _with_room(repo_id, snapshot, on_progress, stop))


def pull(
    name: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    on_progress: OnProgress = no_progress,
) -> Checkpoint:
    """Download the newest revision of ``name`` (a name of ``MODELS`` or a hub id) and validate it.

    Raises ModelError, also for the bundled model, which needs no download.
    """
    spec = lookup_model(name)
    if spec is not None and spec.repo_id is None:
        raise ModelError(f"`{spec.name}` is part of smolvideo: there is nothing to download")
    if spec is None and "/" not in name:
        raise unknown_model(name)
    repo_id = spec.repo_id if spec and spec.repo_id else name
    folder = download_snapshot(
        repo_id,
        revision=revision,
        offline=offline or is_offline(),
        refresh=True,
        on_progress=on_progress,
    )
    return read_checkpoint(folder, name=spec.name if spec else name, revision=folder.name)


def _with_room(
    repo_id: str, snapshot: Callable[..., Any], on_progress: OnProgress, stop: threading.Event
) -> Path:
    """Download a snapshot. Raises ModelError before the download if the disk has too little
    space."""
    from huggingface_hub.errors import DryRunError

    try:
        missing = snapshot(dry_run=True, tqdm_class=progress_bars(repo_id, no_progress, stop))
    except DryRunError:  # the download itself reports the cause
        missing = []
    check_room(
        _short_name(repo_id),
        {file.filename: file.file_size for file in missing if file.will_download},
        hub_cache() / f"models--{repo_id.replace('/', '--')}",
    )
    return Path(snapshot(tqdm_class=progress_bars(repo_id, on_progress, stop)))


def _is_complete(folder: Path, *, weights: bool) -> bool:
    """Return whether a cached snapshot is complete, rather than left by an aborted download."""
    needed = (folder / "config.json", folder / "tokenizer.json")
    if not all(file.is_file() for file in needed):
        return False
    if weights:
        try:
            find_weights(folder)
        except ModelError:
            return False
    return True


@dataclass(frozen=True)
class LocalCheckpoint:
    """A SmolVLM checkpoint in the hub's cache; ``problem`` is the error if it cannot be used."""

    name: str
    repo_id: str
    revision: str
    folder: Path
    size_bytes: int
    problem: str | None = None


def list_local() -> list[LocalCheckpoint]:
    """Return the cached checkpoints of this family, those in ``MODELS`` first. No network."""
    found = [
        local
        for repository in sorted(hub_cache().glob("models--*--*"))
        if (local := _local_checkpoint(repository)) is not None
    ]
    order = list(MODELS)
    return sorted(found, key=lambda c: order.index(c.name) if c.name in MODELS else len(order))


def _local_checkpoint(repository: Path) -> LocalCheckpoint | None:
    repo_id = repository.name.removeprefix("models--").replace("--", "/", 1)
    snapshot = _newest_snapshot(repository)
    spec = lookup_model(repo_id)
    if snapshot is None:
        return None
    name = spec.name if spec else repo_id
    problem = None
    try:
        checkpoint = read_checkpoint(snapshot, name=name)
        size_bytes = checkpoint_size_bytes(checkpoint)
    except ModelError as error:
        if spec is None:  # a model of another family
            return None
        problem = str(error)
        size_bytes = sum(file.stat().st_size for file in snapshot.iterdir() if file.is_file())
    return LocalCheckpoint(name, repo_id, snapshot.name, snapshot, size_bytes, problem)


def _newest_snapshot(repository: Path) -> Path | None:
    """Return the snapshot of ``main``, or without one the most recently modified; None if empty."""
    reference = repository / "refs" / "main"
    if reference.is_file():
        main = repository / "snapshots" / reference.read_text(encoding="utf-8").strip()
        if main.is_dir():
            return main
    snapshots = [folder for folder in (repository / "snapshots").glob("*") if folder.is_dir()]
    return max(snapshots, key=lambda folder: folder.stat().st_mtime, default=None)


def _short_name(repo_id: str) -> str:
    spec = lookup_model(repo_id)
    return spec.name if spec else repo_id


def _missing_offline(repo_id: str) -> ModelError:
    name = _short_name(repo_id)
    return ModelError(
        f"`{name}` is not on this machine, and offline nothing is downloaded",
        hint=f"`smolvideo models pull {name}` downloads it; `--model nano` needs no download",
    )


@contextmanager
def _wrap_hub_errors(repo_id: str, revision: str | None) -> Iterator[None]:
    """Convert all download errors to a ModelError of one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = _short_name(repo_id)
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"`{name}` is gated: the hub asks for consent and a login",
            hint=f"accept its terms on its page, `{repo_id}`, and set HF_TOKEN",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"`{repo_id}` is neither a folder here nor a model on the hub that may be read",
            hint="check the spelling; a private model needs a token in HF_TOKEN",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"`{repo_id}` has no revision `{revision}`") from error
    except HFValidationError as error:
        raise ModelError(f"`{repo_id}` is no name of a repository: {error}") from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(name, error.__cause__ or error) from error
    except HfHubHTTPError as error:
        raise _unreachable(name, error) from error
    except SmolVideoError:
        raise
    except Exception as error:  # HTTP errors have no common base class across hub versions
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: BaseException) -> ModelError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in (401, 403):
        return ModelError(
            f"the hub refused to hand out `{name}` (HTTP {status})",
            hint="check the token in HF_TOKEN",
        )
    if (refused := _not_stored(name, error)) is not None:
        return refused
    if status is None and is_without_network(error):
        endpoint = os.environ.get("HF_ENDPOINT")
        where = f"{without_credentials(endpoint)} (HF_ENDPOINT)" if endpoint else "huggingface.co"
        return ModelError(
            f"cannot download `{name}`: there is no connection to {where}",
            hint=f"check the network; {_without_download()}",
        )
    reason = f"HTTP {status}" if status else plain_reason(error)
    return ModelError(
        f"cannot download `{name}`: {reason}",
        hint="run it again to go on where it stopped; `--model nano` needs no download",
    )


def _not_stored(name: str, error: BaseException) -> ModelError | None:
    """Return the error if the system refused a write (disk full, no permission); None otherwise."""
    failed = next((one for one in causes(error) if isinstance(one, OSError) and one.errno), None)
    if failed is None or failed.errno not in _UNWRITABLE:
        return None
    hint = f"`{hub_cache()}` must be writable, or HF_HOME name another folder"
    if failed.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "make room, or let HF_HOME name a folder on another disk; what is here is kept"
    reason = (failed.strerror or str(failed)).lower()
    return ModelError(f"cannot store `{name}` in `{hub_cache()}`: {reason}", hint=hint)


def _without_download() -> str:
    """Return a hint that names a model usable without a network."""
    usable = [local.name for local in list_local() if local.problem is None]
    return f"`--model {usable[0] if usable else 'nano'}` needs no download"


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Silence the hub library's logger: we report its messages as errors and progress."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
