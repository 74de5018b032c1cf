"""Hash of the weight files of a checkpoint, which identifies weights without a revision."""

import hashlib
from functools import lru_cache
from typing import Any

from smolvideo.errors import ModelError
from smolvideo.models.checkpoint import Checkpoint


def weights_hash(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 over names and bytes of the weight files, some seconds for the largest.

    Computed once per process while the files stay the same. Raises ModelError where they cannot be
    read.
    """
    try:
        files = sorted(checkpoint.folder.glob("*.safetensors"))
        found = [(file, file.stat()) for file in files]
        return _hash(
            tuple((file, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for file, one in found)
        )
    except OSError as error:
        raise ModelError(
            f"cannot read the weights of `{checkpoint.name}`: {error.strerror or error}"
        ) from error


@lru_cache(maxsize=8)
def _hash(files: tuple[tuple[Any, ...], ...]) -> str:
    total = hashlib.sha256()
    for file, *_ in files:
        total.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
