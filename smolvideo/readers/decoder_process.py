"""The program's side of the decoding process: start it, ask it, end it.

A process that did its work in order is kept for the next file: starting one costs a fifth of a
second. One that did not is killed.
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
from smolvideo.readers.channel import Channel, Payload, inheritable
from smolvideo.readers.registry import PROBED_BY_PYAV
from smolvideo.readers.shared_frames import SharedFrameBuffer

_POLL_SECONDS = 0.25
_MAX_IDLE = 2
_DEFAULT_DECODER = "pyav"
_GB = 2**30


@dataclass(frozen=True)
class DecoderLimits:
    """What decoding one file may take.

    ``stall_timeout_seconds`` without any packet read or frame decoded are a hang;
    ``response_timeout_seconds`` are the most for one frame, or for opening the file;
    ``memory_bytes`` are for the whole process.
    """

    stall_timeout_seconds: float = 30.0
    response_timeout_seconds: float = 600.0
    memory_bytes: int = 4 * _GB


DEFAULT_LIMITS = DecoderLimits()


class DecoderCrashedError(NotAVideoError):
    """The decoding process crashed, hung or grew too large: no other reader is tried."""


class DecoderProcess:
    """One process, and the memory shared with it. Not thread safe."""

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
        """Whether the answer to a request has not come to its end."""
        return self._busy

    def is_alive(self) -> bool:
        """Whether it waits for work: running, and nothing left unsaid."""
        return not self._busy and self._process.poll() is None and not self._channel.poll(0)

    def send_request(self, do: str, name: str, **what: Any) -> int:
        """Ask something; the number is what its answers are told by. Raises as ``receive``."""
        self._asked += 1
        self._busy = True
        self._send({"do": do, "id": self._asked, **what}, name)
        return self._asked

    def release_slot(self, slot: int, name: str) -> None:
        self._send({"do": "free", "slot": slot}, name)

    def receive(self, number: int, name: str) -> Payload:
        """The next answer to request ``number`` about the file ``name``.

        Raises DecoderLostError if the process crashes, hangs or grows too large; what it says went
        wrong is raised as the ReaderError or UsageError that it was.
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
        """The last answer to the last request has come."""
        self._busy = False

    def request(self, do: str, name: str, **what: Any) -> Payload:
        """Ask something that has one answer."""
        answer = self.receive(self.send_request(do, name, **what), name)
        self.mark_idle()
        return answer

    def kill(self) -> None:
        """End it whatever it does. May be called twice."""
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
            return  # it has ended, as the next look will find
        if used > self.limits.memory_bytes:
            self.kill()
            raise _too_large(name, self.limits)

    def _lost(self, name: str) -> DecoderCrashedError:
        """What became of a process that no longer speaks."""
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
        if "SIGKILL" in how:  # not by us: this is what Linux does where memory runs out
            hint = f"the machine may have run out of memory, or {hint}"
        return DecoderCrashedError(f"decoding `{name}` crashed the decoder{how}", hint=hint)


def _start(
    theirs: Channel, slots: SharedFrameBuffer, limits: DecoderLimits
) -> "subprocess.Popen[bytes]":
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        # What hostile bytes may take over finds no token and no password there.
        **without_secrets(os.environ),
        "PYTHONPATH": os.pathsep.join(paths),
        # Neither is needed there, and both reserve memory for every core.
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "4",
    }
    handed: Any = inheritable(theirs.handle)
    if isinstance(slots.handle, int):
        handed["pass_fds"] += (slots.handle,)
    # -P: a file `av.py` in the folder of the videos is not to be run.
    command = [sys.executable, "-P", "-m", "smolvideo.readers.decoder_worker"]
    numbers = [theirs.handle, slots.handle, limits.memory_bytes, limits.stall_timeout_seconds]
    # Decoders write to stderr what they think of a file; that is for those who debug.
    silent = None if os.environ.get("SMOLVIDEO_DEBUG") else subprocess.DEVNULL
    return subprocess.Popen(
        [*command, *map(str, numbers)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=silent,
        env=environment,
        **handed,
    )


def _error_of(told: Any, name: str) -> SmolVideoError:
    kinds: dict[str, type[SmolVideoError]] = {
        "UsageError": UsageError,
        "NotAVideoError": NotAVideoError,
    }
    message, hint = str(told.get("message")), told.get("hint")
    if name not in message:
        message = f"cannot read `{name}`: {message}"
    return kinds.get(told.get("kind"), ReaderError)(message, hint=hint)


def _too_large(name: str, limits: DecoderLimits) -> DecoderCrashedError:
    return DecoderCrashedError(
        f"decoding `{name}` takes more than {limits.memory_bytes / _GB:.1f} GB of memory"
    )


# ---------------------------------------------------------------------- those that wait

_idle: list[DecoderProcess] = []
_lock = threading.Lock()


def acquire_process(limits: DecoderLimits, reader: str) -> DecoderProcess:
    """A process that waits for work, or a new one.

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
    """Keep a process for the next file, if it did its work in order; else end it."""
    if process.is_alive():
        process.slots.release()
        with _lock:
            if len(_idle) < _MAX_IDLE:
                _idle.append(process)
                return
    process.kill()


def prestart_process() -> None:
    """Start a process that the first file will find ready, while something else is done."""
    with _lock:
        if not _idle:
            _idle.append(DecoderProcess(DEFAULT_LIMITS, _DEFAULT_DECODER))


def close_idle_processes() -> None:
    """End those that wait."""
    with _lock:
        while _idle:
            _idle.pop().kill()


def _forget_after_fork() -> None:
    """They belong to the process that started them."""
    global _lock
    _lock = threading.Lock()
    for process in _idle:
        process._process.returncode = 0
    _idle.clear()


atexit.register(close_idle_processes)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
