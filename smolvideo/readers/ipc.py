"""Messages, heartbeats and shared memory for frames, between decoder subprocess and client.

In the decoder subprocess each beat is forwarded to the client, which kills a decoder without beats.

Messages are JSON and not pickle: a decoder that malicious bytes have taken over must not be able to
run code here.

Frames are in a memfd on Linux, an unlinked temporary file on other POSIX systems: both are passed
by descriptor and freed with the last process that holds them, however it ends. A named mapping on
Windows, which behaves likewise. ``multiprocessing.shared_memory`` leaks blocks when a process is
killed, or needs a resource-tracker process against that.
"""

import contextlib
import json
import mmap
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Pipe
from typing import Any

import numpy as np

from smolvideo.frames import Images

_tell: Callable[[], None] | None = None


def beat() -> None:
    """Report progress: a packet was read or a frame decoded. Cheap, and thread safe."""
    if _tell is not None:
        _tell()


def on_beat(tell: Callable[[], None]) -> None:
    """Register the callback for all beats of this process."""
    global _tell
    _tell = tell


_MAX_MESSAGE = 64 * 2**20
"""Maximum bytes of a message: the frame times of a week."""

Payload = dict[str, Any]


class Channel:
    """One end of the channel. ``send`` is thread safe; OSError or EOFError if the peer is gone."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Return two ends; the second is passed to a subprocess by its ``handle``."""
        ours, theirs = Pipe(duplex=True)
        return cls(ours), cls(theirs)

    @classmethod
    def of_handle(cls, handle: int) -> "Channel":
        """Open the end that was passed to this process."""
        return cls(_connection_type()(handle))

    @property
    def handle(self) -> int:
        return int(self._connection.fileno())

    def send(self, message: Payload) -> None:
        with self._sending:
            self._connection.send_bytes(json.dumps(message).encode())

    def poll(self, seconds: float) -> bool:
        """Return whether a message, or the end of the channel, arrives within ``seconds``."""
        return bool(self._connection.poll(seconds))

    def receive(self) -> Payload:
        """Return the next message. ValueError if it is no JSON object."""
        message = json.loads(self._connection.recv_bytes(_MAX_MESSAGE))
        if not isinstance(message, dict):
            raise ValueError("not a message")
        return message

    def close(self) -> None:
        self._connection.close()


def inheritable(handle: int) -> Any:
    """Return arguments of ``subprocess.Popen`` that make a child inherit only this handle."""
    if sys.platform == "win32":
        import subprocess

        os.set_handle_inheritable(handle, True)
        start = subprocess.STARTUPINFO()
        start.lpAttributeList = {"handle_list": [handle]}
        quiet = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        return {"startupinfo": start, "creationflags": quiet}
    # In a new session, Ctrl-C does not reach the subprocess; we end it ourselves.
    return {"pass_fds": (handle,), "start_new_session": True}


def _connection_type() -> Any:
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        return PipeConnection
    from multiprocessing.connection import Connection

    return Connection


_WINDOWS = sys.platform == "win32"


class SharedFrameBuffer:
    """``slots`` slots of ``slot_bytes`` each. The client reserves, both sides map."""

    def __init__(self, handle: int | str) -> None:
        self.handle = handle
        self.slots = 0
        self.slot_bytes = 0
        self._mapped: mmap.mmap | None = None

    @classmethod
    def create(cls) -> "SharedFrameBuffer":
        """Create an empty buffer; the other process maps it by its ``handle``."""
        if _WINDOWS:
            return cls(f"smolvideo-{os.getpid()}-{secrets.token_hex(8)}")
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("smolvideo-frames"))
        with tempfile.TemporaryFile(prefix="smolvideo-") as file:
            return cls(os.dup(file.fileno()))

    def reserve(self, slots: int, slot_bytes: int) -> None:
        """Resize the buffer, discarding its contents. Raises OSError or ValueError if memory is
        short."""
        self._unmap()
        if isinstance(self.handle, int):
            os.ftruncate(self.handle, 0)
            os.ftruncate(self.handle, slots * slot_bytes)
        self.map(slots, slot_bytes)

    def map(self, slots: int, slot_bytes: int) -> None:
        """Map a buffer with the size that the client reserved."""
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
        """Return a copy of a slot. ValueError if no frame of ``shape`` fits into it."""
        return self._view(slot, shape).copy()

    def release(self) -> None:
        """Free the memory; ``reserve`` can be called again."""
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
            # A view that is still referenced keeps the mapping until it is freed.
            with contextlib.suppress(BufferError):
                self._mapped.close()
            self._mapped = None


def _named(size: int, name: str) -> Any:
    return mmap.mmap(-1, size, tagname=f"{name}-{size}")  # type: ignore[call-arg,unused-ignore]
