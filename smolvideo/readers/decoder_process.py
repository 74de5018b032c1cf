"""Client side of the decoder subprocess: start, request, response, limits, and a pool of idle ones.

A process whose requests all completed is kept in the pool for the next file, as starting one takes
a fifth of a second. Any other is killed.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolvideo.credentials import without_secrets
from smolvideo.errors import ReaderError, SmolVideoError, UsageError
from smolvideo.readers.base import NotAVideoError
from smolvideo.readers.ipc import Channel, Payload, SharedFrameBuffer, inheritable
from smolvideo.readers.registry import PROBED_BY_PYAV

_POLL_SECONDS = 0.25
_MAX_IDLE = 2
_DEFAULT_DECODER = "pyav"
_GB = 2**30


@dataclass(frozen=True)
class DecoderLimits:
    """Time and memory limits for decoding one file.

    ``stall_timeout_seconds``: no packet read and no frame decoded for so long is a hang.
    ``response_timeout_seconds``: maximum for one frame, or for opening the file.
    ``memory_bytes``: maximum resident memory of the process.
    """

    stall_timeout_seconds: float = 30.0
    response_timeout_seconds: float = 600.0
    memory_bytes: int = 4 * _GB


DEFAULT_LIMITS = DecoderLimits()


class DecoderCrashedError(NotAVideoError):
    """The decoder subprocess crashed, hung or exceeded its memory; no other reader is tried."""


class DecoderProcess:
    """A decoder subprocess and its shared frame buffer. Not thread safe."""

    def __init__(self, limits: DecoderLimits, decoder: str) -> None:
        self.limits = limits
        self.decoder = decoder
        self.slots = SharedFrameBuffer.create()
        self._channel, theirs = Channel.pair()
        self._asked = 0
        self._busy = False
        try:
            self._process = _start(theirs, self.slots, limits)
        except OSError as error:
            self._channel.close()
            self.slots.close()
            raise ReaderError(f"cannot start a process to decode in: {error}") from error
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_busy(self) -> bool:
        """Whether the last request has responses outstanding."""
        return self._busy

    def is_alive(self) -> bool:
        """Whether the process is idle: running, with no response outstanding or unread."""
        return not self._busy and self._process.poll() is None and not self._channel.poll(0)

    def send_request(self, do: str, name: str, **what: Any) -> int:
        """Send a request and return its id, for ``receive``. Raises as ``receive``."""
        self._asked += 1
        self._busy = True
        self._send({"do": do, "id": self._asked, **what}, name)
        return self._asked

    def release_slot(self, slot: int, name: str) -> None:
        self._send({"do": "free", "slot": slot}, name)

    def receive(self, number: int, name: str) -> Payload:
        """Return the next response to request ``number`` about the file ``name``.

        Raises DecoderCrashedError if the process crashes, hangs or exceeds its memory. An error
        that the process reports is raised as the ReaderError or UsageError that it was.
        """
        started = last = time.monotonic()
        while True:
            while not self._waits(name):
                now = time.monotonic()
                self._check_time(now - last, now - started, name)
                self._check_memory(name)
            try:
                message = self._channel.receive()
            except (EOFError, OSError, ValueError) as error:
                raise self._lost(name) from error
            last = time.monotonic()
            if message.get("id") != number:
                self._check_time(0.0, last - started, name)
                continue
            if "error" in message:
                self._busy = False
                raise _error_of(message["error"], name)
            return message

    def mark_idle(self) -> None:
        """Mark the last request as completed."""
        self._busy = False

    def request(self, do: str, name: str, **what: Any) -> Payload:
        """Send a request that has exactly one response, and return it."""
        answer = self.receive(self.send_request(do, name, **what), name)
        self.mark_idle()
        return answer

    def kill(self) -> None:
        """Kill the process. Idempotent."""
        self._busy = True
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        self._channel.close()
        self.slots.close()

    # ------------------------------------------------------------------ limits

    def _waits(self, name: str) -> bool:
        try:
            return self._channel.poll(_POLL_SECONDS)
        except OSError as error:
            raise self._lost(name) from error

    def _send(self, message: Payload, name: str) -> None:
        try:
            self._channel.send(message)
        except OSError as error:
            raise self._lost(name) from error

    def _check_time(self, silent: float, waited: float, name: str) -> None:
        if silent > self.limits.stall_timeout_seconds:
            self.kill()
            raise DecoderCrashedError(
                f"decoding `{name}` stood still for {silent:.0f} s and was given up",
                hint="the file is damaged, or another `--reader` may manage",
            )
        if waited > self.limits.response_timeout_seconds:
            self.kill()
            raise DecoderCrashedError(f"no frame of `{name}` after {waited:.0f} s of decoding")

    def _check_memory(self, name: str) -> None:
        import psutil

        try:
            used = psutil.Process(self.pid).memory_info().rss
        except psutil.Error:
            return  # the process has ended, which the next poll reports
        if used > self.limits.memory_bytes:
            self.kill()
            raise _too_large(name, self.limits)

    def _lost(self, name: str) -> DecoderCrashedError:
        """Return the error for a process whose channel is closed, by its exit code."""
        self._busy = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.poll()
        self.kill()
        how = ""
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f" ({signal.Signals(-code).name})"
        hint = "the file is damaged, or another `--reader` may manage"
        if "SIGKILL" in how:  # not sent by us: Linux's out-of-memory killer
            hint = f"the machine may have run out of memory, or {hint}"
        return DecoderCrashedError(f"decoding `{name}` crashed the decoder{how}", hint=hint)


def _start(
    theirs: Channel, slots: SharedFrameBuffer, limits: DecoderLimits
) -> "subprocess.Popen[bytes]":
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        # Malicious video bytes that take over the decoder find no tokens or passwords.
        **without_secrets(os.environ),
        "PYTHONPATH": os.pathsep.join(paths),
        # Neither is needed, and both reserve memory per core.
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "4",
    }
    handed: Any = inheritable(theirs.handle)
    if isinstance(slots.handle, int):
        handed["pass_fds"] += (slots.handle,)
    # -P: do not import `av.py` from the current folder, which may be that of the videos.
    command = [sys.executable, "-P", "-m", "smolvideo.readers.decoder_worker"]
    numbers = [theirs.handle, slots.handle, limits.memory_bytes, limits.stall_timeout_seconds]
    # Decoders write warnings about the file to stderr, which only help debugging.
    silent = None if os.environ.get("SMOLVIDEO_DEBUG") else subprocess.DEVNULL
    return subprocess.Popen(
        [*command, *map(str, numbers)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=silent,
        env=environment,
        **handed,
    )


def _error_of(payload: Any, name: str) -> SmolVideoError:
    kinds: dict[str, type[SmolVideoError]] = {
        "UsageError": UsageError,
        "NotAVideoError": NotAVideoError,
    }
    message, hint = str(payload.get("message")), payload.get("hint")
    if name not in message:
        message = f"cannot read `{name}`: {message}"
    return kinds.get(payload.get("kind"), ReaderError)(message, hint=hint)


def _too_large(name: str, limits: DecoderLimits) -> DecoderCrashedError:
    return DecoderCrashedError(
        f"decoding `{name}` takes more than {limits.memory_bytes / _GB:.1f} GB of memory"
    )


# ---------------------------------------------------------------------- pool of idle processes

_idle: list[DecoderProcess] = []
_lock = threading.Lock()


def acquire_process(limits: DecoderLimits, reader: str) -> DecoderProcess:
    """Take an idle process from the pool, or start one.

    A process loads one decoder: OpenCV, decord and PyAV each bring an FFmpeg of their own, and more
    than one of them in a process has hung.
    """
    decoder = reader if reader in PROBED_BY_PYAV else _DEFAULT_DECODER
    with _lock:
        fitting = [
            process for process in _idle if (process.limits, process.decoder) == (limits, decoder)
        ]
        for process in fitting:
            _idle.remove(process)
            if process.is_alive():
                return process
            process.kill()
    return DecoderProcess(limits, decoder)


def release_process(process: DecoderProcess) -> None:
    """Return a process to the pool if it is idle and the pool is not full; otherwise kill it."""
    if process.is_alive():
        process.slots.release()
        with _lock:
            if len(_idle) < _MAX_IDLE:
                _idle.append(process)
                return
    process.kill()


def prestart_process() -> None:
    """Start a process for the first file, so that it starts up while other work is done."""
    with _lock:
        if not _idle:
            _idle.append(DecoderProcess(DEFAULT_LIMITS, _DEFAULT_DECODER))


def close_idle_processes() -> None:
    """Kill the processes in the pool."""
    with _lock:
        while _idle:
            _idle.pop().kill()


def _forget_after_fork() -> None:
    """Empty the pool in a forked child: the processes belong to its parent."""
    global _lock
    _lock = threading.Lock()
    for process in _idle:
        process._process.returncode = 0
    _idle.clear()


atexit.register(close_idle_processes)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
