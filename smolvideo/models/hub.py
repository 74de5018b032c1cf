"""Hugging Face hub: lookup in the local cache, and download of snapshots.

The hub's own cache is used, so that downloads are shared with other programs. HF_HOME,
HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE have their usual effect. Only JSON files, the
chat template and safetensors are downloaded: nothing that could run code.
"""

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from smolvideo.credentials import without_credentials
from smolvideo.errors import ModelError, SmolVideoError, plain_reason
from smolvideo.models.bfloat16 import has_float32, keep_bfloat16
from smolvideo.models.checkpoint import Checkpoint, read_checkpoint
from smolvideo.models.downloading import (
    Receiver,
    RemoteFile,
    causes,
    check_room,
    is_without_network,
    progress_bars,
    stoppable,
)
from smolvideo.models.local_cache import (
    COPY_SUFFIX,
    find_copy,
    hub_cache,
    is_complete,
    list_local,
    name_of,
    plan_removal,
    quiet_library,
    repo_id_of,
    repository_folder,
    revision_of,
)
from smolvideo.progress import OnProgress, no_progress

_CONFIGURATION = ["*.json", "chat_template.jinja"]
_WEIGHTS = ["*.safetensors"]
_NOT_IN_FOLDERS = ["*/*"]  # such as onnx/, which holds the same weights again
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG)
_ETAG = re.compile(r"[0-9a-fA-F]{32,64}")
_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its variables


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids network access."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in _TRUE


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
    from huggingface_hub.errors import LocalEntryNotFoundError

    snapshot = _snapshot_of(repo_id, revision, weights=weights)
    if not refresh or offline:
        if (copy := find_copy(repo_id, revision)) is not None:
            return copy
        try:
            folder = Path(snapshot(local_files_only=True))
            if is_complete(folder, weights=weights):
                return folder
        except LocalEntryNotFoundError:
            pass
        except ValueError as error:
            raise ModelError(f"`{repo_id}` is no name of a repository: {error}") from error
    if offline:
        raise _missing_offline(repo_id)
    with _wrap_hub_errors(repo_id, revision), quiet_library():
        return stoppable(lambda stop: _download(repo_id, snapshot, on_progress, stop))


def _snapshot_of(repo_id: str, revision: str | None, *, weights: bool) -> Callable[..., Any]:
    """Return the hub library's download of a repository's files that we read."""
    from huggingface_hub import snapshot_download

    return partial(
        snapshot_download,
        repo_id,
        revision=revision,
        cache_dir=hub_cache(),
        allow_patterns=_CONFIGURATION + (_WEIGHTS if weights else []),
        ignore_patterns=_NOT_IN_FOLDERS,
        endpoint=os.environ.get("HF_ENDPOINT") or None,
    )


def pull(
    name: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    dtype: str | None = None,
    replace: bool = False,
    on_progress: OnProgress = no_progress,
) -> Checkpoint:
    """Download the newest revision of ``name`` (a name of ``MODELS`` or a hub id) and validate it.

    With ``dtype="bfloat16"`` a copy of float32 weights is kept that is rounded to bfloat16, and
    used from then on; with ``replace`` the published files are deleted once the copy was compared
    with them. Raises ModelError, also for the bundled model, which needs no download.
    """
    repo_id = repo_id_of(name)
    offline = offline or is_offline()
    short = name_of(repo_id)
    if dtype == "bfloat16":
        commit = revision if offline else _list_remote(repo_id, revision, on_progress).commit
        copy = find_copy(repo_id, f"{commit}{COPY_SUFFIX}" if commit else None)
        if copy is not None:
            return _open_copy(copy, repo_id, replace)
    folder = download_snapshot(
        repo_id, revision=revision, offline=offline, refresh=True, on_progress=on_progress
    )
    checkpoint = read_checkpoint(folder, name=short, revision=revision_of(folder))
    if dtype != "bfloat16" or not has_float32(checkpoint):
        return checkpoint
    copy = keep_bfloat16(checkpoint, repo_id, on_progress=on_progress)
    return _open_copy(copy, repo_id, replace)


def _open_copy(copy: Path, repo_id: str, replace: bool) -> Checkpoint:
    """Open a complete copy, and with ``replace`` delete what it was made of."""
    checkpoint = read_checkpoint(copy, name=name_of(repo_id), revision=revision_of(copy))
    if replace and (repository_folder(repo_id) / "snapshots" / copy.name).is_dir():
        plan_removal(repo_id, revision=copy.name, copies=False).execute()
    return checkpoint


def check_room_for(
    names: Sequence[str],
    *,
    revision: str | None = None,
    dtype: str | None = None,
    on_progress: OnProgress = no_progress,
) -> None:
    """Query the hub for the sizes of several models, and check that the disk has space for what is
    to be written of all of them. Raises ModelError.

    Models that the hub does not hand out are left out: ``pull`` reports them one by one.
    """
    needed = 0
    for name in names:
        with suppress(ModelError):
            listing = _list_remote(repo_id_of(name), revision, on_progress)
            needed += listing.needed_bytes
            if dtype == "bfloat16" and listing.needed_bytes:
                needed += listing.size_bytes // 2
    check_room(", ".join(f"`{name}`" for name in names), needed, hub_cache() / "models")


@dataclass(frozen=True)
class _Listing:
    """The files of a revision that are not here: their bytes, and the weights among them."""

    commit: str | None
    size_bytes: int
    weights: tuple[RemoteFile, ...]

    @property
    def needed_bytes(self) -> int:
        return self.size_bytes - sum(file.received_bytes for file in self.weights)


def _list_remote(repo_id: str, revision: str | None, on_progress: OnProgress) -> _Listing:
    """Query the hub for what would be downloaded. Raises ModelError."""
    snapshot = _snapshot_of(repo_id, revision, weights=True)

    def query(stop: threading.Event) -> _Listing:
        receiver = Receiver(name_of(repo_id), 0, on_progress, stop)
        receiver.report(why="asking the hub")
        return _listing(repo_id, snapshot, receiver)

    with _wrap_hub_errors(repo_id, revision), quiet_library():
        return stoppable(query)


def _listing(repo_id: str, snapshot: Callable[..., Any], receiver: Receiver) -> _Listing:
    from huggingface_hub.errors import DryRunError

    try:
        files = snapshot(dry_run=True, tqdm_class=progress_bars(lambda _: receiver.check()))
    except DryRunError:  # the download itself reports the cause
        files = []
    missing = [file for file in files if file.will_download]
    return _Listing(
        commit=files[0].commit_hash if files else None,
        size_bytes=sum(file.file_size or 0 for file in missing),
        weights=tuple(
            remote
            for file in missing
            if file.filename.endswith(".safetensors")
            and (remote := _remote_file(repo_id, file)) is not None
        ),
    )


def _remote_file(repo_id: str, file: Any) -> RemoteFile | None:
    """Return where a weight file is downloaded from and to; None if the hub does not state it, and
    its library has to find out."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = hf_hub_url(repo_id, file.filename, revision=file.commit_hash, endpoint=endpoint)
    metadata = get_hf_file_metadata(url, endpoint=endpoint)
    etag = metadata.etag
    if not etag or not metadata.size or not _ETAG.fullmatch(etag):
        return None
    folder = repository_folder(repo_id)
    return RemoteFile(
        url=url,
        size=metadata.size,
        etag=etag,
        blob=folder / "blobs" / etag,
        lock=hub_cache() / ".locks" / folder.name / f"{etag}.lock",
    )


def _download(
    repo_id: str, snapshot: Callable[..., Any], on_progress: OnProgress, stop: threading.Event
) -> Path:
    """Download a snapshot, weights first, each resumed where an earlier download stopped. Raises
    ModelError before the download if the disk has too little space."""
    name = name_of(repo_id)
    asking = Receiver(name, 0, on_progress, stop)
    asking.report(why="asking the hub")
    listing = _listing(repo_id, snapshot, asking)
    check_room(f"`{name}`", listing.needed_bytes, repository_folder(repo_id))
    receiver = Receiver(name, listing.size_bytes, on_progress, stop)
    for file in listing.weights:
        receiver.receive(file)
    folder = Path(snapshot(tqdm_class=progress_bars(receiver.report)))
    for file in listing.weights:
        _drop_second_copy(file, folder)
    return folder


def _drop_second_copy(file: RemoteFile, folder: Path) -> None:
    """Delete a blob whose content was copied to the snapshot, on systems without links."""
    if not any(one.is_symlink() for one in folder.iterdir()):
        file.blob.unlink(missing_ok=True)


def _missing_offline(repo_id: str) -> ModelError:
    name = name_of(repo_id)
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

    name = name_of(repo_id)
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
