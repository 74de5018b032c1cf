"""Decoded frames of the last requests, so that a further question about a video decodes nothing.

Keyed by the bytes of the media and how they are sampled, never by a name or an address.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from smolvideo.frames import FrameBatch
from smolvideo.pipeline import DecodedTurns


@dataclass(frozen=True)
class StoredFrames:
    """Decoded media, and the digest of the pixels of each."""

    decoded: DecodedTurns
    digests: tuple[str, ...]

    @classmethod
    def of(cls, decoded: DecodedTurns) -> "StoredFrames":
        """Hash the pixels of ``decoded``."""
        return cls(decoded, tuple(map(_digest, decoded.batches)))

    @property
    def num_bytes(self) -> int:
        """Memory of the frames."""
        return sum(batch.images.nbytes for batch in self.decoded.batches)


class FrameStore:
    """An LRU of decoded frames within ``max_bytes``. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, StoredFrames] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Memory of all frames in the store."""
        return self._bytes

    def get(self, key: Hashable) -> StoredFrames | None:
        """Return the frames of ``key``, which become the most recently used."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: Hashable, frames: StoredFrames) -> None:
        """Store ``frames``; the least recently used go where memory is short."""
        with self._lock:
            replaced = self._entries.pop(key, None)
            self._bytes -= replaced.num_bytes if replaced is not None else 0
            if frames.num_bytes > self._max_bytes:
                return
            self._entries[key] = frames
            self._bytes += frames.num_bytes
            while self._bytes > self._max_bytes:
                _, oldest = self._entries.popitem(last=False)
                self._bytes -= oldest.num_bytes


def _digest(batch: FrameBatch) -> str:
    hashed = hashlib.blake2b(repr((batch.images.shape, batch.metadata.kind)).encode())
    hashed.update(batch.images.data)
    return hashed.hexdigest()
