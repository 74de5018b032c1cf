"""Checkpoints in the hub's cache on this machine: finding, listing and deleting them. No network.

A copy whose weights were rounded to bfloat16 (``bfloat16.py``) is a repository of its own in the
same cache, ``models--smolvideo-bfloat16--OWNER--NAME``, with the revision of its original: other
programs list and delete it as they do any model.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smolvideo.errors import ModelError
from smolvideo.models.checkpoint import read_checkpoint
from smolvideo.models.registry import MODELS, lookup_model, unknown_model
from smolvideo.models.weights import find_weights, is_whole

_COPIES = "models--smolvideo-bfloat16--"
CONVERSION_FILE = "conversion.json"
COPY_SUFFIX = "+bfloat16"
"""Ends the revision of a copy, which records name: in float32 it computes with other weights."""


def hub_cache() -> Path:
    """Return the hub's cache folder, from HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.path.expandvars(os.environ["HF_HUB_CACHE"])).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def repository_folder(repo_id: str, *, copy: bool = False) -> Path:
    """Return the folder of a repository in the cache, or with ``copy`` that of its bfloat16 copy.
    It need not exist."""
    return hub_cache() / f"{_COPIES if copy else 'models--'}{repo_id.replace('/', '--')}"


def repo_id_of(name: str) -> str:
    """Return the hub id of a registered name or hub id. Raises ModelError, also for nano."""
    spec = lookup_model(name)
    if spec is not None and spec.repo_id is None:
        raise ModelError(
            f"`{spec.name}` is part of smolvideo: there is nothing to download or to delete"
        )
    if spec is None and "/" not in name:
        raise unknown_model(name)
    return spec.repo_id if spec and spec.repo_id else name


def is_complete(folder: Path, *, weights: bool = True) -> bool:
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


def find_copy(repo_id: str, revision: str | None = None) -> Path | None:
    """Return the complete bfloat16 copy of ``revision`` (any, if it is None); None without one.

    An original that is here comes before a copy of another revision, and where its own revision is
    named without ``+bfloat16``.
    """
    folder = _newest_snapshot(repository_folder(repo_id, copy=True))
    if folder is None or not is_complete(folder):
        return None
    if revision is not None and revision.endswith(COPY_SUFFIX):
        return folder if revision == revision_of(folder) else None
    if revision not in (None, folder.name):
        return None
    original = _newest_snapshot(repository_folder(repo_id))
    if original is not None and is_complete(original):
        same = original.name == folder.name
        if same is (revision is not None):
            return None
    return folder


def is_described(repo_id: str) -> bool:
    """Return whether configuration and tokenizer of a repository are here, with weights or not."""
    original = _newest_snapshot(repository_folder(repo_id))
    described = original is not None and is_complete(original, weights=False)
    return described or find_copy(repo_id) is not None


def revision_of(folder: Path) -> str:
    """Return the commit of a cached snapshot, with ``+bfloat16`` for a copy."""
    is_copy = folder.parent.parent.name.startswith(_COPIES)
    return f"{folder.name}{COPY_SUFFIX}" if is_copy else folder.name


@dataclass(frozen=True)
class LocalCheckpoint:
    """A SmolVLM checkpoint in the hub's cache; ``problem`` is the error if it cannot be used.

    ``size_bytes`` are all of its files, of which ``copy_bytes`` are the bfloat16 copy's; ``folder``
    is the one that is opened.
    """

    name: str
    repo_id: str
    revision: str
    folder: Path
    size_bytes: int
    problem: str | None = None
    copy_bytes: int = 0

    @property
    def is_damaged(self) -> bool:
        """Whether a file of it is broken, rather than missing: a download leaves that file as it
        is, so the checkpoint must be deleted first."""
        if self.problem is None:
            return False
        return is_complete(self.folder) or not all(
            map(is_whole, filter(Path.is_file, self.folder.glob("*.safetensors")))
        )

    @property
    def has_weights(self) -> bool:
        """Whether the folder names weights, here or lost; `smolvideo models info` fetches none."""
        return any(
            file.suffix in (".safetensors", ".bin") or file.name.endswith(".index.json")
            for file in self.folder.iterdir()
        )

    @property
    def repair(self) -> str:
        """The commands that make a broken one whole."""
        pull = f"`smolvideo models pull {self.name}`"
        return f"`smolvideo models rm {self.name}`, then {pull}" if self.is_damaged else pull


def list_local() -> list[LocalCheckpoint]:
    """Return the cached checkpoints of this family, those in ``MODELS`` first. No network."""
    repositories = hub_cache().glob("models--*--*")
    repo_ids = {
        repository.name.removeprefix(_COPIES).removeprefix("models--").replace("--", "/", 1)
        for repository in repositories
    }
    found = [local for repo_id in sorted(repo_ids) if (local := _find_local(repo_id)) is not None]
    order = list(MODELS)
    return sorted(found, key=lambda c: order.index(c.name) if c.name in MODELS else len(order))


def _find_local(repo_id: str) -> LocalCheckpoint | None:
    spec = lookup_model(repo_id)
    original = _newest_snapshot(repository_folder(repo_id))
    copy = find_copy(repo_id)
    folder = copy or original
    if folder is None:
        return None
    name = spec.name if spec else repo_id
    problem = None
    try:
        read_checkpoint(folder, name=name)
    except ModelError as error:
        if spec is None:  # a model of another family
            return None
        problem = str(error)
    copy_bytes = _files_bytes(copy)
    size_bytes = copy_bytes + _files_bytes(original)
    revision = revision_of(folder)
    return LocalCheckpoint(name, repo_id, revision, folder, size_bytes, problem, copy_bytes)


def _files_bytes(folder: Path | None) -> int:
    if folder is None:
        return 0
    files = (*folder.glob("*.json"), *folder.glob("*.safetensors"))
    return sum(file.stat().st_size for file in files if file.is_file())


def _newest_snapshot(repository: Path) -> Path | None:
    """Return the snapshot of ``main``, or without one the most recently modified; None if empty."""
    reference = repository / "refs" / "main"
    if reference.is_file():
        main = repository / "snapshots" / reference.read_text(encoding="utf-8").strip()
        if main.is_dir():
            return main
    snapshots = [folder for folder in (repository / "snapshots").glob("*") if folder.is_dir()]
    return max(snapshots, key=lambda folder: folder.stat().st_mtime, default=None)


@dataclass(frozen=True)
class Removal:
    """What a deletion would free: ``parts`` are strategies of the hub's library or, where it
    cannot read a folder, the folder itself; ``what`` names them in words."""

    name: str
    freed_bytes: int
    what: tuple[str, ...]
    parts: tuple[Any, ...]

    def execute(self) -> None:
        """Delete. Raises ModelError if files are still there afterwards."""
        for part in self.parts:
            if isinstance(part, Path):
                shutil.rmtree(part, ignore_errors=True)
            else:
                with quiet_library():
                    part.execute()
        left = [path for part in self.parts for path in _paths(part) if os.path.lexists(path)]
        if left:
            raise ModelError(
                f"cannot delete `{left[0]}`",
                hint="another program may use it, or its folder is not writable",
            )


def plan_removal(
    name: str,
    *,
    revision: str | None = None,
    originals: bool = True,
    copies: bool = True,
) -> Removal:
    """Find what of the model ``name`` is in the cache: all revisions or one, the ``originals`` and
    the bfloat16 ``copies``, and what an aborted download has left.

    Blobs that another revision shares stay. Raises ModelError if there is nothing to delete.
    """
    repo_id = repo_id_of(name)
    freed, what, parts = 0, [], []
    wanted = [(False, "the published files")] * originals + [(True, "the bfloat16 copy")] * copies
    for copy, words in wanted:
        folder = repository_folder(repo_id, copy=copy)
        if folder.parent != hub_cache() or folder.is_symlink() or not folder.is_dir():
            continue
        for size, part in _deletions(folder, revision):
            freed += size
            parts.append(part)
            what.append(words)
    if not parts:
        which = f" in revision `{revision}`" if revision else ""
        raise ModelError(
            f"`{name}` is not on this machine{which}: there is nothing to delete",
            hint="`smolvideo models` lists what is here",
        )
    spec = lookup_model(name)
    shown = spec.name if spec else name
    return Removal(shown, freed, tuple(dict.fromkeys(what)), tuple(parts))


def _deletions(folder: Path, revision: str | None) -> Iterator[tuple[int, Any]]:
    """Yield sizes and parts of a ``Removal`` for one repository of the cache."""
    from huggingface_hub import scan_cache_dir

    with quiet_library():
        cache = scan_cache_dir(hub_cache())
    incomplete = sum(_size(file) for file in folder.glob("blobs/*.incomplete"))
    found = next((one for one in cache.repos if Path(one.repo_path) == folder), None)
    if found is None or not found.revisions:  # nothing but an aborted download, or damaged
        if revision is None:
            yield sum(_size(file) for file in folder.rglob("*")), folder
        return
    hashes = {one.commit_hash for one in found.revisions}
    chosen = {
        one.commit_hash
        for one in found.revisions
        if revision is None or revision in (one.commit_hash, *one.refs)
    }
    if not chosen:
        return
    # Of this repository alone: another may have a revision of the same hash.
    alone = replace(cache, repos=frozenset({found}))
    strategy = alone.delete_revisions(*chosen)
    yield strategy.expected_freed_size + (incomplete if chosen == hashes else 0), strategy


def _paths(part: Any) -> list[Path]:
    if isinstance(part, Path):
        return [part]
    return [Path(path) for path in (*part.repos, *part.snapshots, *part.blobs)]


def _size(file: Path) -> int:
    with suppress(OSError):
        state = file.lstat()
        return 0 if file.is_dir() and not file.is_symlink() else state.st_size
    return 0


@contextmanager
def quiet_library() -> Iterator[None]:
    """Silence the hub library's logger: we report its messages as errors and progress."""
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def name_of(repo_id: str) -> str:
    """Return the short name of a hub id, or the id itself."""
    spec = lookup_model(repo_id)
    return spec.name if spec else repo_id
