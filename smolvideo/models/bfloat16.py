"""Copies of float32 checkpoints with weights rounded to bfloat16: half the size on disk.

A copy is written beside the original, read back, compared and only then given its name; an error,
an interrupt or a power cut leaves the original as it was. Rounding is to nearest, ties to even, as
torch rounds when it loads float32 weights for ``--dtype bfloat16``: with that dtype answers of both
are the same.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from smolvideo.errors import ModelError
from smolvideo.files import file_lock, make_folders, sync_file, write_atomic
from smolvideo.models.checkpoint import Checkpoint, read_checkpoint
from smolvideo.models.downloading import check_room
from smolvideo.models.json_files import Json, read_json
from smolvideo.models.local_cache import (
    CONVERSION_FILE,
    COPY_SUFFIX,
    find_copy,
    repository_folder,
)
from smolvideo.models.weights import WeightHeader, read_header
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.version import __version__

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 4 << 20
"""Weights that are rounded at once."""
_SMALL_FILES = ("*.json", "*.jinja")
_INFINITY = 0x7F800000
_HALF = 0x8000
"""Half the distance of two bfloat16 numbers, in bits of float32."""
_SHA256_DIGITS = 64


def has_float32(checkpoint: Checkpoint) -> bool:
    """Return whether a copy in bfloat16 would be smaller."""
    assert checkpoint.weights is not None
    headers = map(read_header, checkpoint.weights.files)
    return any(tensor["dtype"] == "F32" for header in headers for tensor in header.tensors.values())


def keep_bfloat16(
    original: Checkpoint, repo_id: str, *, on_progress: OnProgress = no_progress
) -> Path:
    """Write the bfloat16 copy of ``original``, a snapshot of ``repo_id`` with its weights, and
    return its folder; one that is there already is kept.

    Raises ModelError: no room, not writable, weights that are no numbers, or a copy that differs
    from what was to be written.
    """
    assert original.weights is not None
    assert original.revision is not None
    repository = repository_folder(repo_id, copy=True)
    sizes = sum(file.stat().st_size for file in original.weights.files)
    check_room(f"the bfloat16 copy of `{original.name}`", sizes // 2 + (8 << 20), repository)

    def wait_for_other() -> None:
        on_progress(Progress("convert", label="another process writes the copy"))

    try:
        make_folders(repository)
        with file_lock(repository / ".lock", on_contention=wait_for_other):
            there = find_copy(repo_id, f"{original.revision}{COPY_SUFFIX}")
            return there or _write_copy(original, repo_id, repository, on_progress)
    except OSError as error:
        raise ModelError(
            f"cannot write the bfloat16 copy of `{original.name}` to `{repository}`: "
            f"{error.strerror or error}",
            hint="the published files are as they were; make room, or check who may write there",
        ) from error


def _write_copy(
    original: Checkpoint, repo_id: str, repository: Path, on_progress: OnProgress
) -> Path:
    assert original.weights is not None
    assert original.revision is not None
    for left in repository.glob(".*.part"):  # of a process that was killed
        shutil.rmtree(left)
    folder = repository / f".{secrets.token_hex(8)}.part"
    work = _Conversion(original.weights.size_bytes, on_progress)
    try:
        folder.mkdir()
        for pattern in _SMALL_FILES:
            for file in original.folder.glob(pattern):
                shutil.copyfile(file, folder / file.name)
        files = {file.name: work.convert(file, folder / file.name) for file in _weights(original)}
        _rewrite_configuration(folder)
        work.compare(original, folder)
        record = {
            "repo_id": repo_id,
            "revision": original.revision,
            "dtype": "bfloat16",
            "tensors": work.tensors,
            "rounded": work.rounded,
            "files": files,
            "smolvideo": __version__,
        }
        write_atomic(folder / CONVERSION_FILE, json.dumps(record, indent=1) + "\n")
        target = repository / "snapshots" / original.revision
        make_folders(target.parent)
        if target.exists():  # incomplete, or it would have been found
            shutil.rmtree(target)
        folder.rename(target)
        make_folders(repository / "refs")
        write_atomic(repository / "refs" / "main", original.revision)
        return target
    finally:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def _weights(checkpoint: Checkpoint) -> tuple[Path, ...]:
    assert checkpoint.weights is not None
    return checkpoint.weights.files


@dataclass
class _Conversion:
    """One pass that rounds and one that compares, both counted in bytes of the original."""

    size_bytes: int
    on_progress: OnProgress
    tensors: int = 0
    rounded: int = 0
    _done: int = field(default=0, init=False)

    def convert(self, source: Path, target: Path) -> dict[str, Any]:
        """Round the tensors of ``source`` into ``target``; return size and SHA-256 of the source.

        Raises ModelError where its name in the hub's cache is another SHA-256.
        """
        header = read_header(source)
        tensors = _in_file_order(header)
        self.tensors += len(tensors)
        self.rounded += sum(tensor["dtype"] == "F32" for _, tensor in tensors)
        hashed = hashlib.sha256()
        with source.open("rb") as stream, target.open("xb") as copy:
            hashed.update(stream.read(header.data_start))
            copy.write(_copied_header(tensors))
            for name, tensor in tensors:
                for chunk in self._chunks(stream, tensor, 1):
                    hashed.update(chunk)
                    is_float32 = tensor["dtype"] == "F32"
                    copy.write(_rounded(chunk, name, source) if is_float32 else chunk)
            copy.flush()
            sync_file(copy.fileno())
        digest, stated = hashed.hexdigest(), source.resolve().name
        if len(stated) == _SHA256_DIGITS and stated != digest:
            raise ModelError(
                f"`{source}` is damaged: its SHA-256 is not the one that it was published with",
                hint="`smolvideo models rm` and `smolvideo models pull` fetch it again",
            )
        return {"bytes": source.stat().st_size, "sha256": digest}

    def compare(self, original: Checkpoint, folder: Path) -> None:
        """Read the copy in ``folder`` back; raise ModelError unless names, shapes and number of
        the tensors are those of ``original`` and every value is the nearest."""
        copied = read_checkpoint(folder, name=original.name)
        assert original.weights is not None
        assert copied.weights is not None
        names = [file.name for file in original.weights.files]
        if (
            names != [file.name for file in copied.weights.files]
            or original.weights.parameters != copied.weights.parameters
        ):
            raise _differs(folder, "other files, or another number of weights")
        for source, target in zip(original.weights.files, copied.weights.files, strict=True):
            self._compare_file(source, target)

    def _compare_file(self, source: Path, target: Path) -> None:
        before, after = read_header(source), read_header(target)
        if [_described(entry) for entry in _in_file_order(before)] != [
            _described(entry) for entry in _in_file_order(after)
        ]:
            raise _differs(target, "other names or shapes")
        pairs = zip(_in_file_order(before), _in_file_order(after), strict=True)
        with source.open("rb") as stream, target.open("rb") as copy:
            stream.seek(before.data_start)
            copy.seek(after.data_start)
            for (name, tensor), _ in pairs:
                for chunk in self._chunks(stream, tensor, 2):
                    is_float32 = tensor["dtype"] == "F32"
                    found = copy.read(len(chunk) // 2 if is_float32 else len(chunk))
                    if not (_is_nearest(chunk, found) if is_float32 else found == chunk):
                        raise _differs(target, f"`{name}`")

    def _chunks(self, stream: BinaryIO, tensor: Json, step: int) -> Iterator[bytes]:
        """Yield the bytes of a tensor, and report them as part of pass ``step`` of 2."""
        start, end = tensor["data_offsets"]
        left = end - start
        while left:
            chunk = stream.read(min(left, 4 * _CHUNK))
            if not chunk:
                raise ModelError("a weight file became shorter while it was read")
            left -= len(chunk)
            yield chunk
            self._done += len(chunk)
            words = "" if step == 1 else "comparing"
            done = min(self._done, 2 * self.size_bytes - 1)
            self.on_progress(Progress("convert", done, 2 * self.size_bytes, words))


def _in_file_order(header: WeightHeader) -> list[tuple[str, Json]]:
    return sorted(header.tensors.items(), key=lambda item: (item[1]["data_offsets"], item[0]))


def _described(entry: tuple[str, Json]) -> tuple[str, Any, str]:
    """Name, shape and dtype after rounding."""
    name, tensor = entry
    return name, tensor["shape"], "BF16" if tensor["dtype"] == "F32" else tensor["dtype"]


def _copied_header(tensors: list[tuple[str, Json]]) -> bytes:
    """The length and the header of a file with the same tensors in the same order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for entry in tensors:
        name, shape, dtype = _described(entry)
        start, end = entry[1]["data_offsets"]
        size = (end - start) // 2 if entry[1]["dtype"] == "F32" else end - start
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _rounded(chunk: bytes, name: str, file: Path) -> bytes:
    """Round float32 numbers to bfloat16, to nearest and ties to even."""
    import numpy as np

    bits: NDArray[np.uint32] = np.frombuffer(chunk, "<u4")
    if ((bits & 0x7FFFFFFF) > _INFINITY).any():
        raise ModelError(f"`{name}` in `{file}` holds values that are no numbers")
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + half) >> np.uint32(16)).astype("<u2").tobytes()


def _is_nearest(chunk: bytes, copy: bytes) -> bool:
    """Return whether every bfloat16 number of ``copy`` is the nearest to its float32 number, and
    the even one of two that are as near.

    In magnitude, the bits of floats are integers in the order of the numbers, and evenly spaced
    between two neighbours of bfloat16: distances of bits compare as those of numbers do.
    """
    import numpy as np

    if 2 * len(copy) != len(chunk):
        return False
    before = np.frombuffer(chunk, "<u4").astype(np.int64)
    after = np.frombuffer(copy, "<u2").astype(np.int64)
    distance = np.abs((before & 0x7FFFFFFF) - ((after & 0x7FFF) << 16))
    same_sign = (before >> 31) == (after >> 15)
    nearest = (distance < _HALF) | ((distance == _HALF) & (after % 2 == 0))
    return bool((same_sign & nearest).all())


def _rewrite_configuration(folder: Path) -> None:
    """State the dtype of the copy where the original states its own, and the size of shards."""
    config = read_json(folder / "config.json")
    for section in (config, config.get("text_config"), config.get("vision_config")):
        for key in ("dtype", "torch_dtype"):
            if isinstance(section, dict) and section.get(key) == "float32":
                section[key] = "bfloat16"
    if not {"dtype", "torch_dtype"} & {*config}:
        config["torch_dtype"] = "bfloat16"
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        content = read_json(index)
        size = sum(os.path.getsize(file) for file in folder.glob("*.safetensors"))
        content["metadata"] = {"total_size": size}
        write_atomic(index, json.dumps(content, indent=2) + "\n")


def _differs(place: Path, what: str) -> ModelError:
    return ModelError(
        f"the bfloat16 copy differs from what was to be written: {what} (`{place}`)",
        hint="the disk or the memory may be at fault; the published files are as they were",
    )
