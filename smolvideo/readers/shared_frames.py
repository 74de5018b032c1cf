"""Memory that the decoding process writes frames into and the program reads them from.

On Linux a file in memory, elsewhere on POSIX a file without a name: both are handed on by their
descriptor and are gone with the last process that holds them, however it ends. On Windows a
mapping with a name, which behaves likewise. ``multiprocessing.shared_memory`` leaves its blocks
behind when a process is killed, or starts a further process against that.
"""

import contextlib
import mmap
import os
import secrets
import sys
import tempfile
from typing import Any

import numpy as np

from smolvideo.frames import Images

_WINDOWS = sys.platform == "win32"


class SharedFrameBuffer:
    """``slots`` places of ``slot_bytes`` each. The program reserves, both sides map."""

    def __init__(self, handle: int | str) -> None:
        self.handle = handle
        self.slots = 0
        self.slot_bytes = 0
        self._mapped: mmap.mmap | None = None

    @classmethod
    def create(cls) -> "SharedFrameBuffer":
        """Nothing reserved yet; ``handle`` is what the other process needs to map the same."""
        if _WINDOWS:
            return cls(f"smolvideo-{os.getpid()}-{secrets.token_hex(8)}")
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("smolvideo-frames"))
        with tempfile.TemporaryFile(prefix="smolvideo-") as file:
            return cls(os.dup(file.fileno()))

    def reserve(self, slots: int, slot_bytes: int) -> None:
        """Make room; what was there before is gone. Raises OSError or ValueError without memory."""
        self._unmap()
        if isinstance(self.handle, int):
            os.ftruncate(self.handle, 0)
            os.ftruncate(self.handle, slots * slot_bytes)
        self.map(slots, slot_bytes)

    def map(self, slots: int, slot_bytes: int) -> None:
        """See what the other side reserved."""
        self._unmap()
        self.slots, self.slot_bytes = slots, slot_bytes
        if _WINDOWS:
            self._mapped = _named(slots * slot_bytes, str(self.handle))
        else:
            assert isinstance(self.handle, int)
            self._mapped = mmap.mmap(self.handle, slots * slot_bytes)

    def write(self, slot: int, image: Images) -> None:
        self._view(slot, image.shape)[...] = image

    def read(self, slot: int, shape: tuple[int, ...]) -> Images:
        """A copy, so that the slot is free again. ValueError for what cannot lie in a slot."""
        return self._view(slot, shape).copy()

    def release(self) -> None:
        """Give the memory back; ``reserve`` begins anew."""
        self._unmap()
        self.slots = self.slot_bytes = 0
        if isinstance(self.handle, int):
            os.ftruncate(self.handle, 0)

    def close(self) -> None:
        self._unmap()
        if isinstance(self.handle, int) and self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def _view(self, slot: int, shape: tuple[int, ...]) -> Images:
        size = int(np.prod(shape, dtype=np.int64))
        fits = 0 <= slot < self.slots and 0 < size <= self.slot_bytes
        if not fits or self._mapped is None or len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"no frame of {shape} in slot {slot}")
        flat = np.frombuffer(self._mapped, np.uint8, size, slot * self.slot_bytes)
        return flat.reshape(shape)

    def _unmap(self) -> None:
        if self._mapped is not None:
            # A view that somebody still holds keeps its memory until it goes.
            with contextlib.suppress(BufferError):
                self._mapped.close()
            self._mapped = None


def _named(size: int, name: str) -> Any:
    return mmap.mmap(-1, size, tagname=f"{name}-{size}")  # type: ignore[call-arg,unused-ignore]
