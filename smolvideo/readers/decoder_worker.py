"""Decoder subprocess: the only place where untrusted bytes are opened and decoded.

``python -m smolvideo.readers.decoder_worker HANDLE SLOTS MEMORY SILENCE`` serves one file after
another to the process that started it (``decoder_process.py``), until that process ends or sends no
request for ``_IDLE_SECONDS``. It has no access to models, questions or the network.
"""

import contextlib
import ctypes
import faulthandler
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smolvideo.errors import ReaderError, SmolVideoError
from smolvideo.frames import Frame
from smolvideo.readers.base import Probe, VideoReader
from smolvideo.readers.ipc import Channel, Payload, SharedFrameBuffer, on_beat
from smolvideo.readers.registry import open_in_process

_IDLE_SECONDS = 30.0
"""Seconds without an open file after which the process ends; the next file gets a new one."""
_BEAT_SECONDS = 0.5
_WORTH_GIVING_BACK = 16 * 2**20
"""Growth in bytes that is worth a ``malloc_trim``: the frames of a few small videos."""


class DecoderServer:
    """Serves requests about the file that is currently open."""

    def __init__(self, channel: Channel, slots: SharedFrameBuffer, silent_seconds: float) -> None:
        self._channel = channel
        self._slots = slots
        self._silent_seconds = silent_seconds
        self._reader: VideoReader | None = None
        self._waiting: Payload | None = None
        self._last_beat = 0.0
        self._memory = _FreedMemory()

    def serve(self) -> None:
        """Serve until the client closes the channel; then raises OSError or EOFError."""
        on_beat(self._beat)
        while (request := self._next_request()) is not None:
            self._watch()
            try:
                self._answer(request)
            except (EOFError, BrokenPipeError, ConnectionError):
                raise
            except SmolVideoError as error:
                self._reply_error(request, error)
            except MemoryError:
                self._reply_error(request, ReaderError("it takes more memory than is allowed"))
            except Exception as error:  # reported to the client, which raises it
                words = f"{type(error).__name__}: {error}"
                self._reply_error(request, ReaderError(f"the decoder failed ({words})"))
            faulthandler.cancel_dump_traceback_later()

    def _answer(self, request: Payload) -> None:
        match request["do"]:
            case "open":
                self._open(request)
            case "frames":
                self._send_frames(request)
            case "frame_times":
                self._reply(request, times=self._opened().frame_times())
            case "key_frame_times":
                self._reply(request, times=self._opened().key_frame_times())
            case "probe":
                found = self._opened().probe()
                self._reply(request, probe=None if found is None else asdict(found))
            case "text_track":
                self._reply(request, texts=[asdict(text) for text in self._opened().text_track()])
            case "close":
                self._close()
                self._reply(request)
                self._memory.give_back()  # after the reply, so that the client does not wait for it
            case "stop":  # requests are sequential: all earlier responses are sent
                self._reply(request)

    def _open(self, request: Payload) -> None:
        self._close()
        known = request["probe"]
        probe = None if known is None else Probe(**known)
        self._reader = open_in_process(Path(request["path"]), request["reader"], probe)
        self._reply(request, metadata=asdict(self._reader.metadata))

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _opened(self) -> VideoReader:
        if self._reader is None:
            raise ReaderError("no file is open")
        return self._reader

    # ------------------------------------------------------------------ frames

    def _send_frames(self, request: Payload) -> None:
        """Send one message per frame; decoding continues while a slot of the buffer is free."""
        self._slots.map(request["slots"], request["slot_bytes"])
        free = list(range(request["slots"]))
        frames = self._opened().frames_at(
            request["seconds"], max_side=request["longest"], keyframes=request["keyframes"]
        )
        last: Frame | None = None
        with contextlib.closing(_generator(frames)) as decoded:
            for frame in decoded:
                if frame is last:
                    self._reply(request, same=True)
                    continue
                last = frame
                if not self._wait_for_free_slot(free):
                    return
                slot = free.pop()
                self._slots.write(slot, frame.image)
                self._reply(
                    request,
                    slot=slot,
                    shape=frame.image.shape,
                    pts=frame.pts_seconds,
                    damage=frame.damage,
                )
        self._reply(request, done=True)

    def _wait_for_free_slot(self, free: list[int]) -> bool:
        """Wait until a slot is free; False if the client sends another request instead."""
        while self._waiting is None and (not free or self._channel.poll(0)):
            if not free:
                faulthandler.cancel_dump_traceback_later()  # waiting for the client is no hang
            message = self._channel.receive()
            if message["do"] == "free":
                free.append(message["slot"])
            else:
                self._waiting = message
        self._watch()
        return self._waiting is None

    # ------------------------------------------------------------------ messages

    def _next_request(self) -> Payload | None:
        while True:
            if self._waiting is not None:
                request, self._waiting = self._waiting, None
            elif self._channel.poll(_IDLE_SECONDS):
                request = self._channel.receive()
            elif self._reader is None:
                return None
            else:
                continue
            if request["do"] != "free":
                return request

    def _reply(self, request: Payload, **answer: Any) -> None:
        self._channel.send({"id": request["id"], **answer})

    def _reply_error(self, request: Payload, error: SmolVideoError) -> None:
        payload = {"kind": type(error).__name__, "message": str(error), "hint": error.hint}
        self._reply(request, error=payload)

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat > _BEAT_SECONDS:
            self._last_beat = now
            self._channel.send({"id": 0})
            self._watch()

    def _watch(self) -> None:
        """Restart the watchdog, which ends a hanging process if the client no longer can.

        faulthandler's timer is a C thread and needs no GIL, which a hanging decoder may hold.
        """
        limit = 2 * self._silent_seconds
        faulthandler.dump_traceback_later(limit, exit=True, file=_nowhere())


def _generator(frames: Iterator[Frame]) -> Any:
    """Return ``frames`` as a generator, which has ``close``."""
    return frames if hasattr(frames, "close") else (frame for frame in frames)


_null: Any = None


def _nowhere() -> Any:
    global _null
    if _null is None:
        _null = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- for the process's life
    return _null


class _FreedMemory:
    """Returns freed memory to the system after a file is closed (``malloc_trim``).

    glibc keeps freed memory in arenas, one per thread, which would grow over a folder of videos.
    Other C libraries have no such function and do not need it. Trimming takes as long as opening a
    small file, and is skipped until it is worth it.
    """

    def __init__(self) -> None:
        self._left = _resident_bytes()

    def give_back(self) -> None:
        """Trim if the process has grown by ``_WORTH_GIVING_BACK`` bytes since the last trim."""
        resident = _resident_bytes()
        if resident is None or self._left is None:
            self._trim()
        elif resident - self._left > _WORTH_GIVING_BACK:
            self._trim()
            self._left = _resident_bytes()

    def _trim(self) -> None:
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int | None:
    """Return the resident memory of this process; None on systems without ``/proc``."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return None


def _limit_memory(limit: int) -> None:
    """Set RLIMIT_AS, so that a decompression bomb gets a MemoryError instead of the machine's
    memory. There is none on Windows, and macOS ignores it; there the client polls memory use."""
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: list[str]) -> None:
    handle, slots, memory_bytes, silent_seconds = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(int(memory_bytes))
    channel = Channel.of_handle(int(handle))
    shared = SharedFrameBuffer(int(slots) if slots.isdecimal() else slots)
    with contextlib.suppress(EOFError, OSError):  # the client has closed the channel
        DecoderServer(channel, shared, float(silent_seconds)).serve()
    # Exit without cleanup: one of the decoder's threads may hang.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
